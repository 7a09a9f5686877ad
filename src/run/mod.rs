//! The scheduler: takes nodes through their states, runs each where it belongs, and tells what happens as events.
//!
//! ```text
//! Wanted --all needed are fresh--> Ready --record found--> Cached
//!    |                               |
//!    |                               +--job free--> Running --+--> Done
//!    |                                                        +--> Failed
//!    +--something needed failed--> Blocked
//! ```

mod command;
mod difference;
mod event;
mod git;
mod job;
mod recorder;
mod reporter;
mod rerun;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::mpsc;
use std::time::Instant;

use petgraph::graph::NodeIndex;

pub use difference::{Difference, MetricChange, ParameterChange};
pub use event::{Event, Outcome, Progress, Summary};
pub use job::{Failure, Line};
pub use recorder::Recorder;
pub use reporter::{Reporter, duration, error_word, nodes};
pub use rerun::{Rerun, rerun};

use crate::error::{Error, Result};
use crate::graph::{Graph, Inspector, State as Staleness};
use crate::store::{CanonicalJson, Digest, Record, StatCache, Store, remove_dead};
use job::Job;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Nodes at the same time.
    pub jobs: usize,
    /// Threads to share among running nodes.
    pub threads: usize,
    /// After a failure, go on with nodes that do not need the failed one.
    pub keep_going: bool,
}

/// Where a node stands in this run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Wanted,
    Ready,
    Running,
    Done,
    Cached,
    Failed,
    Blocked,
}

/// What a job thread tells the scheduler.
enum Message {
    Progress(NodeIndex, Progress),
    Finished(NodeIndex, Box<Result<Record, Failure>>),
}

/// Runs what is stale among `selection`, which is in order and holds all it needs.
///
/// # Errors
/// The store cannot be written. A node that fails is no error here but counted in the summary.
pub fn run(
    graph: &Graph,
    selection: &[NodeIndex],
    store: &Store,
    pipeline: &str,
    options: Options,
    report: &mut dyn FnMut(&Event<'_>),
) -> Result<(Summary, HashMap<NodeIndex, Record>)> {
    let started = Instant::now();
    let cache = StatCache::open(store.stat_cache());
    let mut scheduler = Scheduler {
        graph,
        store,
        pipeline,
        inspector: &Inspector::new(graph, store, &cache),
        options,
        states: selection.iter().map(|&index| (index, State::Wanted)).collect(),
        records: HashMap::new(),
        ready: BinaryHeap::new(),
        working: HashMap::new(),
        summary: Summary { nodes: selection.len(), ..Summary::default() },
    };
    remove_dead(&store.work())?;
    scheduler.run(selection, report);
    // A cache that cannot be kept costs the next run some reading.
    let _ = cache.save();
    let mut keys = store.last_keys(pipeline);
    let before = keys.clone();
    keys.extend(scheduler.records.iter().map(|(&index, record)| (graph.node(index).name.clone(), record.key)));
    if keys != before {
        store.remember_keys(pipeline, &keys)?;
    }
    let mut summary = scheduler.summary;
    summary.seconds = started.elapsed().as_secs_f64();
    report(&Event::Finished(&summary));
    Ok((summary, scheduler.records))
}

struct Scheduler<'a> {
    graph: &'a Graph,
    store: &'a Store,
    pipeline: &'a str,
    inspector: &'a Inspector<'a>,
    options: Options,
    states: HashMap<NodeIndex, State>,
    records: HashMap<NodeIndex, Record>,
    /// Nodes in state Ready, first in order first.
    ready: BinaryHeap<Reverse<NodeIndex>>,
    /// Keys being worked on, with the nodes that wait for the same key.
    working: HashMap<Digest, Vec<NodeIndex>>,
    summary: Summary,
}

impl<'a> Scheduler<'a> {
    fn run(&mut self, selection: &[NodeIndex], report: &mut dyn FnMut(&Event<'_>)) {
        self.settle_fresh(selection, report);
        for &index in selection {
            self.make_ready(index);
        }
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let mut running = 0;
            loop {
                let stopping = self.summary.failed > 0 && !self.options.keep_going;
                while !stopping && running < self.options.jobs {
                    let Some(job) = self.next_job(running, report) else { break };
                    report(&Event::Started { node: self.name(job.index()) });
                    running += 1;
                    let sender = sender.clone();
                    scope.spawn(move || {
                        let index = job.index();
                        let progress = |progress| drop(sender.send(Message::Progress(index, progress)));
                        let result = job.run(&progress);
                        drop(sender.send(Message::Finished(index, Box::new(result))));
                    });
                }
                if running == 0 {
                    return;
                }
                match receiver.recv().expect("a running job holds a sender") {
                    Message::Progress(index, progress) => {
                        report(&Event::Progress { node: self.name(index), progress: &progress });
                    }
                    Message::Finished(index, result) => {
                        running -= 1;
                        self.finish(index, *result, report);
                    }
                }
            }
        });
    }

    fn name(&self, index: NodeIndex) -> &'a str {
        &self.graph.node(index).name
    }

    /// Wanted -> Cached, for all that is fresh from the start; what cannot be inspected waits for its turn to fail.
    fn settle_fresh(&mut self, selection: &[NodeIndex], report: &mut dyn FnMut(&Event<'_>)) {
        for nodes in self.graph.stages(selection) {
            let records = &self.records;
            let found = self.inspector.inspect_all(nodes, &|needed| records.get(&needed));
            for (&index, state) in nodes.iter().zip(found) {
                if let Ok(Staleness::Fresh(record)) = state {
                    self.settle(index, State::Cached, *record, report);
                }
            }
        }
    }

    /// Wanted -> Ready, when everything the node needs has a record.
    fn make_ready(&mut self, index: NodeIndex) {
        let needs_are_fresh = self.graph.needs(index).all(|needed| self.records.contains_key(&needed));
        if self.states.get(&index) == Some(&State::Wanted) && needs_are_fresh {
            self.states.insert(index, State::Ready);
            self.ready.push(Reverse(index));
        }
    }

    /// Takes ready nodes until one must run; those with a valid record become Cached on the way. `running` others run.
    fn next_job(&mut self, running: usize, report: &mut dyn FnMut(&Event<'_>)) -> Option<Job<'a>> {
        while let Some(Reverse(index)) = self.ready.pop() {
            if self.states[&index] != State::Ready {
                continue;
            }
            let records = &self.records;
            let prepared = match self.inspector.inspect(index, &|needed| records.get(&needed)) {
                Ok(Staleness::Fresh(record)) => {
                    self.settle(index, State::Cached, *record, report);
                    continue;
                }
                Ok(Staleness::Stale { key, manifest }) => {
                    if let Some(waiting) = self.working.get_mut(&key) {
                        waiting.push(index);
                        continue;
                    }
                    self.prepare(index, key, manifest, running)
                }
                Ok(Staleness::Pending) => unreachable!("a ready node's needs are fresh"),
                Err(error) => Err(error),
            };
            match prepared {
                Ok(job) => {
                    self.working.insert(job.key, Vec::new());
                    self.states.insert(index, State::Running);
                    return Some(job);
                }
                Err(error) => self.fail(index, &Failure::new(None, &error), report),
            }
            if !self.options.keep_going {
                break;
            }
        }
        None
    }

    /// Everything that a node's job needs.
    fn prepare(&mut self, index: NodeIndex, key: Digest, manifest: CanonicalJson, running: usize) -> Result<Job<'a>> {
        let scratch = self.store.scratch()?.node(index.index())?;
        let inputs = self.inspector.task_inputs(index, &|needed| self.records.get(&needed))?;
        // A node that runs alone may use all processors; many nodes share them.
        let wanted = (running + 1 + self.ready.len()).min(self.options.jobs);
        Ok(Job {
            graph: self.graph,
            node: index,
            store: self.store,
            inspector: self.inspector,
            key,
            manifest,
            inputs,
            scratch,
            partial: self.store.partial(&key),
            log: self.store.log(self.pipeline, self.name(index)),
            threads: (self.options.threads / wanted).max(1),
        })
    }

    /// Running -> Done or Failed.
    fn finish(&mut self, index: NodeIndex, result: Result<Record, Failure>, report: &mut dyn FnMut(&Event<'_>)) {
        match result {
            Ok(record) => {
                let waiting = self.working.remove(&record.key).unwrap_or_default();
                self.settle(index, State::Done, record.clone(), report);
                for other in waiting {
                    self.settle(other, State::Cached, record.clone(), report);
                }
            }
            Err(failure) => {
                let waiting = failure.key.and_then(|key| self.working.remove(&key)).unwrap_or_default();
                for failed in std::iter::once(index).chain(waiting) {
                    self.fail(failed, &failure, report);
                }
            }
        }
    }

    fn fail(&mut self, index: NodeIndex, failure: &Failure, report: &mut dyn FnMut(&Event<'_>)) {
        self.states.insert(index, State::Failed);
        self.summary.failed += 1;
        let outcome = Outcome::Failed { failure };
        report(&Event::Settled { node: self.name(index), outcome, position: self.settled(), of: self.summary.nodes });
        self.block(index, report);
    }

    /// The node has a record now: tells, and makes ready what waited for it.
    fn settle(&mut self, index: NodeIndex, state: State, record: Record, report: &mut dyn FnMut(&Event<'_>)) {
        self.states.insert(index, state);
        let ran = state == State::Done;
        if ran {
            self.summary.ran += 1;
        } else {
            self.summary.cached += 1;
        }
        let outcome = if ran { Outcome::Done { record: &record } } else { Outcome::Cached { record: &record } };
        report(&Event::Settled { node: self.name(index), outcome, position: self.settled(), of: self.summary.nodes });
        self.records.insert(index, record);
        let mut children: Vec<NodeIndex> = self.graph.needed_by(index).collect();
        children.sort();
        children.into_iter().for_each(|child| self.make_ready(child));
    }

    /// Everything that needs a failed node becomes Blocked.
    fn block(&mut self, index: NodeIndex, report: &mut dyn FnMut(&Event<'_>)) {
        for child in self.graph.needed_by(index) {
            if self.states.get(&child) == Some(&State::Wanted) {
                self.states.insert(child, State::Blocked);
                self.summary.blocked += 1;
                let (node, outcome) = (self.name(child), Outcome::Blocked);
                report(&Event::Settled { node, outcome, position: self.settled(), of: self.summary.nodes });
                self.block(child, report);
            }
        }
    }

    fn settled(&self) -> usize {
        self.summary.ran + self.summary.cached + self.summary.failed
    }
}

/// The error that a run with failures ends with.
pub fn check(summary: &Summary) -> Result<()> {
    match summary.failed {
        0 => Ok(()),
        failed => Err(Error::NodesFailed { failed }),
    }
}
