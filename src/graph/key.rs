//! What decides a node's result. One function lists it; its canonical JSON is hashed to the key, kept in the record,
//! and compared by `explain`.

use serde_json::{Map, Value, json};

use super::{Input, Node};
use crate::error::Result;
use crate::store::{CanonicalJson, Digest};

/// Everything that decides the node's result: kind, version, parameters, and the digest of each keyed input. Its own
/// digest is the node's key.
pub fn manifest(node: &Node, digest: &dyn Fn(&Input) -> Result<Digest>) -> Result<CanonicalJson> {
    let mut inputs = Map::new();
    for input in node.inputs.iter().filter(|input| input.keyed) {
        let digest = Value::String(digest(input)?.to_string());
        if input.many {
            let list = inputs.entry(&input.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(json!({ "coordinates": *input.coordinates, "digest": digest }));
            }
        } else {
            inputs.insert(input.name.clone(), digest);
        }
    }
    let mut manifest = serde_json::to_value(&node.stage).expect("parameters are plain data");
    manifest["version"] = node.stage.version().into();
    manifest["inputs"] = Value::Object(inputs);
    Ok(CanonicalJson::from(&manifest))
}
