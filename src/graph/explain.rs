//! Why a node is fresh or stale, in words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use petgraph::graph::NodeIndex;
use serde::Serialize;
use serde_json::Value;

use super::change::{Change, changes};
use super::key::digest_in;
use super::{Graph, Plan, Source, State};
use crate::digest::Digest;
use crate::made_by::MadeBy;
use crate::store::{LastKeys, Record, Store};
use crate::text::{clock, few};

/// Things that a line names.
pub const FEW: usize = 3;

/// The answer to "why would this node run, or not?".
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Explanation<'a> {
    /// Its record is valid.
    UpToDate {
        /// The key.
        key: Digest,
        /// When it ran, UTC.
        started: jiff::Timestamp,
        /// How long it took.
        seconds: f64,
        /// What computed it, where its record says so.
        #[serde(skip_serializing_if = "Option::is_none")]
        made_by: Option<Box<MadeBy>>,
    },
    /// Another process computes it now.
    Running {
        /// Which, e.g. `process 4711 on host`.
        owner: String,
        /// For how long.
        seconds: u64,
    },
    /// A job waits for its turn that is to compute it.
    Queued {
        /// Which, e.g. `Slurm job 17_0`.
        job: String,
    },
    /// The pipeline has never finished a node of this name in this store.
    NeverRun,
    /// It ran, but the record of that is missing or damaged.
    RecordMissing,
    /// The record is there, but an output is missing or damaged.
    OutputMissing {
        /// Its name.
        output: String,
    },
    /// The recipe differs from the one of the last time.
    Changed {
        /// Value by value.
        changes: Vec<Change>,
    },
    /// It needs nodes that are stale, directly or not.
    UpstreamStale {
        /// Those of them that have a reason of their own.
        causes: Vec<&'a str>,
    },
    /// It cannot run.
    Blocked {
        /// What is not there.
        absent: Vec<&'a str>,
    },
}

/// Explains the nodes of a plan.
#[derive(Debug)]
pub struct Explainer<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    store: &'a Store,
    /// The jobs that wait or run, by the keys that they are to compute.
    jobs: HashMap<Digest, String>,
    /// The key that each node had when it was last fresh.
    last_keys: Arc<LastKeys>,
    /// The stale nodes that make a node stale or let it wait; nodes with the same ones share a set.
    causes: HashMap<NodeIndex, Rc<BTreeSet<NodeIndex>>>,
}

impl<'a> Explainer<'a> {
    /// Explains what `plan` says of `selection`, which is in order and was planned for `pipeline`. The `jobs` that a cluster has
    /// are known by the keys that they are to compute.
    pub fn new(
        graph: &'a Graph,
        plan: &'a Plan,
        selection: &[NodeIndex],
        store: &'a Store,
        pipeline: &str,
        jobs: HashMap<Digest, String>,
    ) -> Explainer<'a> {
        let mut causes: HashMap<NodeIndex, Rc<BTreeSet<NodeIndex>>> = HashMap::new();
        for &index in selection {
            let own = match plan.state(index) {
                State::Fresh(_) => continue,
                State::Stale { .. } => Rc::new(BTreeSet::from([index])),
                State::Blocked if graph.node(index).lacks_something() => Rc::new(BTreeSet::from([index])),
                State::Pending | State::Blocked => {
                    let mut sets = graph.needs(index).filter_map(|needed| causes.get(&needed));
                    let first = sets.next().expect("a node waits for something").clone();
                    sets.fold(first, |all, set| {
                        if Rc::ptr_eq(&all, set) || set.is_subset(&all) { all } else { Rc::new(&*all | &**set) }
                    })
                }
            };
            causes.insert(index, own);
        }
        let last_keys = if causes.is_empty() { Arc::default() } else { store.last_keys(pipeline) };
        Explainer { graph, plan, store, jobs, last_keys, causes }
    }

    /// Why a node would run, or not.
    pub fn explain(&self, index: NodeIndex) -> Explanation<'a> {
        match self.plan.state(index) {
            State::Fresh(record) => Explanation::UpToDate {
                key: record.key,
                started: record.started,
                seconds: record.seconds,
                made_by: record.made_by.clone().map(Box::new),
            },
            State::Pending => {
                let names = self.causes(index).map(|cause| self.graph.node(cause).name.as_str());
                Explanation::UpstreamStale { causes: names.collect() }
            }
            State::Blocked => {
                let causes: Vec<NodeIndex> = self.causes(index).collect();
                let absent = self.graph.absent(&causes).into_iter().map(|absence| absence.message.as_str());
                Explanation::Blocked { absent: absent.collect() }
            }
            State::Stale { key, recipe } => {
                if let Some(holder) = self.store.computing(key) {
                    let seconds = holder.since.elapsed().map_or(0, |time| time.as_secs());
                    let job = self.jobs.get(key).map(|job| format!("{job}, ")).unwrap_or_default();
                    return Explanation::Running { owner: job + &holder.who, seconds };
                }
                if let Some(job) = self.jobs.get(key) {
                    return Explanation::Queued { job: job.clone() };
                }
                let outputs = self.graph.node(index).work.outputs();
                if let Some(output) = self.store.record(key).and_then(|record| self.store.missing(&record, outputs)) {
                    return Explanation::OutputMissing { output: output.to_owned() };
                }
                match self.last_keys.get(&self.graph.node(index).name).map(|last| self.store.record(last)) {
                    Some(Some(record)) => {
                        Explanation::Changed { changes: changes(&record.recipe.value(), &recipe.value()) }
                    }
                    Some(None) => Explanation::RecordMissing,
                    None => Explanation::NeverRun,
                }
            }
        }
    }

    /// What led to how a node stands, in order: for a waiting one, the stale nodes that it waits for, directly or not; for a
    /// changed one, the nodes upstream that left other outputs than the last time, with what had changed in them.
    pub fn upstream(&self, index: NodeIndex) -> Vec<(&'a str, Explanation<'a>)> {
        let name = |index: NodeIndex| self.graph.node(index).name.as_str();
        match self.plan.state(index) {
            State::Fresh(_) | State::Blocked => Vec::new(),
            State::Pending => self.causes(index).map(|cause| (name(cause), self.explain(cause))).collect(),
            State::Stale { recipe, .. } => {
                let reruns =
                    self.last_record(index).map(|last| self.reruns(index, last.recipe.value(), recipe.value()));
                reruns.into_iter().flatten().map(|(index, explanation)| (name(index), explanation)).collect()
            }
        }
    }

    fn causes(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        self.causes.get(&index).into_iter().flat_map(|causes| causes.iter().copied())
    }

    /// Follows inputs with other digests to the nodes that they come from, and there on.
    fn reruns(&self, index: NodeIndex, before: Value, now: Value) -> BTreeMap<NodeIndex, Explanation<'a>> {
        let mut history: HashMap<String, Vec<Arc<Record>>> = HashMap::new();
        for record in self.store.records() {
            history.entry(record.node.clone()).or_default().push(record);
        }
        let mut found = BTreeMap::new();
        let mut unfollowed = vec![(index, before, now)];
        while let Some((index, before, now)) = unfollowed.pop() {
            for input in &self.graph.node(index).inputs {
                let Source::Output(source, output) = &input.source else { continue };
                let source = *source;
                let (Some(old), Some(new)) = (digest_in(&before, input), digest_in(&now, input)) else { continue };
                let Some(record) = self.plan.record(source) else { continue };
                if old == new || found.contains_key(&source) {
                    continue;
                }
                let left_it = |record: &&Arc<Record>| {
                    record.outputs.get(&**output).is_some_and(|artifact| artifact.digest.to_string() == old)
                };
                let earlier = history.get(&self.graph.node(source).name).into_iter().flatten().filter(left_it);
                let both = earlier.max_by_key(|record| record.started).zip(self.store.record(&record.key));
                found.insert(
                    source,
                    both.as_ref().map_or(Explanation::RecordMissing, |(before, now)| Explanation::Changed {
                        changes: changes(&before.recipe.value(), &now.recipe.value()),
                    }),
                );
                unfollowed.extend(both.map(|(before, now)| (source, before.recipe.value(), now.recipe.value())));
            }
        }
        found
    }

    fn last_record(&self, index: NodeIndex) -> Option<Arc<Record>> {
        self.store.record(self.last_keys.get(&self.graph.node(index).name)?)
    }
}

impl fmt::Display for Explanation<'_> {
    /// One line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::UpToDate { .. } => formatter.write_str("up to date"),
            Explanation::Running { owner, seconds } => write!(formatter, "running ({owner}, {})", clock(*seconds)),
            Explanation::Queued { job } => write!(formatter, "queued ({job})"),
            Explanation::NeverRun => formatter.write_str("never run"),
            Explanation::RecordMissing => formatter.write_str("record missing"),
            Explanation::OutputMissing { output } => write!(formatter, "output missing: {output}"),
            Explanation::Changed { changes } => {
                write!(formatter, "changed: {}", few(FEW, changes.iter().map(Change::to_string)))
            }
            Explanation::UpstreamStale { causes } => match causes.as_slice() {
                [name, rest @ ..] if !rest.is_empty() => write!(formatter, "waits for {name} and {} more", rest.len()),
                names => write!(formatter, "waits for {}", names.join("")),
            },
            Explanation::Blocked { absent } => {
                write!(formatter, "blocked: {}", few(FEW, absent.iter().map(ToString::to_string)))
            }
        }
    }
}
