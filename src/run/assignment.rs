//! What is to be done for one key, wherever it is done: all that its graph, its pipeline and this run say of it. As a file it
//! can be carried out later, elsewhere, and whatever becomes of the pipeline's files meanwhile.

use std::path::PathBuf;

use petgraph::graph::NodeIndex;
use serde::{Deserialize, Serialize};

use crate::data::PixelCache;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::Result;
use crate::graph::{Graph, Inspector, Records};
use crate::identity;
use crate::store::{CanonicalJson, Reading};
use crate::task::Task;
use crate::tensorboard::{EventFolder, hyper_parameters};

/// What is to be done for one key.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Assignment {
    pub key: Digest,
    pub recipe: CanonicalJson,
    /// The task; whoever takes it adds a scratch folder, threads and a device.
    pub task: Task,
    /// What the key holds of the task's inputs.
    pub readings: Vec<Reading>,
    /// Where the log goes.
    pub log: PathBuf,
}

/// Where things go that are no results.
#[derive(Debug)]
pub(super) struct Kept {
    /// What an unfinished node resumes from.
    pub partial: PathBuf,
    /// Event files.
    pub events: Option<PathBuf>,
    /// Prepared pixels.
    pub pixels: Option<PixelCache>,
    /// What is printed.
    pub log: PathBuf,
}

impl Assignment {
    /// Of a node, whose needs all have a record.
    ///
    /// # Errors
    /// An input cannot be read; [`crate::error::Error::Damaged`] where it is a damaged artifact.
    pub fn new(
        graph: &Graph,
        index: NodeIndex,
        inspector: &Inspector<'_>,
        records: &Records<'_>,
        (key, recipe): (Digest, CanonicalJson),
        kept: Kept,
    ) -> Result<Assignment> {
        let node = graph.node(index);
        let parameters = node.work.parameters();
        let events = kept.events.map(|path| {
            let axes = serde_json::to_value(&*node.coordinates).expect("coordinates are plain data");
            let mut values = hyper_parameters(&parameters);
            values.extend(hyper_parameters(&axes));
            EventFolder { path, key, hyper_parameters: values }
        });
        let task = Task {
            build: identity::BUILD.to_owned(),
            node: node.name.clone(),
            kind: node.work.kind().name.to_owned(),
            parameters,
            outputs: node.work.outputs().to_vec(),
            numerics: node.work.numerics(),
            inputs: inspector.task_inputs(index, records)?,
            scratch: PathBuf::new(),
            partial: kept.partial,
            tensorboard: events,
            pixels: kept.pixels,
            threads: 1,
            device: Device::default(),
        };
        Ok(Assignment { key, recipe, task, readings: inspector.readings(index, records)?, log: kept.log })
    }
}
