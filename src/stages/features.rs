//! `features`: what the image tower of plain CLIP makes of a list of images, computed once for every evaluation that compares
//! the same images with other texts. Runs in `worker`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::test_output;
use super::pretrain::weights;
use super::{dataset, fewshot, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::{Classes, OnBadImage};
use crate::error::{Error, Result};
use crate::kind::{Given, Kind, Place, Port, Work, file};
use crate::method::Precision;
use crate::numerics::Numerics;

/// Computes image features once for all methods, seeds and class subsets.
pub static KIND: Kind = Kind {
    inputs: &[
        ("dataset", "A `dataset` stage, of which the images of a split are taken."),
        ("shots", "A `fewshot` stage, of which the images are taken, without augmentation."),
        ("weights", pretrain::INPUT),
    ],
    table_parameters: &["backbone"],
    outputs: &[file("features", "features.safetensors"), file("images", "images.json")],
    ..Kind::of::<Features>("features", "Computes what the image tower of plain CLIP makes of images.", 1)
};

/// Parameters of a `features` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Which images of the data set, or of the few-shot sample.
    #[serde(default)]
    pub split: SplitPart,
    /// The classes of the data set whose images are taken; a few-shot sample has its own.
    #[serde(default)]
    pub classes: Classes,
    /// The number formats in which the image tower computes: those of the methods that take the features.
    #[serde(default)]
    pub precision: Precision,
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

/// A part of a data set's split.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitPart {
    /// The training images.
    Train,
    /// The validation images.
    Val,
    /// The test images.
    #[default]
    Test,
}

impl Features {
    /// The input with the list of images.
    pub fn list(&self, from_shots: bool) -> String {
        format!("{}.{}", if from_shots { "shots" } else { "dataset" }, self.output())
    }

    /// The output of the stage referred to that lists the images.
    fn output(&self) -> &'static str {
        match self.split {
            SplitPart::Train => "train",
            SplitPart::Val => "val",
            SplitPart::Test => test_output(self.classes),
        }
    }
}

impl Work for Features {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let images = match (given.has("dataset"), given.has("shots")) {
            (true, true) => {
                return Err(Error::hinted(
                    "a `features` stage takes the images of a `dataset` or of `shots`, not of both",
                    "remove one of the two inputs",
                ));
            }
            (_, false) => Port::one("dataset", &dataset::KIND, vec!["classes", self.output()]),
            (false, true) if self.split == SplitPart::Test => {
                return Err(Error::hinted(
                    "`split` is `test`, of which a few-shot sample has no images",
                    "`split = \"train\"` takes the images of the sample",
                )
                .about("split"));
            }
            (false, true) if self.classes != Classes::All => {
                return Err(Error::hinted(
                    "`classes` is not for a few-shot sample, which has been cut to its classes",
                    "remove `classes`, or say it in the `fewshot` stage",
                )
                .about("classes"));
            }
            (false, true) => Port::one("shots", &fewshot::KIND, vec![self.output()]),
        };
        Ok(vec![weights(), images.with_location()])
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.numerics)
    }

    fn backbone(&self) -> Option<&BackboneOptions> {
        Some(&self.backbone)
    }

    fn decodes(&self, has: &dyn Fn(&str) -> bool) -> Option<Classes> {
        (self.split == SplitPart::Test && has("dataset")).then_some(self.classes)
    }
}
