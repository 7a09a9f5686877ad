//! `eval`: a trained prompt, or zero-shot CLIP, on test images, or on validation images to choose by: accuracy and macro F1, the same by class, and every image's
//! prediction. Runs in `worker`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Features, list_output, takes_shots};
use super::fewshot::FewShot;
use super::pretrain::weights;
use super::{dataset, features, fewshot, pretrain, train};
use crate::backbone::BackboneOptions;
use crate::data::{Classes, OnBadImage, SplitPart};
use crate::error::{Error, Result};
use crate::kind::{Given, Kind, PathPort, Place, Port, Section, Work, file};
use crate::method::{Input, Method, Precision};
use crate::numerics::Numerics;

/// Measures a trained prompt, or zero-shot CLIP, on test or validation images.
pub static KIND: Kind = Kind {
    inputs: &[
        ("dataset", "A `dataset` stage."),
        ("shots", "A `fewshot` stage, in place of `dataset`: its validation images, with `split = \"val\"`."),
        ("prompt", "A `train`, `imported` or `chosen` stage, or the file of a trained prompt."),
        ("weights", pretrain::INPUT),
        (
            "features",
            "A `features` stage, whose features are taken instead of images by methods with the image tower of plain CLIP in the \
             same precision; all others ignore it.",
        ),
    ],
    outputs: &[
        file("metrics", "metrics.json"),
        file("per-class", "per-class.csv"),
        file("predictions", "predictions.csv"),
    ],
    table_parameters: &["method", "backbone"],
    section: Some(Section::Evaluation),
    ..Kind::of::<Eval>("eval", "Measures a trained prompt, or zero-shot CLIP, on test or validation images.", 4)
};

/// Parameters of an `eval` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// The classes to tell apart; of a few-shot sample, those that it was cut to.
    pub classes: Classes,
    /// Which images: those of `test` are for results, those of `val` for choices.
    #[serde(default, skip_serializing_if = "SplitPart::is_test")]
    pub split: SplitPart,
    /// A method that needs no training (zero-shot); a trained prompt brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
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

impl Work for Eval {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.numerics)
    }

    fn precision(&self) -> Option<(Precision, &'static str)> {
        Some((self.method.as_ref()?.precision, "method.precision"))
    }

    fn backbone(&self) -> Option<&BackboneOptions> {
        Some(&self.backbone)
    }

    fn classes(&self) -> Option<Classes> {
        Some(self.classes)
    }

    fn decodes(&self, has: &dyn Fn(&str) -> bool) -> Option<Classes> {
        (!has("features") && self.split.is_test()).then_some(self.classes)
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let from_shots = takes_shots(&KIND, self.split, given)?;
        let (prompt, inputs) = learner_ports(&KIND, self.method.as_ref(), given)?;
        let reads = ["classes", list_output(self.split, self.classes)].into_iter().chain(inputs).collect();
        let mut ports: Vec<Port> = [weights()].into_iter().chain(prompt).collect();
        if from_shots {
            self.check_shots(given)?;
            ports.push(Port::one("shots", &fewshot::KIND, reads).with_location());
        } else {
            ports.push(Port::one("dataset", &dataset::KIND, reads).with_location());
        }
        if given.has("features") {
            ports.push(if self.split.is_test() && self.takes_features(given)? {
                Port::one("features", &features::KIND, vec!["features", "images"]).with_common(&["dataset", "weights"])
            } else {
                Port::unread("features")
            });
        }
        Ok(ports)
    }
}

/// What a stage of this kind takes that works with a trained prompt or with a method that needs no training: its port for the
/// prompt, and the outputs of a data set that the method reads beside others.
///
/// # Errors
/// It is given both or none, or the method makes no sense or must be trained.
pub(super) fn learner_ports(
    kind: &Kind,
    method: Option<&Method>,
    given: &Given<'_>,
) -> Result<(Option<Port>, Vec<&'static str>)> {
    if let Some(method) = method {
        method.validate()?;
    }
    match (method, given.has("prompt")) {
        (None, true) => {
            Ok((Some(Port::one("prompt", &train::KIND, vec!["prompt"]).or_path(PathPort::File)), Vec::new()))
        }
        (Some(method), false) if !method.is_trained() => {
            Ok((None, method.learner.inputs().into_iter().map(Input::output).collect()))
        }
        (Some(_), false) => Err(Error::hinted(
            "this `method` must be trained before it is evaluated",
            "add a `train` stage and give its prompt: `prompt = \"@train\"`",
        )),
        (Some(_), true) => Err(Error::hinted("`prompt` brings its own method", "remove `method` or `prompt`")),
        (None, false) => Err(Error::hinted(
            format!("an `{}` stage needs a `prompt` or a `method`", kind.name),
            "`prompt = \"@train\"` for a trained prompt, `method = \"methods/clip.toml\"` for zero-shot",
        )),
    }
}

impl Eval {
    /// A few-shot sample has what is needed.
    fn check_shots(&self, given: &Given<'_>) -> Result<()> {
        if self.method.is_some() {
            return Err(Error::hinted(
                "a few-shot sample has no template, which a `method` without training needs",
                "give `dataset` in place of `shots`",
            ));
        }
        match given.work("shots").and_then(<dyn Work>::as_kind::<FewShot>) {
            Some(sample) if sample.classes != self.classes => Err(Error::hinted(
                format!("`shots` was cut to {} classes, but {} classes are told apart", sample.classes, self.classes),
                "give both stages the same `classes`",
            )
            .about("classes")),
            _ => Ok(()),
        }
    }

    /// Whether the features that are given are those which the method's image tower would compute.
    fn takes_features(&self, given: &Given<'_>) -> Result<bool> {
        // Anything but a `features` stage is refused where it is connected.
        let Some(features) = given.work("features").and_then(<dyn Work>::as_kind::<Features>) else { return Ok(true) };
        let prompt = given.work("prompt");
        let Some(method) = self.method.as_ref().or_else(|| prompt?.method()) else {
            // Which prompt a `chosen` stage or a command leaves shows later.
            if prompt.is_some() {
                return Ok(false);
            }
            return Err(Error::hinted(
                "`features` cannot be taken for a prompt from a file, whose method is not known before it is read",
                "remove `features`",
            ));
        };
        if !features.split.is_test() {
            return Err(Error::hinted("`features` are not those of test images", "give that stage `split = \"test\"`"));
        }
        if ![Classes::All, self.classes].contains(&features.classes) {
            return Err(Error::hinted(
                format!(
                    "`features` are those of {} classes, but {} classes are told apart",
                    features.classes, self.classes
                ),
                "give both stages the same `classes`",
            ));
        }
        Ok(features.are_of(method, &self.backbone))
    }
}
