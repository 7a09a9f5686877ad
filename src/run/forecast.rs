//! What a run would take, before it is started: time and disk.

use std::collections::{HashMap, HashSet};

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::Options;
use super::estimate::Estimates;
use crate::data::Classes;
use crate::graph::{Graph, Load, Plan};
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
    /// What is done with images and texts, as far as manifests tell.
    pub passes: Passes,
    /// The same by scripts, each of which decodes all its images and computes all its features, as the published ones do.
    pub passes_by_scripts: Passes,
    /// Nodes that compute with libtorch and are in neither, because no manifest says how much that is.
    pub passes_unknown: usize,
}

/// What is to be done with images and texts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Passes {
    /// Image files to decode; what several few-shot samples share is counted for each of them.
    pub images_decoded: u64,
    /// Images to run through the image tower, in trainings forward and backward.
    pub image_passes: u64,
    /// Prompts to run through the text tower, in trainings forward and backward.
    pub text_passes: u64,
}

/// Pixels per side, where the weights do not say before they are read.
const SIDE: u64 = 224;

impl Forecast {
    /// Of the `wanted` nodes, which are in order; what is fresh, the plan knows.
    pub fn new(
        graph: &Graph,
        store: &Store,
        pipeline: &str,
        plan: &Plan,
        wanted: &[NodeIndex],
        options: &Options,
    ) -> Forecast {
        if wanted.is_empty() {
            return Forecast::default();
        }
        let last_keys = store.last_keys(pipeline);
        // The mean of a stage is that of all its nodes, whichever are wanted.
        let last_record = |index| match plan.shared_record(index) {
            Some(record) => Some(record.clone()),
            None => store.record(last_keys.get(&graph.node(index).name)?),
        };
        let estimates = Estimates::new(graph, graph.order(), &last_record);
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
            passes: passes(graph, wanted, options.pixel_cache),
            passes_by_scripts: passes_by_scripts(graph, wanted),
            passes_unknown: wanted
                .iter()
                .filter(|&&index| graph.node(index).work.uses_libtorch() && graph.load(index).is_none())
                .count(),
        }
    }
}

/// What nodes do with images and texts.
fn passes(graph: &Graph, wanted: &[NodeIndex], pixel_cache: bool) -> Passes {
    let mut passes = Passes::default();
    let mut samples = HashSet::new();
    for &index in wanted {
        let Some(load) = graph.load(index) else { continue };
        passes.image_passes += load.image_passes() as u64;
        passes.text_passes += load.text_passes() as u64;
        let reads_pixels = load.image_passes() > 0;
        match graph.node(index).source("shots") {
            // Nodes share what is prepared of a sample.
            Some(shots) if reads_pixels && (samples.insert((shots, load.images())) || !pixel_cache) => {
                passes.images_decoded += load.images() as u64;
            }
            None if reads_pixels && !pixel_cache => passes.images_decoded += load.images() as u64,
            _ => {}
        }
    }
    if pixel_cache {
        passes.images_decoded += evaluation_images(graph, wanted).map(|(images, _)| images).sum::<u64>();
    }
    passes
}

/// Images at a time in the published evaluations.
const PUBLISHED_BATCH: usize = 100;

/// What scripts do in place of these nodes. A training decodes each image in each of its epochs; an evaluation decodes all its
/// images and runs them through the image tower, and learned prompts through the text tower with every batch.
fn passes_by_scripts(graph: &Graph, wanted: &[NodeIndex]) -> Passes {
    let mut passes = Passes::default();
    for load in wanted.iter().filter_map(|&index| graph.load(index)) {
        let (images, texts) = match load {
            // They keep no features.
            Load::Features { .. } => continue,
            Load::Training { .. } => (load.steps() * load.batch(), load.text_passes()),
            Load::Evaluation { method, images, .. } => {
                let is_learned = method.learner.learns_text() && !method.learner.has_texts_per_image();
                let times = if is_learned { images.div_ceil(PUBLISHED_BATCH) } else { 1 };
                (images, load.text_passes() * times)
            }
        };
        passes.images_decoded += images as u64;
        passes.image_passes += (images * load.image_towers()) as u64;
        passes.text_passes += texts as u64;
    }
    passes
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
    evaluation_images(graph, wanted).map(|(images, side)| images * 3 * side * side).sum()
}

/// The lists of images that evaluations prepare, each image in one of them: how many, and pixels per side.
fn evaluation_images(graph: &Graph, wanted: &[NodeIndex]) -> impl Iterator<Item = (u64, u64)> {
    let lists: HashSet<(NodeIndex, u64, Classes)> = wanted
        .iter()
        .filter_map(|&index| {
            let node = graph.node(index);
            let has = |port: &str| node.inputs.iter().any(|input| input.is_of(port));
            let classes = node.work.decodes(&has)?;
            let side = node.source("weights").and_then(|weights| graph.node(weights).work.image_size()).unwrap_or(SIDE);
            Some((node.source("dataset")?, side, classes))
        })
        .collect();
    // Base and novel classes are among all of them.
    let whole: HashSet<(NodeIndex, u64)> =
        lists.iter().filter(|list| list.2 == Classes::All).map(|&(dataset, side, _)| (dataset, side)).collect();
    let holds = move |list: &(NodeIndex, u64, Classes)| list.2 == Classes::All || !whole.contains(&(list.0, list.1));
    lists
        .into_iter()
        .filter(holds)
        .map(|(dataset, side, classes)| (graph.node(dataset).work.test_images(classes).unwrap_or(0), side))
}
