//! What decides a node's result. One function lists it; its canonical JSON is hashed to the key, kept in the record,
//! and compared by `explain`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Input, Node, Source};
use crate::coordinates::Coordinates;
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
    let kind = node.work.kind();
    let mut inputs = BTreeMap::new();
    for input in node.inputs.iter().filter(|input| input.keyed) {
        let Content { digest, key } = content(input)?;
        if input.many {
            let one = One { coordinates: &input.coordinates, digest, key: key.filter(|_| kind.names_origins) };
            match inputs.entry(input.name.as_str()).or_insert_with(|| Brought::Many(Vec::new())) {
                Brought::Many(list) => list.push(one),
                Brought::One(_) => {}
            }
        } else {
            inputs.insert(&input.name, Brought::One(digest));
        }
    }
    let libtorch = node.work.needs_device().then_some(identity::LIBTORCH);
    let parameters = node.work.parameters();
    Ok(CanonicalJson::of_sorted(&Recipe { inputs, kind: kind.name, libtorch, parameters, version: kind.version }))
}

/// What a recipe says, with its keys in order.
#[derive(Serialize)]
struct Recipe<'a> {
    inputs: BTreeMap<&'a str, Brought<'a>>,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    libtorch: Option<&'a str>,
    parameters: Value,
    version: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Brought<'a> {
    One(Digest),
    Many(Vec<One<'a>>),
}

/// One of several inputs of a name, with its keys in order.
#[derive(Serialize)]
struct One<'a> {
    coordinates: &'a Coordinates,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Digest>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The same text as that of a value, in which all keys are sorted, whatever is added to the structs.
    #[test]
    fn the_keys_of_a_recipe_are_in_order() {
        let coordinates: Coordinates = serde_json::from_str(r#"{"seed": 1, "b": 0.5, "a": "x\"y"}"#).unwrap();
        let one = |key| One { coordinates: &coordinates, digest: Digest::of(b"1"), key };
        let many = Brought::Many(vec![one(None), one(Some(Digest::of(b"2")))]);
        let recipe = Recipe {
            inputs: BTreeMap::from([("z", many), ("a/b.c", Brought::One(Digest::of(b"3")))]),
            kind: "train",
            libtorch: Some("2"),
            parameters: serde_json::json!({"rate": 0.0035, "name": "ä", "list": [1, {"b": null, "a": true}]}),
            version: 3,
        };
        let text = CanonicalJson::of_sorted(&recipe).to_string();
        assert_eq!(text, CanonicalJson::from(&serde_json::from_str(&text).unwrap()).to_string());
        assert!(text.contains(r#""seed":1"#) && text.contains("0.0035"), "{text}");
    }
}
