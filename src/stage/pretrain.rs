//! `pretrain`: trains a small CLIP on captioned images of the embedded world. Runs in `worker`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, PathPort, Port, Takes, output};
use crate::error::Result;
use crate::method::Pretraining;
use crate::store::Output;

pub(super) const VERSION: u32 = 3;
pub(super) static OUTPUTS: [Output; 1] = [output("weights", "weights.safetensors")];

/// Parameters of a `pretrain` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Pretrain(pub Pretraining);

impl Pretrain {
    pub(super) fn ports(&self) -> Result<Vec<Port>> {
        self.0.validate()?;
        Ok(vec![Port {
            name: "captioned".into(),
            from: Takes::Outputs(Kind::World, vec!["files"]),
            many: false,
            axes: None,
            location: false,
            path: PathPort::Refused,
        }])
    }
}
