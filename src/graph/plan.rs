//! Which nodes are fresh, which are stale and why.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::key::{key, manifest};
use super::{Graph, Input, Source};
use crate::error::{Error, Result};
use crate::stage::TaskInput;
use crate::store::{ArtifactKind, Digest, Listing, Record, StatCache, Store};

/// How a node stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Its key has a valid record.
    Fresh(Box<Record>),
    /// Its key has none: it must run.
    Stale {
        /// The key.
        key: Digest,
        /// What the key is the hash of.
        manifest: Value,
    },
    /// Something that it needs is stale, so its key is not known yet.
    Pending,
}

/// The states of selected nodes.
#[derive(Debug)]
pub struct Plan {
    states: HashMap<NodeIndex, State>,
}

impl Plan {
    /// Inspects `selection`, which is in order.
    pub fn new(inspector: &Inspector<'_>, selection: &[NodeIndex]) -> Result<Plan> {
        let mut states = HashMap::new();
        for &index in selection {
            let record = |node| if let Some(State::Fresh(record)) = states.get(&node) { Some(&**record) } else { None };
            let state = inspector.inspect(index, &record)?;
            states.insert(index, state);
        }
        Ok(Plan { states })
    }

    /// How a selected node stands.
    pub fn state(&self, index: NodeIndex) -> &State {
        &self.states[&index]
    }
}

/// Finds keys and states; hashes every input file once, and again to see whether it changed.
#[derive(Debug)]
pub struct Inspector<'a> {
    graph: &'a Graph,
    store: &'a Store,
    cache: &'a StatCache,
    externals: Mutex<HashMap<Source, (Digest, Option<Listing>)>>,
}

impl<'a> Inspector<'a> {
    /// An inspector that has read nothing yet.
    pub fn new(graph: &'a Graph, store: &'a Store, cache: &'a StatCache) -> Inspector<'a> {
        Inspector { graph, store, cache, externals: Mutex::default() }
    }

    /// How a node stands, given the records of the nodes it needs as far as they are fresh.
    pub fn inspect<'r>(&self, index: NodeIndex, record: &dyn Fn(NodeIndex) -> Option<&'r Record>) -> Result<State> {
        let node = self.graph.node(index);
        if self.graph.needs(index).any(|needed| record(needed).is_none()) {
            return Ok(State::Pending);
        }
        let mut digests = HashMap::new();
        for input in node.inputs.iter().filter(|input| input.keyed) {
            let digest = match &input.source {
                Source::Output(source, output) => record(*source).expect("just checked").outputs[&**output].digest,
                external => self.external(external)?.0,
            };
            digests.insert(&input.source, digest);
        }
        let manifest = manifest(node, &|input: &Input| digests[&input.source]);
        let key = key(&manifest);
        Ok(match self.store.valid_record(&key, node.stage.outputs()) {
            Some(record) => State::Fresh(Box::new(record)),
            None => State::Stale { key, manifest },
        })
    }

    /// Where an input lies, for the task that reads it.
    pub fn task_input<'r>(&self, input: &Input, record: &dyn Fn(NodeIndex) -> Option<&'r Record>) -> Result<TaskInput> {
        let (path, listing): (PathBuf, Option<Listing>) = match &input.source {
            Source::Output(source, output) => {
                let artifact = &record(*source).expect("what a running node needs is fresh").outputs[&**output];
                let listing = match artifact.kind {
                    ArtifactKind::Folder => Some(self.store.listing(artifact)?),
                    ArtifactKind::File => None,
                };
                (self.store.artifact_path(artifact), listing)
            }
            external @ (Source::File(path) | Source::Folder(path, _)) => {
                let listing = if input.keyed { self.external(external)?.1 } else { None };
                (std::path::absolute(path).map_err(Error::io("resolve", path))?, listing)
            }
        };
        Ok(TaskInput { path, coordinates: input.coordinates.clone(), listing })
    }

    /// The inputs of a node that changed since they were first read.
    pub fn changed_inputs(&self, index: NodeIndex) -> Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        for input in self.graph.node(index).inputs.iter().filter(|input| input.keyed) {
            if let Source::File(path) | Source::Folder(path, _) = &input.source
                && self.read(&input.source)?.0 != self.external(&input.source)?.0
            {
                changed.push(path.clone());
            }
        }
        Ok(changed)
    }

    fn external(&self, source: &Source) -> Result<(Digest, Option<Listing>)> {
        let lock = || self.externals.lock().expect("nothing panics while it holds the digests");
        if let Some(known) = lock().get(source).cloned() {
            return Ok(known);
        }
        let read = self.read(source)?;
        Ok(lock().entry(source.clone()).or_insert(read).clone())
    }

    fn read(&self, source: &Source) -> Result<(Digest, Option<Listing>)> {
        match source {
            Source::File(path) => Ok((self.cache.file(path)?, None)),
            Source::Folder(path, within) => {
                let listing = self.cache.folder(path, within)?;
                Ok((listing.digest(), Some(listing)))
            }
            Source::Output(..) => unreachable!("outputs are known by their records"),
        }
    }
}
