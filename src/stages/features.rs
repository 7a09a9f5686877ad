//! `features`: what the image tower of plain CLIP makes of a list of images, computed once for every evaluation that compares
//! the same images with other texts, or of their random views, for every training that sees these. Runs in `worker`.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::test_output;
use super::pretrain::weights;
use super::{dataset, fewshot, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::{Augmentation, Classes, OnBadImage, SplitPart};
use crate::error::{Error, Result};
use crate::kind::{Given, Kind, Place, Port, Section, Work, file};
use crate::method::{Input, Method, Precision};
use crate::numerics::Numerics;

/// Computes image features once for all methods, seeds and class subsets.
pub static KIND: Kind = Kind {
    inputs: &[
        ("dataset", "A `dataset` stage, of which the images of a split are taken."),
        (
            "shots",
            "A `fewshot` stage, of which the images are taken, without augmentation unless `views` are asked for.",
        ),
        ("weights", pretrain::INPUT),
    ],
    table_parameters: &["backbone", "method"],
    section: Some(Section::Features),
    outputs: &[file("features", "features.safetensors"), file("images", "images.json")],
    ..Kind::of::<Features>("features", "Computes what the image tower of plain CLIP makes of images.", 3)
};

/// The tensor in the file of features.
pub const TENSOR: &str = "features";
/// The tensor with the features of the classes' texts, each of length one, where a method was given.
pub const TEXTS: &str = "texts";

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
    /// A method that needs no training, e.g. zero-shot CLIP: the features of its texts of the classes are kept, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// In place of the whole images, their random views as trainings with this seed see them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
    /// What to do about an image that cannot be decoded.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
    /// Whether the last bits may be those of this kind of processor, and whether cards may multiply in TF32.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

/// Random crops, mirrored or not, of the images of a few-shot sample.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// As many views of each image. A training with more epochs computes the others itself, so as many are enough as two
    /// trainings have in common; one that works on features alone begins with the first view again.
    pub epochs: NonZeroU32,
    /// The seed of the trainings.
    pub seed: u64,
    /// How the trainings change their images at random.
    #[serde(default, skip_serializing_if = "Augmentation::is_default")]
    pub augmentation: Augmentation,
}

/// The input with the list of images: of a few-shot sample, or of a data set.
pub fn list(split: SplitPart, classes: Classes, from_shots: bool) -> String {
    format!("{}.{}", if from_shots { "shots" } else { "dataset" }, list_output(split, classes))
}

/// The output of a `dataset` or `fewshot` stage that lists the images.
pub(super) fn list_output(split: SplitPart, classes: Classes) -> &'static str {
    match split {
        SplitPart::Train => "train",
        SplitPart::Val => "val",
        SplitPart::Test => test_output(classes),
    }
}

/// Whether the images are those of a few-shot sample and not of a data set.
///
/// # Errors
/// Both are given, or the sample has no such images.
pub(super) fn takes_shots(kind: &Kind, split: SplitPart, given: &Given<'_>) -> Result<bool> {
    match (given.has("dataset"), given.has("shots")) {
        (true, true) => Err(Error::hinted(
            format!("a stage of kind `{}` takes the images of a `dataset` or of `shots`, not of both", kind.name),
            "remove one of the two inputs",
        )),
        (false, true) if split.is_test() => Err(Error::hinted(
            "`split` is `test`, of which a few-shot sample has no images",
            "`split = \"train\"` takes the images of the sample, `split = \"val\"` those to choose parameters by",
        )
        .about("split")),
        (_, shots) => Ok(shots),
    }
}

impl Features {
    /// The outputs of a data set that the texts of a method are made of.
    fn texts(&self, method: &Method) -> Result<Vec<&'static str>> {
        method.validate()?;
        if method.is_trained() {
            return Err(Error::hinted(
                "the texts of this `method` are learned",
                "give one that needs no training: `method = \"methods/clip.toml\"`",
            )
            .about("method"));
        }
        if method.precision != self.precision {
            let message = format!("`method` computes in {}, the stage in {}", method.precision, self.precision);
            return Err(Error::hinted(message, "give both the same `precision`").about("precision"));
        }
        Ok(method.learner.inputs().into_iter().map(Input::output).collect())
    }

    /// Whether a model computes the same features itself.
    pub(super) fn are_of(&self, method: &Method, backbone: &BackboneOptions) -> bool {
        method.learner.has_plain_vision() && method.precision == self.precision && self.backbone == *backbone
    }
}

impl Work for Features {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let output = list_output(self.split, self.classes);
        let from_shots = takes_shots(&KIND, self.split, given)?;
        self.views.map_or(Ok(()), |views| views.augmentation.validate())?;
        if from_shots && self.classes != Classes::All {
            return Err(Error::hinted(
                "`classes` is not for a few-shot sample, which has been cut to its classes",
                "remove `classes`, or say it in the `fewshot` stage",
            )
            .about("classes"));
        }
        if self.views.is_some() && !(from_shots && self.split == SplitPart::Train) {
            return Err(Error::hinted(
                "`views` are what trainings see, which are images of a few-shot sample to train on",
                "give `shots` in place of `dataset`, and `split = \"train\"`",
            )
            .about("views"));
        }
        if from_shots && self.method.is_some() {
            return Err(Error::hinted(
                "a few-shot sample has no template, which a `method` needs",
                "give `dataset` in place of `shots`, or remove `method`",
            )
            .about("method"));
        }
        let texts = self.method.as_ref().map_or(Ok(Vec::new()), |method| self.texts(method))?;
        let images = if from_shots {
            Port::one("shots", &fewshot::KIND, vec![output])
        } else {
            Port::one("dataset", &dataset::KIND, ["classes", output].into_iter().chain(texts).collect())
        };
        Ok(vec![weights(), images.with_location()])
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.numerics)
    }

    fn precision(&self) -> Option<(Precision, &'static str)> {
        Some((self.precision, "precision"))
    }

    fn backbone(&self) -> Option<&BackboneOptions> {
        Some(&self.backbone)
    }

    fn decodes(&self, has: &dyn Fn(&str) -> bool) -> Option<Classes> {
        (self.split == SplitPart::Test && has("dataset")).then_some(self.classes)
    }
}
