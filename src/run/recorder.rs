//! Writes down a run's events: in a journal while nodes run, and in the run's record at the end. A run in which nothing has to
//! run writes the record alone.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use super::git::Question;
use super::{Event, Outcome};
use crate::error::Result;
use crate::store::{End, Invocation, Journal, NodeEnd, RunNode, RunRecord, Store};

/// Gathers what a run record keeps.
#[derive(Debug)]
pub struct Recorder<'a> {
    store: &'a Store,
    run: RunRecord,
    clock: Instant,
    commit: Option<Question>,
    nodes: Vec<RunNode>,
    places: HashMap<&'a str, usize>,
    journal: Option<Journal>,
    /// When the journal last said how far a node is.
    told: HashMap<usize, Instant>,
}

/// How often the journal says how far a node is, at most.
const PAUSE: Duration = Duration::from_secs(1);

impl<'a> Recorder<'a> {
    /// A run of these nodes that begins now.
    pub fn new(store: &'a Store, invocation: Invocation, nodes: &[&'a str]) -> Recorder<'a> {
        let commit = Some(Question::new(invocation.file.parent().unwrap_or(Path::new("/"))));
        let places = nodes.iter().enumerate().map(|(place, &node)| (node, place)).collect();
        let nodes: Vec<RunNode> = nodes
            .iter()
            .map(|&node| RunNode {
                node: node.to_owned(),
                end: NodeEnd::NotStarted,
                key: None,
                started: None,
                seconds: None,
                progress: None,
            })
            .collect();
        let (started, host) = (jiff::Timestamp::now(), crate::made_by::host());
        let run = RunRecord {
            id: RunRecord::new_id(started, &host),
            started,
            seconds: 0.0,
            end: End::Running,
            counts: BTreeMap::new(),
            invocation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: Some(crate::identity::BUILD.to_owned()),
            commit: None,
            host,
            process: Some(std::process::id()),
        };
        let (journal, told) = (None, HashMap::new());
        Recorder { store, run, clock: Instant::now(), commit, nodes, places, journal, told }
    }

    /// The run's identifier.
    pub fn id(&self) -> &str {
        &self.run.id
    }

    /// Takes note of an event.
    pub fn record(&mut self, event: &Event<'_>) {
        if let Event::Devices { devices, .. } = event {
            self.run.invocation.devices = devices.slots().map(|(device, _)| device.to_string()).collect();
        }
        if let Event::Submitted { nodes, job, .. } = event {
            for name in *nodes {
                if let Some(&place) = self.places.get(*name) {
                    self.nodes[place].progress = Some(format!("queued as {job}"));
                    self.write(place);
                }
            }
        }
        let (Event::Started { node, .. }
        | Event::Elsewhere { node, .. }
        | Event::Progress { node, .. }
        | Event::Settled { node, .. }) = event
        else {
            return;
        };
        let Some(&place) = self.places.get(*node) else { return };
        let node = &mut self.nodes[place];
        match event {
            Event::Started { job, .. } => {
                (node.end, node.started) = (NodeEnd::Running, Some(jiff::Timestamp::now()));
                node.progress = job.map(str::to_owned);
            }
            Event::Elsewhere { owner, .. } => node.progress = Some(format!("waits for {owner}")),
            Event::Progress { progress, .. } => {
                node.progress = Some(progress.to_string());
                if self.told.get(&place).is_some_and(|last| last.elapsed() < PAUSE) {
                    return;
                }
                self.told.insert(place, Instant::now());
            }
            Event::Settled { outcome, seconds, .. } => {
                (node.end, node.key) = match outcome {
                    Outcome::Done { record } => (NodeEnd::Done, Some(record.key)),
                    Outcome::Cached { record } => (NodeEnd::Cached, Some(record.key)),
                    Outcome::Failed { failure } => (NodeEnd::Failed, failure.key),
                    Outcome::Blocked => (NodeEnd::Blocked, None),
                    Outcome::Stopped => (NodeEnd::Interrupted, None),
                };
                (node.seconds, node.progress) = (*seconds, None);
            }
            _ => unreachable!("it has a node"),
        }
        let begins = matches!(event, Event::Started { .. } | Event::Elsewhere { .. });
        if begins || self.journal.is_some() {
            self.write(place);
        }
    }

    /// Writes down how a node stands, in a journal that begins with the first.
    fn write(&mut self, place: usize) {
        if let Some(journal) = &mut self.journal {
            journal.add(&self.nodes[place]);
        } else if let Some(question) = self.commit.take() {
            self.run.commit = question.answer();
            // A run that cannot be seen from elsewhere goes on.
            self.journal = self.store.begin_journal(&self.run, &self.nodes).ok();
        }
    }

    /// Keeps the record: the run is over.
    pub fn keep(mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| node.end == NodeEnd::Running) {
            node.end = NodeEnd::Interrupted;
        }
        let ends = || self.nodes.iter().map(|node| node.end);
        self.run.end = if ends().any(|end| end == NodeEnd::Failed) {
            End::Failed
        } else if ends().all(|end| matches!(end, NodeEnd::Done | NodeEnd::Cached)) {
            End::Done
        } else {
            End::Interrupted
        };
        self.nodes.iter_mut().for_each(|node| node.progress = None);
        self.run.count(&self.nodes);
        self.run.seconds = self.clock.elapsed().as_secs_f64();
        if let Some(question) = self.commit {
            self.run.commit = question.answer();
        }
        self.store.keep_run(&self.run, &self.nodes)?;
        if let Some(journal) = self.journal {
            journal.remove();
        }
        Ok(())
    }
}
