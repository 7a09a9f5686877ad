//! What a run would take, before it is started: time and disk.

use std::collections::{HashMap, HashSet};

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::Options;
use super::estimate::Estimates;
use crate::data::Classes;
use crate::graph::{Graph, Source};
use crate::store::Store;

/// About what the nodes that would run take, if all of them do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// Seconds, with so many nodes at a time as the options allow; none where nothing is known of any node.
    pub seconds: Option<f64>,
    /// Nodes of which nothing is known, since no node of their stage has run before; they are not counted in.
    pub unknown: usize,
    /// Bytes of results.
    pub results: u64,
    /// Bytes of the prepared pixels of evaluation images, at most.
    pub pixels: u64,
}

/// Pixels per side, where the weights do not say before they are read.
const SIDE: u64 = 224;

impl Forecast {
    /// Of the `wanted` nodes, which are in order.
    pub fn new(graph: &Graph, store: &Store, pipeline: &str, wanted: &[NodeIndex], options: &Options) -> Forecast {
        if wanted.is_empty() {
            return Forecast::default();
        }
        let last_keys = store.last_keys(pipeline);
        // The mean of a stage is that of all its nodes, whichever are wanted.
        let estimates = Estimates::new(graph, graph.order(), store, &|name| last_keys.get(name).copied());
        let work = |on_device: bool| -> f64 {
            let nodes = wanted.iter().filter(|&&index| graph.node(index).work.needs_device() == on_device);
            nodes.filter_map(|&index| estimates.seconds(graph, index)).sum()
        };
        let jobs = options.jobs as f64;
        let places =
            options.devices.found().devices.slots().map(|(_, places)| places).sum::<usize>().min(options.jobs) as f64;
        let (on_devices, all) = (work(true), work(true) + work(false));
        let unknown = wanted.iter().filter(|&&index| estimates.seconds(graph, index).is_none()).count();
        Forecast {
            seconds: (unknown < wanted.len())
                .then(|| (all / jobs).max(on_devices / places).max(longest_chain(graph, wanted, &estimates))),
            unknown,
            results: wanted.iter().filter_map(|&index| estimates.size(graph, index)).sum(),
            pixels: if options.pixel_cache { pixels(graph, wanted) } else { 0 },
        }
    }
}

/// The seconds of the nodes that can only run one after another.
fn longest_chain(graph: &Graph, wanted: &[NodeIndex], estimates: &Estimates) -> f64 {
    let mut ends = HashMap::new();
    for &index in wanted {
        let start = graph.needs(index).filter_map(|needed| ends.get(&needed)).copied().fold(0.0, f64::max);
        ends.insert(index, start + estimates.seconds(graph, index).unwrap_or(0.0));
    }
    ends.into_values().fold(0.0, f64::max)
}

/// The bytes of the pixels that evaluations prepare, once for each image and size.
fn pixels(graph: &Graph, wanted: &[NodeIndex]) -> u64 {
    let lists: HashSet<(NodeIndex, u64, Classes)> = wanted
        .iter()
        .filter_map(|&index| {
            let node = graph.node(index);
            let has = |port: &str| node.inputs.iter().any(|input| input.is_of(port));
            let classes = node.work.decodes(&has)?;
            let source = |port: &str| {
                let input = node.inputs.iter().find(|input| input.is_of(port))?;
                if let Source::Output(index, _) = input.source { Some(index) } else { None }
            };
            let side = source("weights").and_then(|weights| graph.node(weights).work.image_size()).unwrap_or(SIDE);
            Some((source("dataset")?, side, classes))
        })
        .collect();
    let holds = |&(dataset, side, classes): &(NodeIndex, u64, Classes)| {
        // Base and novel classes are among all of them.
        classes == Classes::All || !lists.contains(&(dataset, side, Classes::All))
    };
    let bytes = |&(dataset, side, classes): &(NodeIndex, u64, Classes)| {
        graph.node(dataset).work.test_images(classes).unwrap_or(0) * 3 * side * side
    };
    lists.iter().filter(|list| holds(list)).map(bytes).sum()
}
