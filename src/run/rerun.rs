//! Executes nodes that are up to date once more, beside the store, and compares what comes out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};

use petgraph::graph::NodeIndex;

use super::Options;
use super::assignment::{Assignment, Kept};
use super::job::{End, Failure, Job};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::executor::Executors;
use crate::graph::{Graph, Inspector, Plan, State};
use crate::made_by::MadeBy;
use crate::store::{Artifact, Record, StatCache, Store};

/// What came of a node that was executed again.
#[derive(Debug)]
pub enum Rerun {
    /// The same outputs.
    Same,
    /// Some outputs came out otherwise.
    Differs {
        /// Their names, and where they were kept.
        outputs: Vec<(String, PathBuf)>,
        /// What computed the node both times.
        made: Made,
    },
    /// It failed.
    Failed(Failure),
}

/// Whether what computed a node twice may explain that the results differ.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// By the same build, libtorch and kind of processor or card.
    Alike {
        /// The kind; nothing for a node that needs no libtorch.
        kind: Option<String>,
    },
    /// Something differs: what it was before, and what it is now.
    Otherwise {
        /// Before.
        before: String,
        /// Now.
        now: String,
    },
    /// Its record does not say what computed it.
    Unknown,
}

impl Made {
    fn new(before: Option<&MadeBy>, now: Option<&MadeBy>) -> Made {
        let (Some(before), Some(now)) = (before, now) else { return Made::Unknown };
        let decisive = |one: &MadeBy| (one.build.clone(), one.libtorch.clone(), one.kind());
        if decisive(before) == decisive(now) {
            Made::Alike { kind: now.kind() }
        } else {
            Made::Otherwise { before: before.to_string(), now: now.to_string() }
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Made::Alike { kind: Some(kind) } => write!(formatter, "made by the same build on the same kind: {kind}"),
            Made::Alike { kind: None } => formatter.write_str("made by the same build"),
            Made::Otherwise { before, now } => write!(formatter, "made by {before}; now by {now}"),
            Made::Unknown => formatter.write_str("its record does not say what made it"),
        }
    }
}

/// Executes the `wanted` nodes again, each from the stored results of those it needs.
///
/// # Errors
/// A wanted node is not up to date, so there is nothing to compare with.
pub fn rerun(
    graph: &Graph,
    wanted: &HashSet<NodeIndex>,
    store: &Store,
    options: &Options,
    report: &mut dyn FnMut(&str, &Rerun),
) -> Result<()> {
    let cache = StatCache::open(store.stat_cache());
    let inspector = Inspector::new(graph, store, &cache);
    let selection = graph.with_needs(|index| wanted.contains(&index));
    let plan = Plan::new(&inspector, &selection)?;
    let _ = store.keep_digests(&cache);
    let mut records = HashMap::new();
    for &index in &selection {
        match plan.state(index) {
            State::Fresh(record) => drop(records.insert(index, &**record)),
            _ if wanted.contains(&index) => {
                return Err(Error::hinted(
                    format!("`{}` is not up to date: there is nothing to compare with", graph.node(index).name),
                    "`maple-pipe run` it first",
                ));
            }
            _ => {}
        }
    }
    let executors = Arc::default();
    let again = Again { graph, store, inspector: &inspector, cache: &cache, records: &records, options, executors };
    let queue = Mutex::new(selection.iter().filter(|index| wanted.contains(index)));
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let devices =
            options.devices.ready().devices.slots().flat_map(|(device, slots)| std::iter::repeat_n(device, slots));
        for device in devices.take(options.jobs.min(wanted.len())) {
            let sender = sender.clone();
            let (again, queue) = (&again, &queue);
            scope.spawn(move || {
                let next = || queue.lock().expect("nothing panics while it holds the queue").next();
                while let Some(&index) = next() {
                    let key = again.records[&index].key;
                    let outcome = again.node(index, device);
                    let outcome = outcome.unwrap_or_else(|error| Rerun::Failed(Failure::new(Some(key), &error)));
                    drop(sender.send((index, outcome)));
                }
            });
        }
        drop(sender);
        receiver.into_iter().for_each(|(index, outcome)| report(&graph.node(index).name, &outcome));
    });
    Ok(())
}

struct Again<'a> {
    graph: &'a Graph,
    store: &'a Store,
    inspector: &'a Inspector<'a>,
    cache: &'a StatCache,
    records: &'a HashMap<NodeIndex, &'a Record>,
    options: &'a Options,
    executors: Arc<Executors>,
}

impl Again<'_> {
    fn node(&self, index: NodeIndex, device: Device) -> Result<Rerun> {
        let record = self.records[&index];
        let folder = self.store.scratch()?.node()?;
        let scratch = folder.join("outputs");
        std::fs::create_dir(&scratch).map_err(Error::io("create", &scratch))?;
        let kept = Kept {
            partial: folder.join("partial"),
            events: None,
            // What is made again is made from the images.
            pixels: None,
            log: folder.join("log"),
        };
        let records = |needed| self.records.get(&needed).copied();
        let (key, recipe) = (record.key, record.recipe.clone());
        let job = Job {
            assignment: Assignment::new(self.graph, index, self.inspector, &records, (key, recipe), kept)?,
            work: self.graph.node(index).work.clone(),
            store: self.store,
            cache: self.cache,
            scratch,
            threads: (self.options.threads / self.options.jobs).max(1),
            device: Some(device).filter(|_| self.graph.node(index).work.needs_device()),
            executors: self.executors.clone(),
            claim: None,
        };
        let compared = match job.try_out() {
            Ok((again, outputs)) => self.compare(record, &again, outputs)?,
            Err(End::Stopped) => unreachable!("nobody asks these processes to stop"),
            Err(End::Failed(failure) | End::Crowded(failure)) => {
                // Its log goes with the scratch folder, unless it is kept.
                let log = failure.log.map(|log| self.store.keep_differing(&record.node, &log)).transpose()?;
                Rerun::Failed(Failure { log, ..failure })
            }
        };
        let _ = std::fs::remove_dir_all(folder);
        Ok(compared)
    }

    fn compare(&self, record: &Record, again: &Record, outputs: BTreeMap<String, PathBuf>) -> Result<Rerun> {
        let mut differing = Vec::new();
        for (name, path) in outputs {
            if Artifact::of(&path)?.0 != record.outputs[&name] {
                let kept = self.store.keep_differing(&record.node, &path)?;
                differing.push((name, kept));
            }
        }
        if differing.is_empty() {
            return Ok(Rerun::Same);
        }
        Ok(Rerun::Differs { outputs: differing, made: Made::new(record.made_by.as_ref(), again.made_by.as_ref()) })
    }
}
