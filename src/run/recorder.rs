//! Writes down a run's events, as the reporter prints them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Instant;

use super::git::Question;
use super::{Event, Outcome};
use crate::error::Result;
use crate::store::{End, Invocation, NodeEnd, RunNode, RunRecord, Store};

/// Gathers what a run record keeps. A run that is killed leaves none.
#[derive(Debug)]
pub struct Recorder {
    invocation: Invocation,
    started: jiff::Timestamp,
    clock: Instant,
    commit: Question,
    nodes: Vec<RunNode>,
    places: HashMap<String, usize>,
}

impl Recorder {
    /// A run of these nodes that begins now.
    pub fn new<'n>(invocation: Invocation, nodes: impl Iterator<Item = &'n str>) -> Recorder {
        let commit = Question::new(invocation.file.parent().unwrap_or(Path::new("/")));
        let nodes: Vec<RunNode> = nodes
            .map(|node| RunNode {
                node: node.to_owned(),
                end: NodeEnd::NotStarted,
                key: None,
                started: None,
                seconds: None,
            })
            .collect();
        let places = nodes.iter().enumerate().map(|(place, node)| (node.node.clone(), place)).collect();
        Recorder { invocation, started: jiff::Timestamp::now(), clock: Instant::now(), commit, nodes, places }
    }

    /// Takes note of an event.
    pub fn record(&mut self, event: &Event<'_>) {
        if let Event::Devices { devices, .. } = event {
            self.invocation.devices = devices.slots().map(|(device, _)| device.to_string()).collect();
        }
        let (Event::Started { node, .. } | Event::Settled { node, .. }) = event else { return };
        let Some(node) = self.places.get(*node).map(|&place| &mut self.nodes[place]) else { return };
        let Event::Settled { outcome, .. } = event else {
            node.end = NodeEnd::Interrupted;
            node.started = Some(jiff::Timestamp::now());
            return;
        };
        let (end, key, seconds) = match outcome {
            Outcome::Done { record } => (NodeEnd::Done, Some(record.key), Some(record.seconds)),
            Outcome::Cached { record } => (NodeEnd::Cached, Some(record.key), None),
            Outcome::Failed { failure } => (NodeEnd::Failed, failure.key, Some(failure.seconds)),
            Outcome::Blocked => (NodeEnd::Blocked, None, None),
            Outcome::Stopped => (NodeEnd::Interrupted, None, None),
        };
        (node.end, node.key, node.seconds) = (end, key, seconds);
    }

    /// Keeps the record: the run is over.
    pub fn keep(self, store: &Store) -> Result<()> {
        let mut counts = BTreeMap::<NodeEnd, usize>::new();
        self.nodes.iter().for_each(|node| *counts.entry(node.end).or_default() += 1);
        let end = if counts.contains_key(&NodeEnd::Failed) {
            End::Failed
        } else if counts.keys().all(|end| matches!(end, NodeEnd::Done | NodeEnd::Cached)) {
            End::Done
        } else {
            End::Interrupted
        };
        let host = crate::made_by::host();
        let run = RunRecord {
            id: RunRecord::new_id(self.started, &host),
            started: self.started,
            seconds: self.clock.elapsed().as_secs_f64(),
            end,
            counts,
            invocation: self.invocation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: Some(crate::identity::BUILD.to_owned()),
            commit: self.commit.answer(),
            host,
        };
        store.keep_run(&run, &self.nodes)
    }
}
