//! A model of random weights.

use maple_pipe::backbone::{Backbone, Known, Teller};
use maple_pipe::error::Result;
use maple_pipe::measurement::Request;
use tch::{Device, Kind, Tensor};

use crate::clip::{Architecture, Weights};

/// How many numbers are drawn; they are repeated.
const DRAWN: i64 = 1 << 20;
/// The standard deviation of weights: small enough that nothing overflows in 16 bits.
const DEVIATION: f64 = 0.02;
/// The `logit_scale` of the published models: ln 100.
const LOGIT_SCALE: f64 = 4.605_17;

/// Every tensor of a model. How fast something is computed does not depend on the numbers, as long as these are ordinary ones.
pub(super) fn weights(architecture: &Architecture) -> Weights {
    tch::manual_seed(1);
    let drawn = Tensor::randn([DRAWN], (Kind::Float, Device::Cpu)) * DEVIATION;
    Weights::from_tensors(architecture.tensors().into_iter().map(|(name, shape)| {
        let options = (Kind::Float, Device::Cpu);
        let is_norm = maple_pipe::architecture::is_norm(&name);
        let tensor = match name.as_str() {
            "logit_scale" => Tensor::from(LOGIT_SCALE as f32),
            name if name.ends_with(".running_var") || is_norm && name.ends_with(".weight") => {
                Tensor::ones(&shape, options)
            }
            name if is_norm || name.ends_with("bias") => Tensor::zeros(&shape, options),
            _ => {
                let count: i64 = shape.iter().product();
                drawn.repeat([(count + DRAWN - 1) / DRAWN]).narrow(0, 0, count).reshape(&shape)
            }
        };
        (name, tensor)
    }))
}

/// The model that a request describes.
pub(super) fn backbone(request: &Request) -> Result<Backbone> {
    Known::new(request.architecture, &[(Teller::User, request.backbone)])?.backbone("random weights")
}
