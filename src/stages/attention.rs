//! `attention`: where the class token of a vision transformer looks in some test images, with a trained prompt or without.
//! Runs in `worker`.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::test_output;
use super::eval::learner_ports;
use super::pretrain::weights;
use super::{dataset, pretrain};
use crate::backbone::BackboneOptions;
use crate::data::Classes;
use crate::error::Result;
use crate::kind::{Given, Kind, Place, Port, Section, Work, file};
use crate::method::{Method, Precision};
use crate::numerics::Numerics;

/// Shows where the class token looks in some test images.
pub static KIND: Kind = Kind {
    inputs: &[
        ("dataset", "A `dataset` stage."),
        ("prompt", "A `train`, `imported` or `chosen` stage, or the file of a trained prompt."),
        ("weights", pretrain::INPUT),
    ],
    outputs: &[file("maps", "maps.json")],
    table_parameters: &["method", "backbone"],
    section: Some(Section::Attention),
    ..Kind::of::<Attention>("attention", "Shows where the class token looks in some test images.", 1)
};

/// Parameters of an `attention` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// So many test images: the first one of each of as many classes, at equal distances in the list of classes.
    #[serde(default = "four")]
    pub images: NonZeroUsize,
    /// The classes whose images are taken.
    #[serde(default)]
    pub classes: Classes,
    /// A method that needs no training (zero-shot); a trained prompt brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// What the tensors of `weights` do not tell of the model, where the file does not say it of itself.
    #[serde(default, skip_serializing_if = "BackboneOptions::is_empty")]
    pub backbone: BackboneOptions,
    /// Whether the last bits may be those of this kind of processor, and whether cards may multiply in TF32.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

fn four() -> NonZeroUsize {
    NonZeroUsize::new(4).expect("it is not zero")
}

impl Work for Attention {
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

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let (prompt, inputs) = learner_ports(&KIND, self.method.as_ref(), given)?;
        let reads = ["classes", test_output(self.classes)].into_iter().chain(inputs).collect();
        let dataset = Port::one("dataset", &dataset::KIND, reads).with_location();
        Ok([weights()].into_iter().chain(prompt).chain([dataset]).collect())
    }
}
