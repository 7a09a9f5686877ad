//! Which nodes are fresh, which are stale and why.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use petgraph::graph::NodeIndex;
use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{Content, Graph, Input, Source, recipe};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::kind::Place;
use crate::parallel;
use crate::remote::{Remote, Traffic};
use crate::store::{ArtifactKind, CanonicalJson, Listing, Output, Reading, Record, StatCache, Store};
use crate::task::TaskInput;
use crate::watch::{TICK, watch};

/// How a node stands.
#[derive(Clone, Debug)]
pub enum State {
    /// Its key has a valid record.
    Fresh(Arc<Record>),
    /// Its key has none: it must run.
    Stale {
        /// The key.
        key: Digest,
        /// What the key is the hash of.
        recipe: CanonicalJson,
    },
    /// Something that it needs is stale, so its key is not known yet.
    Pending,
    /// Something from outside is not there, which it or a node that it needs would read.
    Blocked,
}

impl State {
    fn record(&self) -> Option<&Arc<Record>> {
        if let State::Fresh(record) = self { Some(record) } else { None }
    }
}

/// The states of selected nodes.
#[derive(Debug)]
pub struct Plan {
    states: FxHashMap<NodeIndex, State>,
}

impl Plan {
    /// Inspects `selection`, which is in order.
    pub fn new(inspector: &Inspector<'_>, selection: &[NodeIndex]) -> Result<Plan> {
        let mut states = FxHashMap::with_capacity_and_hasher(selection.len(), FxBuildHasher);
        for nodes in inspector.graph.stages(selection) {
            let record = |node| states.get(&node).and_then(State::record).map(Arc::as_ref);
            let found = inspector.inspect_all(nodes, &record);
            for (&index, state) in nodes.iter().zip(found) {
                let is_blocked = |needed| matches!(states[&needed], State::Blocked);
                let state = if inspector.graph.needs(index).any(is_blocked) { State::Blocked } else { state? };
                states.insert(index, state);
            }
        }
        Ok(Plan { states })
    }

    /// How a selected node stands.
    pub fn state(&self, index: NodeIndex) -> &State {
        &self.states[&index]
    }

    /// The record of a node, if it is selected and fresh.
    pub fn record(&self, index: NodeIndex) -> Option<&Record> {
        self.shared_record(index).map(Arc::as_ref)
    }

    /// The same, for who keeps it.
    pub fn shared_record(&self, index: NodeIndex) -> Option<&Arc<Record>> {
        self.states.get(&index)?.record()
    }
}

/// What is done with results that the store lacks and a remote has.
#[derive(Clone, Copy, Debug)]
pub enum Elsewhere<'a> {
    /// They come into the store; their nodes are fresh.
    Pulled(&'a Remote),
    /// Their nodes are fresh, and nothing is pulled.
    Seen(&'a Remote),
}

/// What takes long while nodes are inspected.
#[derive(Clone, Debug)]
pub enum Wait {
    /// Input files are being hashed.
    Hashing {
        /// Files that have been read.
        read: usize,
        /// Files that are to be read, as far as is known.
        of: usize,
    },
    /// A remote is being asked; what went to and fro so far.
    Sharing(Traffic),
}

/// The record of a node that is fresh.
pub type Records<'r> = dyn Fn(NodeIndex) -> Option<&'r Record> + Sync + 'r;

/// Finds keys and states; hashes every input file once.
#[derive(Debug)]
pub struct Inspector<'a> {
    graph: &'a Graph,
    store: &'a Store,
    cache: &'a StatCache,
    remote: Option<Elsewhere<'a>>,
    externals: Mutex<HashMap<Source, Digest>>,
    listings: Mutex<HashMap<Source, Arc<Listing>>>,
}

impl<'a> Inspector<'a> {
    /// An inspector that has read nothing yet.
    pub fn new(graph: &'a Graph, store: &'a Store, cache: &'a StatCache) -> Inspector<'a> {
        Inspector { graph, store, cache, remote: None, externals: Mutex::default(), listings: Mutex::default() }
    }

    /// The same, which also asks a remote for what the store lacks.
    #[must_use]
    pub fn asking(self, remote: Option<Elsewhere<'a>>) -> Inspector<'a> {
        Inspector { remote, ..self }
    }

    /// Does some work on nodes, and says now and then what it waits for, if that takes long.
    pub fn watch<T: Send>(
        &self,
        nodes: &[NodeIndex],
        say: &mut dyn FnMut(&Wait),
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let remote = self.remote.map(|(Elsewhere::Pulled(remote) | Elsewhere::Seen(remote))| remote);
        // Nodes that read nothing from outside are not worth a thread.
        let reads = |&index: &NodeIndex| self.graph.node(index).inputs.iter().any(Input::is_external);
        if remote.is_none() && !nodes.iter().any(reads) {
            return work();
        }
        let mut say = || match (self.cache.progress(), remote) {
            (Some((read, of)), _) => say(&Wait::Hashing { read, of }),
            (None, Some(remote)) => say(&Wait::Sharing(remote.traffic())),
            (None, None) => {}
        };
        watch(TICK, &mut say, work)
    }

    /// How nodes of one stage stand, which the processors share where there are many.
    pub fn inspect_all(&self, nodes: &[NodeIndex], record: &Records<'_>) -> Vec<Result<State>> {
        let inputs = nodes.iter().flat_map(|&index| &self.graph.node(index).inputs);
        let externals: HashSet<&Source> =
            inputs.filter(|input| input.is_external()).map(|input| &input.source).collect();
        // What cannot be read is complained about by each node that needs it.
        if externals.len() > 1 {
            externals.into_par_iter().for_each(|source| drop(self.external(source)));
        }
        let mut states = parallel::map(nodes, |&index| self.inspect(index, record));
        self.look_elsewhere(nodes, &mut states);
        states
    }

    /// Asks the remote for all that is stale at once.
    fn look_elsewhere(&self, nodes: &[NodeIndex], states: &mut [Result<State>]) {
        let Some(remote) = self.remote else { return };
        let key = |place: usize| match &states[place] {
            Ok(State::Stale { key, .. }) => Some((place, *key)),
            _ => None,
        };
        let stale: Vec<(usize, Digest)> = (0..nodes.len()).filter_map(key).collect();
        if stale.is_empty() {
            return;
        }
        let outputs = |place: usize| self.graph.node(nodes[place]).work.outputs();
        let wanted: Vec<(Digest, &[Output])> = stale.iter().map(|&(place, key)| (key, outputs(place))).collect();
        let found = match remote {
            Elsewhere::Pulled(remote) => remote.pull(self.store, &wanted),
            Elsewhere::Seen(remote) => remote.peek(&wanted),
        };
        for ((place, _), record) in stale.into_iter().zip(found) {
            if let Some(record) = record {
                states[place] = Ok(State::Fresh(Arc::new(record)));
            }
        }
    }

    /// How a node stands, given the records of the nodes it needs as far as they are fresh.
    pub fn inspect(&self, index: NodeIndex, record: &Records<'_>) -> Result<State> {
        let node = self.graph.node(index);
        if node.lacks_something() {
            return Ok(State::Blocked);
        }
        if self.graph.needs(index).any(|needed| record(needed).is_none()) {
            return Ok(State::Pending);
        }
        let recipe = recipe(node, &|input| match &input.source {
            Source::Output(source, output) => {
                let record = record(*source).expect("just checked");
                Ok(Content { digest: record.outputs[&**output].digest, key: Some(record.key) })
            }
            external => Ok(Content { digest: self.external(external)?, key: None }),
        })?;
        let key = recipe.digest();
        Ok(match self.store.look_up(&key, node.work.outputs())? {
            Some(record) => State::Fresh(record),
            None => State::Stale { key, recipe },
        })
    }

    /// Where a node's inputs lie, by name, for the task that reads them.
    pub fn task_inputs(&self, index: NodeIndex, record: &Records<'_>) -> Result<BTreeMap<String, Vec<TaskInput>>> {
        let given = &self.graph.node(index).inputs;
        let found = parallel::map(given, |input| self.task_input(index, input, record));
        let mut inputs = BTreeMap::<String, Vec<TaskInput>>::new();
        for (input, found) in given.iter().zip(found) {
            inputs.entry(input.name.clone()).or_default().push(found?);
        }
        Ok(inputs)
    }

    fn task_input(&self, index: NodeIndex, input: &Input, record: &Records<'_>) -> Result<TaskInput> {
        // No process is told the digests of a folder's files.
        let is_listed = matches!(self.graph.node(index).work.place(), Place::Here(_));
        let (path, key, listing): (PathBuf, Option<String>, Option<Arc<Listing>>) = match &input.source {
            Source::Output(source, output) => {
                let record = record(*source).expect("what a running node needs is fresh");
                let artifact = &record.outputs[&**output];
                let listing = match artifact.kind {
                    ArtifactKind::Folder if is_listed => Some(Arc::new(self.store.listing(artifact)?)),
                    ArtifactKind::Folder | ArtifactKind::File => None,
                };
                (self.store.artifact(artifact)?, Some(record.key.to_string()), listing)
            }
            Source::Absent(_) => unreachable!("a node that lacks something is not run"),
            Source::File(path) => (absolute(path)?, None, None),
            Source::Folder(path, within) => {
                let listing =
                    (is_listed && input.keyed).then(|| self.listing(&input.source, path, within)).transpose()?;
                (absolute(path)?, None, listing)
            }
        };
        let (kind, output) = match &input.source {
            Source::Output(source, output) => {
                let node = self.graph.node(*source);
                (Some(node.work.kind().name.to_owned()), Some(format!("{}:{output}", node.name)))
            }
            Source::File(_) | Source::Folder(..) | Source::Absent(_) => (None, None),
        };
        Ok(TaskInput { path, coordinates: (*input.coordinates).clone(), key, kind, output, listing })
    }

    /// What a node reads, as its key says. `record` as for [`Inspector::inspect`].
    ///
    /// # Errors
    /// An input from outside cannot be read.
    pub fn readings(&self, index: NodeIndex, record: &Records<'_>) -> Result<Vec<Reading>> {
        let reading = |input: &Input| match &input.source {
            Source::Output(node, output) => {
                let record = record(*node).expect("what a node reads is fresh");
                let artifact = record.outputs[&**output].clone();
                Ok(Some(Reading::Artifact { input: input.name.clone(), artifact }))
            }
            Source::File(path) => {
                let digest = self.external(&input.source)?;
                Ok(Some(Reading::File { path: path.clone(), digest }))
            }
            Source::Folder(path, within) => {
                let digest = self.external(&input.source)?;
                Ok(Some(Reading::Folder { path: path.clone(), within: within.clone(), digest }))
            }
            Source::Absent(_) => Ok(None),
        };
        let keyed = self.graph.node(index).inputs.iter().filter(|input| input.keyed);
        keyed.filter_map(|input| reading(input).transpose()).collect()
    }

    /// The digest that an input from outside the graph had when it was first asked for.
    fn external(&self, source: &Source) -> Result<Digest> {
        let lock = || self.externals.lock().expect("nothing panics while it holds the digests");
        if let Some(known) = lock().get(source) {
            return Ok(*known);
        }
        let read = self.read(source)?;
        Ok(*lock().entry(source.clone()).or_insert(read))
    }

    fn read(&self, source: &Source) -> Result<Digest> {
        match source {
            Source::File(path) => self.cache.file(path),
            Source::Folder(path, within) => self.cache.folder(path, within),
            Source::Output(..) | Source::Absent(_) => unreachable!("only what is outside and there is read"),
        }
    }

    /// The digests of a folder's files; those that keys were made of.
    fn listing(&self, source: &Source, path: &Path, within: &[String]) -> Result<Arc<Listing>> {
        let lock = || self.listings.lock().expect("nothing panics while it holds the listings");
        if let Some(known) = lock().get(source) {
            return Ok(known.clone());
        }
        let listing = self.cache.listing(path, within)?;
        if listing.digest() != self.external(source)? {
            let message = format!("`{}` changed after this run had read it first", path.display());
            return Err(Error::hinted(message, "run again when it no longer changes"));
        }
        Ok(lock().entry(source.clone()).or_insert(Arc::new(listing)).clone())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}
