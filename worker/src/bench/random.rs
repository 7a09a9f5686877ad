//! A model of random weights.

use maple_pipe::backbone::{Backbone, Known, Teller};
use maple_pipe::error::Result;
use maple_pipe::measurement::Request;
use tch::{Device, Kind, Tensor};

use crate::clip::{Architecture, Clip, Weights};
use crate::method::Labelled;

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

/// Features of so many images of each class, which lie around one of the class's own; its seed is a number.
pub(super) fn features(clip: &Clip, classes: usize, images_per_class: i64, seed: i64) -> Labelled {
    let (options, classes) = ((Kind::Float, Device::Cpu), classes as i64);
    let embedding = clip.architecture().embedding;
    tch::manual_seed(1);
    let centres = Tensor::randn([classes, embedding], options);
    tch::manual_seed(seed);
    let labels = Tensor::arange(classes, (Kind::Int64, Device::Cpu)).repeat([images_per_class]);
    let features = centres.index_select(0, &labels) + Tensor::randn([labels.size()[0], embedding], options);
    Labelled {
        features: features.to_kind(clip.kind()).to_device(clip.device()),
        labels: labels.to_device(clip.device()),
    }
}

/// The model that a request describes.
pub(super) fn backbone(request: &Request) -> Result<Backbone> {
    Known::new(request.architecture, &[(Teller::User, request.backbone)])?.backbone("random weights")
}
