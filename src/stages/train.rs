//! `train`: trains a prompt on a few-shot sample. Runs in `worker`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pretrain::weights;
use super::{fewshot, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::OnBadImage;
use crate::error::{Error, Result};
use crate::kind::{Given, Kind, Place, Port, Section, Work, file};
use crate::method::Method;
use crate::numerics::Numerics;

/// Trains a prompt.
pub static KIND: Kind = Kind {
    inputs: &[("shots", "A `fewshot` stage."), ("weights", pretrain::INPUT)],
    outputs: &[file("prompt", "prompt.safetensors"), file("log", "training.jsonl")],
    table_parameters: &["method", "backbone"],
    section: Some(Section::Training),
    ..Kind::of::<Train>("train", "Trains a prompt on a few-shot sample.", 5)
};

/// A line of `training.jsonl`: one epoch. It has no times, so that the log is the same from run to run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// The mean loss of its steps.
    pub loss: f64,
    /// The terms of the loss as they enter the sum, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// The learning rate of its steps.
    pub learning_rate: f64,
}

/// Parameters of a `train` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The learner, its options and how it is trained.
    pub method: Method,
    /// For the learner's random start, the order of the images and their crops.
    pub seed: u64,
    /// What the tensors of `weights` do not tell of the model, where the file does not say it of itself.
    #[serde(default, skip_serializing_if = "BackboneOptions::is_empty")]
    pub backbone: BackboneOptions,
    /// What to do about an image that cannot be decoded.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
    /// Whether the last bits may be those of this kind of processor.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Work for Train {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        self.method.validate()?;
        if self.method.training.is_none() {
            return Err(Error::hinted(
                "a `train` stage has a method that is not trained",
                "leave it out: `exclude = { method = \"...\" }`, and give the `eval` stage the `method`",
            ));
        }
        Ok(vec![Port::one("shots", &fewshot::KIND, vec!["classes", "train"]).with_location(), weights()])
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.numerics)
    }

    fn method(&self) -> Option<&Method> {
        Some(&self.method)
    }

    fn backbone(&self) -> Option<&BackboneOptions> {
        Some(&self.backbone)
    }
}
