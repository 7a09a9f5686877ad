//! `train`: trains a prompt on a few-shot sample. Runs in `worker`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, PathPort, Port, Takes, output};
use crate::data::OnBadImage;
use crate::error::{Error, Result};
use crate::method::Method;
use crate::numerics::Numerics;
use crate::store::Output;

pub(super) const VERSION: u32 = 4;
pub(super) static OUTPUTS: [Output; 2] = [output("prompt", "prompt.safetensors"), output("log", "training.jsonl")];

/// Parameters of a `train` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The learner, its options and how it is trained.
    pub method: Method,
    /// For the learner's random start, the order of the images and their crops.
    pub seed: u64,
    /// What to do about an image that cannot be decoded.
    #[serde(default)]
    pub on_bad_image: OnBadImage,
    /// Whether the last bits may be those of this kind of processor.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Train {
    pub(super) fn ports(&self) -> Result<Vec<Port>> {
        self.method.validate()?;
        if self.method.training.is_none() {
            return Err(Error::hinted(
                "a `train` stage has a method that is not trained",
                "leave it out: `exclude = { method = \"...\" }`, and give the `eval` stage the `method`",
            ));
        }
        Ok(vec![
            Port {
                name: "shots".into(),
                from: Takes::Outputs(Kind::FewShot, vec!["classes", "train"]),
                many: false,
                axes: None,
                location: true,
                path: PathPort::Refused,
            },
            weights(),
        ])
    }
}

/// The CLIP weights that a stage works with.
pub(super) fn weights() -> Port {
    Port {
        name: "weights".into(),
        from: Takes::Outputs(Kind::Pretrain, vec!["weights"]),
        many: false,
        axes: None,
        location: false,
        path: PathPort::File,
    }
}
