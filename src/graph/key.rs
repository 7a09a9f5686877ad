//! What decides a node's result. One function lists it; its canonical JSON is hashed to the key, kept in the record,
//! and compared by `explain`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Graph, Input, Node, Source};
use crate::digest::Digest;
use crate::error::Result;
use crate::identity;
use crate::store::{CanonicalJson, Record};

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
pub fn recipe(node: &Node, content: &dyn Fn(&Input) -> Result<Content>) -> Result<CanonicalJson> {
    let mut inputs = Map::new();
    for input in node.inputs.iter().filter(|input| input.keyed) {
        let Content { digest, key } = content(input)?;
        let digest = Value::String(digest.to_string());
        if input.many {
            let list = inputs.entry(&input.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                let mut one = json!({ "coordinates": *input.coordinates, "digest": digest });
                if let Some(key) = key.filter(|_| node.work.kind().names_origins) {
                    one["key"] = Value::String(key.to_string());
                }
                list.push(one);
            }
        } else {
            inputs.insert(input.name.clone(), digest);
        }
    }
    let kind = node.work.kind();
    let mut recipe = json!({
        "kind": kind.name,
        "version": kind.version,
        "parameters": node.work.parameters(),
        "inputs": inputs,
    });
    if node.work.uses_libtorch() {
        recipe["libtorch"] = identity::LIBTORCH.into();
    }
    Ok(CanonicalJson::from(&recipe))
}

impl Graph {
    /// What the graph asks for, whatever its inputs hold: names, kinds and parameters of its nodes. Whoever runs the same
    /// pipeline has the same.
    pub fn digest(&self) -> Digest {
        let node =
            |node: &Node| json!([node.name, node.work.kind().name, node.work.kind().version, node.work.parameters()]);
        let nodes: Vec<Value> = self.order().iter().map(|&index| node(self.node(index))).collect();
        CanonicalJson::from(&Value::Array(nodes)).digest()
    }
}

/// The digest that a recipe holds for an input.
pub(super) fn digest_in<'m>(recipe: &'m Value, input: &Input) -> Option<&'m str> {
    let entry = &recipe["inputs"][&input.name];
    if !input.many {
        return entry.as_str();
    }
    let coordinates = serde_json::to_value(&*input.coordinates).ok()?;
    entry.as_array()?.iter().find(|one| one["coordinates"] == coordinates)?["digest"].as_str()
}

impl Node {
    /// What the node read from outside the graph when it left `record`: input, place, digest.
    pub fn read_from_outside(&self, record: &Record) -> Vec<(&str, &Path, String)> {
        let recipe = record.recipe.value();
        let outside = self.inputs.iter().filter_map(|input| match &input.source {
            Source::File(path) | Source::Folder(path, _) => {
                Some((input.name.as_str(), path.as_path(), digest_in(&recipe, input)?.to_owned()))
            }
            Source::Output(..) | Source::Absent(_) => None,
        });
        outside.collect()
    }
}
