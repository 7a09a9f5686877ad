//! `fewshot`: draws the few-shot sample of a data set as the published code does: over all classes first, then cut.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Index, Kind, Output, PathPort, Port, Takes, Task, output};
use crate::data::{Classes, Split, few_shot};
use crate::error::Result;

pub(super) const VERSION: u32 = 1;
pub(super) static OUTPUTS: [Output; 3] =
    [output("train", "train.json"), output("val", "val.json"), output("classes", "classes.json")];

/// Parameters of a `fewshot` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// Training images a class.
    pub shots: NonZeroUsize,
    /// For Python's `random`, as in the published code.
    pub seed: u64,
    /// The classes that are kept.
    #[serde(default = "all")]
    pub classes: Classes,
}

fn all() -> Classes {
    Classes::All
}

pub(super) fn ports() -> Vec<Port> {
    vec![Port {
        name: "dataset".into(),
        from: Takes::Outputs(Kind::Dataset, vec!["classes", "train", "val"]),
        many: false,
        axes: None,
        location: true,
        path: PathPort::Refused,
    }]
}

impl FewShot {
    pub(super) fn run(&self, task: &Task) -> Result<String> {
        let class_names: Vec<String> = task.json("dataset.classes")?;
        let (train, val): (Index, Index) = (task.json("dataset.train")?, task.json("dataset.val")?);
        let sample = few_shot(&Split { train, val, test: Vec::new() }, self.shots, self.seed);
        let train = self.classes.select(&sample.train, class_names.len());
        task.write_json("train", &train)?;
        task.write_json("val", &self.classes.select(&sample.val, class_names.len()))?;
        task.write_json("classes", &self.classes.names(&class_names))?;
        Ok(format!("{} images", train.len()))
    }
}
