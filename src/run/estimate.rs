//! How long nodes take, how much memory they need and what they leave, from what they took before: a node's own last record,
//! or the mean of its stage.

use std::collections::HashMap;
use std::sync::Arc;

use petgraph::graph::NodeIndex;

use crate::device::Device;
use crate::graph::Graph;
use crate::parallel;
use crate::store::Record;

/// Durations and memory of selected nodes.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    /// Of nodes that ran before.
    seconds: HashMap<NodeIndex, f64>,
    /// A processor and a card need not hold the same of a node.
    memory: HashMap<(NodeIndex, Kind), u64>,
    /// The size of what they left, in bytes.
    sizes: HashMap<NodeIndex, u64>,
    /// By stage, over its nodes with a record, from earlier runs and from this one.
    stages: HashMap<String, Mean>,
    /// How long it takes from the start of a node to the end of everything that needs it.
    critical: HashMap<NodeIndex, f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    count: usize,
    seconds: f64,
    /// The size of what was left, in bytes.
    size: u64,
    /// The largest seen on processors, and on cards.
    memory: [u64; 2],
}

/// A kind of device.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Processor,
    Card,
}

impl Kind {
    fn of(device: Option<Device>) -> Kind {
        if let Some(Device::Cuda(_)) = device { Kind::Card } else { Kind::Processor }
    }
}

/// A node of which nothing is known is taken to need this long, so that the longest chain goes first.
const UNKNOWN_SECONDS: f64 = 1.0;

impl Estimates {
    /// From the records that the nodes have or had when they were last fresh.
    pub fn new(
        graph: &Graph,
        selection: &[NodeIndex],
        last_record: &(dyn Fn(NodeIndex) -> Option<Arc<Record>> + Sync),
    ) -> Estimates {
        let mut estimates = Estimates::default();
        let records = parallel::map(selection, |&index| last_record(index));
        for (&index, record) in selection.iter().zip(records) {
            if let Some(record) = record {
                estimates.learn(graph, index, &record);
            }
        }
        for &index in selection.iter().rev() {
            let after = graph.needed_by(index).filter_map(|child| estimates.critical.get(&child)).copied();
            let after = after.fold(0.0, f64::max);
            let own = estimates.seconds(graph, index).unwrap_or(UNKNOWN_SECONDS);
            estimates.critical.insert(index, own + after);
        }
        estimates
    }

    /// Takes the duration of a node from its record.
    pub fn learn(&mut self, graph: &Graph, index: NodeIndex, record: &Record) {
        self.seconds.insert(index, record.seconds);
        let kind = Kind::of(record.device);
        self.memory.extend(record.memory.map(|memory| ((index, kind), memory)));
        let size = record.outputs.values().map(|artifact| artifact.size).sum();
        self.sizes.insert(index, size);
        let mean = self.stages.entry(graph.node(index).stage_name.clone()).or_default();
        mean.count += 1;
        mean.seconds += record.seconds;
        mean.size += size;
        let largest = &mut mean.memory[kind as usize];
        *largest = record.memory.unwrap_or(0).max(*largest);
    }

    /// About how long a node takes; nothing while no node of its stage has ever run.
    pub fn seconds(&self, graph: &Graph, index: NodeIndex) -> Option<f64> {
        self.seconds.get(&index).copied().or_else(|| self.mean_seconds(&graph.node(index).stage_name))
    }

    /// How long the nodes of a stage take on average.
    pub fn mean_seconds(&self, stage: &str) -> Option<f64> {
        self.stages.get(stage).map(|mean| mean.seconds / mean.count as f64)
    }

    /// About how many bytes a node needs on a device of this kind; nothing while that is not known.
    pub fn memory(&self, graph: &Graph, index: NodeIndex, device: Device) -> Option<u64> {
        let kind = Kind::of(Some(device));
        let of_stage = || self.stages.get(&graph.node(index).stage_name).map(|mean| mean.memory[kind as usize]);
        self.memory.get(&(index, kind)).copied().or_else(of_stage).filter(|bytes| *bytes > 0)
    }

    /// About how many bytes a node leaves; nothing while no node of its stage has ever run.
    pub fn size(&self, graph: &Graph, index: NodeIndex) -> Option<u64> {
        let of_stage = || self.stages.get(&graph.node(index).stage_name).map(|mean| mean.size / mean.count as u64);
        self.sizes.get(&index).copied().or_else(of_stage)
    }

    /// What to start first: microseconds until all that needs the node could be done.
    pub fn priority(&self, index: NodeIndex) -> u64 {
        (self.critical.get(&index).copied().unwrap_or(UNKNOWN_SECONDS) * 1e6) as u64
    }
}
