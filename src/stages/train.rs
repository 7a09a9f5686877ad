//! `train`: trains a prompt on a few-shot sample. Runs in `worker`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Features, Views};
use super::pretrain::weights;
use super::{features, fewshot, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::OnBadImage;
use crate::error::{Error, Result};
use crate::kind::{Given, Kind, Place, Port, Section, Work, file};
use crate::method::{Method, Precision};
use crate::numerics::Numerics;

/// Trains a prompt.
pub static KIND: Kind = Kind {
    inputs: &[
        ("shots", "A `fewshot` stage."),
        ("weights", pretrain::INPUT),
        (
            "features",
            "A `features` stage with `views` of the same `shots`, whose features are taken instead of images by methods with \
             the image tower of plain CLIP in the same precision; all others ignore it.",
        ),
    ],
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

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        self.method.validate()?;
        if self.method.training.is_none() {
            return Err(Error::hinted(
                "a `train` stage has a method that is not trained",
                "leave it out: `exclude = { method = \"...\" }`, and give the `eval` stage the `method`",
            ));
        }
        let mut ports = vec![Port::one("shots", &fewshot::KIND, vec!["classes", "train"]).with_location(), weights()];
        if given.has("features") {
            ports.push(if self.takes_features(given)? {
                Port::one("features", &features::KIND, vec!["features", "images"]).with_common(&["shots", "weights"])
            } else {
                Port::unread("features")
            });
        }
        Ok(ports)
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.numerics)
    }

    fn method(&self) -> Option<&Method> {
        Some(&self.method)
    }

    fn precision(&self) -> Option<(Precision, &'static str)> {
        Some((self.method.precision, "method.precision"))
    }

    fn backbone(&self) -> Option<&BackboneOptions> {
        Some(&self.backbone)
    }
}

impl Train {
    /// Whether the features that are given are those of the views that this training sees, made as its image tower would.
    fn takes_features(&self, given: &Given<'_>) -> Result<bool> {
        // Anything but a `features` stage is refused where it is connected.
        let Some(features) = given.work("features").and_then(<dyn Work>::as_kind::<Features>) else { return Ok(true) };
        match features.views {
            None => Err(Error::hinted(
                "`features` are those of whole images, and a training sees random views of them",
                "give that stage `views = { epochs = 10, seed = \"{seed}\" }`, with the seed of this one",
            )),
            Some(Views { seed, .. }) if seed != self.seed => Err(Error::hinted(
                format!(
                    "`features` are those of views drawn with seed {seed}, and this training has seed {}",
                    self.seed
                ),
                "give both stages the same seed",
            )),
            Some(_) => Ok(features.are_of(&self.method, &self.backbone)),
        }
    }
}
