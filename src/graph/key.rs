//! What decides a node's result. One function lists it; its canonical JSON is hashed to the key, kept in the record,
//! and compared by `explain`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Graph, Input, Node, Source};
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
    // Those of one name keep their order. Ten thousands that are almost in order are sorted faster than put in one by one.
    let mut keyed: Vec<&Input> = node.inputs.iter().filter(|input| input.keyed).collect();
    keyed.sort_by(|one, other| one.name.cmp(&other.name));
    let mut inputs: Vec<(&str, Inputs<'_>)> = Vec::with_capacity(keyed.len());
    for input in keyed {
        let Content { digest, key } = content(input)?;
        if !input.many {
            inputs.push((&input.name, Inputs::One(digest)));
            continue;
        }
        let one = One { coordinates: &input.coordinates, digest, key: key.filter(|_| kind.names_origins) };
        match inputs.last_mut() {
            Some((name, Inputs::Many(list))) if *name == input.name => list.push(one),
            _ => inputs.push((&input.name, Inputs::Many(vec![one]))),
        }
    }
    Ok(CanonicalJson::of_sorted(&Recipe {
        inputs: BTreeMap::from_iter(inputs),
        kind: kind.name,
        libtorch: node.work.uses_libtorch().then_some(identity::LIBTORCH),
        parameters: &node.parameters,
        version: kind.version,
    }))
}

/// What [`recipe`] writes. Keys stand in their order, as they do in [`CanonicalJson`].
#[derive(Serialize)]
struct Recipe<'a> {
    inputs: BTreeMap<&'a str, Inputs<'a>>,
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    libtorch: Option<&'a str>,
    parameters: &'a CanonicalJson,
    version: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Inputs<'a> {
    One(Digest),
    Many(Vec<One<'a>>),
}

#[derive(Serialize)]
struct One<'a> {
    coordinates: &'a Coordinates,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Digest>,
}

impl Graph {
    /// What the graph asks for, whatever its inputs hold: names, kinds and parameters of its nodes. Whoever runs the same
    /// pipeline has the same.
    pub fn digest(&self) -> Digest {
        let nodes = self.order().iter().map(|&index| {
            let Node { name, work, parameters, .. } = self.node(index);
            (name, work.kind().name, work.kind().version, &**parameters)
        });
        CanonicalJson::of_sorted(&nodes.collect::<Vec<_>>()).digest()
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
