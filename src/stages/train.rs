//! `train`: trains a prompt on a few-shot sample. Runs in `worker`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Features, Views};
use super::fewshot::FewShot;
use super::pretrain::weights;
use super::{features, fewshot, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::{OnBadImage, SplitPart};
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
            "validation",
            "A `features` stage of the same `shots` with `split = \"val\"`: images by which a method chooses what steps do not \
             find; all others ignore it.",
        ),
        (
            "test",
            "A `features` stage with `split = \"test\"`: images by which published code chooses, for methods that ask for that; all \
             others ignore it.",
        ),
        (
            "features",
            "A `features` stage with `views` of the same `shots`, whose features are taken instead of images by methods with \
             the image tower of plain CLIP in the same precision and with the same augmentation; all others ignore it.",
        ),
    ],
    outputs: &[file("prompt", "prompt.safetensors"), file("log", "training.jsonl")],
    table_parameters: &["method", "backbone"],
    section: Some(Section::Training),
    ..Kind::of::<Train>("train", "Trains a prompt on a few-shot sample.", 6)
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
    /// The learning rate of its steps, or of the last of them.
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
    /// Whether the last bits may be those of this kind of processor, and whether cards may multiply in TF32.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Work for Train {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        self.method.validate()?;
        if !self.method.is_trained() {
            return Err(Error::hinted(
                "a `train` stage has a method that is not trained",
                "leave it out: `exclude = { method = \"...\" }`, and give the `eval` stage the `method`",
            ));
        }
        let mut ports = vec![Port::one("shots", &fewshot::KIND, vec!["classes", "train"]).with_location(), weights()];
        let works_on_features = self.method.learner.works_on_features();
        let takes_features = given.has("features") && self.takes_features(given)?;
        if works_on_features && !takes_features {
            return Err(self.features_wanted(given));
        }
        if takes_features {
            let port = Port::one("features", &features::KIND, vec!["features", "images"]);
            ports.push(port.with_common(&["shots", "weights"]));
        } else if given.has("features") {
            ports.push(Port::unread("features"));
        }
        for (name, split) in [("validation", SplitPart::Val), ("test", SplitPart::Test)] {
            let common: &[&str] = if split.is_test() { &["weights"] } else { &["shots", "weights"] };
            match (self.method.learner.chooses_by().contains(&split), given.has(name)) {
                (true, given_it) => {
                    self.check_choice(name, split, given.work(name).filter(|_| given_it), given)?;
                    let port = Port::one(name, &features::KIND, vec!["features", "images"]);
                    ports.push(port.with_common(common));
                }
                (false, true) => ports.push(Port::unread(name)),
                (false, false) => {}
            }
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
    /// A learner that works behind the towers has no features that it can take.
    fn features_wanted(&self, given: &Given<'_>) -> Error {
        let name = self.method.learner.name();
        match given.has("features") {
            false => Error::hinted(
                format!("`{name}` learns from image features, and this stage has none"),
                "add a `features` stage of the same `shots`, and give it: `features = \"@views\"`",
            ),
            true => Error::hinted(
                format!("`{name}` learns from image features, and those that are given are not of its method"),
                "give both stages the same `precision`, `backbone` and `augmentation`",
            ),
        }
    }

    /// Checks that images by which something is chosen are those of this split and of the classes of the sample.
    fn check_choice(&self, name: &str, split: SplitPart, work: Option<&dyn Work>, given: &Given<'_>) -> Result<()> {
        let learner = self.method.learner.name();
        let classes = given.work("shots").and_then(<dyn Work>::as_kind::<FewShot>).map(|shots| shots.classes);
        let said = if split.is_test() { "test" } else { "val" };
        let hint = format!("give `{name}` a `features` stage with `split = \"{said}\"` and without `views`");
        // Anything but a `features` stage is refused where it is connected.
        let features = work.map(<dyn Work>::as_kind::<Features>);
        match features {
            None => Err(Error::hinted(format!("`{learner}` chooses by {split} images, and this stage has none"), hint)),
            Some(Some(features)) if features.split != split || features.views.is_some() => {
                Err(Error::hinted(format!("`{name}` are not features of whole {split} images"), hint))
            }
            Some(Some(features)) if !features.are_of(&self.method, &self.backbone) => Err(Error::hinted(
                format!("`{name}` are not features of this method's image tower"),
                "give both stages the same `precision` and `backbone`",
            )),
            // Those of a sample have been cut to its classes.
            Some(Some(features)) if split.is_test() && Some(features.classes) != classes => Err(Error::hinted(
                format!("`{name}` are features of {} classes, and the sample has others", features.classes),
                "give both stages the same `classes`",
            )),
            Some(_) => Ok(()),
        }
    }

    /// Whether the features that are given are those of the views that this training sees, made as its image tower would.
    fn takes_features(&self, given: &Given<'_>) -> Result<bool> {
        // Anything but a `features` stage is refused where it is connected.
        let Some(features) = given.work("features").and_then(<dyn Work>::as_kind::<Features>) else { return Ok(true) };
        match features.views {
            None if self.method.augmentation.is_none() && features.split == SplitPart::Train => {
                Ok(features.are_of(&self.method, &self.backbone))
            }
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
            Some(Views { augmentation, .. }) => {
                Ok(augmentation == self.method.augmentation && features.are_of(&self.method, &self.backbone))
            }
        }
    }
}
