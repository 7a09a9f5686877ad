//! What decides a node's result. One function lists it; its canonical JSON is hashed to the key, kept in the record,
//! and compared by `explain`.

use serde_json::{Map, Value, json};

use super::{Input, Node};
use crate::digest::Digest;
use crate::error::Result;
use crate::identity;
use crate::store::CanonicalJson;

/// What an input brings into a key.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Of its bytes.
    pub digest: Digest,
    /// The key of the node that made it, if a node did.
    pub key: Option<Digest>,
}

/// Everything that decides the node's result: kind, version, parameters, and the digest of each keyed input; the version of
/// libtorch, where it computes; also the keys of the nodes that it collects, where the result names them. Its own digest is the
/// node's key.
pub fn manifest(node: &Node, content: &dyn Fn(&Input) -> Result<Content>) -> Result<CanonicalJson> {
    let mut inputs = Map::new();
    for input in node.inputs.iter().filter(|input| input.keyed) {
        let Content { digest, key } = content(input)?;
        let digest = Value::String(digest.to_string());
        if input.many {
            let list = inputs.entry(&input.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                let mut one = json!({ "coordinates": *input.coordinates, "digest": digest });
                if let Some(key) = key.filter(|_| node.stage.names_origins()) {
                    one["key"] = Value::String(key.to_string());
                }
                list.push(one);
            }
        } else {
            inputs.insert(input.name.clone(), digest);
        }
    }
    let mut manifest = serde_json::to_value(&node.stage).expect("parameters are plain data");
    manifest["version"] = node.stage.version().into();
    if node.stage.needs_device() {
        manifest["libtorch"] = identity::LIBTORCH.into();
    }
    manifest["inputs"] = Value::Object(inputs);
    Ok(CanonicalJson::from(&manifest))
}

/// The digest that a manifest holds for an input.
pub(super) fn digest_in<'m>(manifest: &'m Value, input: &Input) -> Option<&'m str> {
    let entry = &manifest["inputs"][&input.name];
    if !input.many {
        return entry.as_str();
    }
    let coordinates = serde_json::to_value(&*input.coordinates).ok()?;
    entry.as_array()?.iter().find(|one| one["coordinates"] == coordinates)?["digest"].as_str()
}
