//! The gradients of a batch, computed by several threads with the same bits as by one.
//!
//! A batch is cut into a fixed number of parts. The towers run on the parts in parallel; the loss needs all features,
//! so it is computed from their values in one place, and its gradients for the features then go back through the towers
//! in parallel (as in Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup"). The
//! parts and the order of their sum never change, so the number of threads changes nothing, as long as libtorch uses
//! one thread for each operation.

use crate::clip::{Clip, Weights, normalised};
use maple_pipe::backbone::Backbone;
use maple_pipe::error::Result;
use maple_pipe::method::Precision;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Parts of a batch.
const PARTS: usize = 2;

/// The model once for each part of a batch; all share the tensors that are trained.
pub(super) struct Replicas(Vec<Replica>);

/// The model, and the features of its part of the batch.
struct Replica {
    clip: Clip,
    /// Of images and texts, of length 1, `(part of the batch, embedding)` each.
    features: [Tensor; 2],
}

impl Replicas {
    /// Fails if `parameters` are not those of a CLIP.
    pub(super) fn new(parameters: &[(String, Tensor)], device: Device) -> Result<Replicas> {
        let replica = |_| {
            let tensors = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            let weights = Weights::from_tensors(tensors);
            let backbone = Backbone::openai(weights.shapes().architecture()?);
            let clip = Clip::from_weights(&weights, &backbone, device, Precision::Fp32)?;
            Ok(Replica { clip, features: [Tensor::new(), Tensor::new()] })
        };
        (0..PARTS).map(replica).collect::<Result<_>>().map(Replicas)
    }

    /// The loss of a batch, and its gradients in the order of the model's parameters; `draw` makes the images and the
    /// token ids of a part.
    pub(super) fn gradients(
        &mut self,
        batch: &[usize],
        draw: impl Fn(&[usize]) -> (Tensor, Tensor) + Sync,
    ) -> (f64, Vec<Tensor>) {
        let length = batch.len().div_ceil(PARTS);
        self.0.par_iter_mut().zip(batch.par_chunks(length)).for_each(|(replica, part)| {
            let (images, tokens) = draw(part);
            let features = [replica.clip.image_features(&images), replica.clip.text_features(&tokens)];
            replica.features = features.map(|features| normalised(&features));
        });
        let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
        let features = |side: usize| {
            let parts: Vec<&Tensor> = self.0.iter().map(|replica| &replica.features[side]).collect();
            leaf(Tensor::cat(&parts, 0))
        };
        let inputs = [features(0), features(1), leaf(self.0[0].clip.logit_scale())];
        let loss = contrastive_loss(&inputs);
        let outer = Tensor::run_backward(&[&loss], &inputs, false, false);
        (loss.double_value(&[]), self.backward(&outer, length as i64))
    }

    /// The parameters' gradients for the loss's gradients for the features of images and texts and for the scale.
    fn backward(&mut self, outer: &[Tensor], length: i64) -> Vec<Tensor> {
        let share = |side: usize| outer[side].split(length, 0).into_iter();
        let shares = share(0).zip(share(1)).map(|(images, texts)| ([images, texts], &outer[2] / PARTS as f64));
        let mut work: Vec<_> = self.0.iter_mut().zip(shares).collect();
        let parts: Vec<Vec<Tensor>> =
            work.par_iter_mut().map(|(replica, (features, scale))| replica.backward(features, scale)).collect();
        let sum = |sum: Vec<Tensor>, part: Vec<Tensor>| sum.iter().zip(&part).map(|(a, b)| a + b).collect();
        parts.into_iter().reduce(sum).unwrap_or_default()
    }
}

impl Replica {
    /// The parameters' gradients, given those of the features and of the scale.
    fn backward(&mut self, features: &[Tensor; 2], scale: &Tensor) -> Vec<Tensor> {
        let products = |side: usize| (&self.features[side] * &features[side]).sum(Kind::Float);
        let loss = products(0) + products(1) + self.clip.logit_scale() * scale;
        let inputs: Vec<&Tensor> = self.clip.parameters().iter().map(|(_, tensor)| tensor).collect();
        Tensor::run_backward(&[loss], &inputs, false, false)
    }
}

/// CLIP's loss of images and texts `(N, embedding)` and a scale: each image against every text and the reverse.
fn contrastive_loss([images, texts, scale]: &[Tensor; 3]) -> Tensor {
    let logits = images.matmul(&texts.tr()) * scale;
    let own = Tensor::arange(logits.size()[0], (Kind::Int64, logits.device()));
    (logits.cross_entropy_for_logits(&own) + logits.tr().cross_entropy_for_logits(&own)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Architecture, VisionLayers};
    use crate::device::of_tests;
    use crate::method::pretrain::initial;

    /// The batch in parts has the loss and the gradients of the batch as a whole, an odd one too.
    #[test]
    fn the_parts_change_nothing_but_rounding() {
        let sizes = Architecture::tiny();
        let sizes = Architecture {
            vision_width: 64,
            vision_layers: VisionLayers::Transformer(2),
            text_layers: 1,
            vocabulary: 20,
            ..sizes
        };
        let leaf = |(name, tensor): (String, Tensor)| (name, tensor.to_device(of_tests()).set_requires_grad(true));
        let parameters: Vec<_> = initial::weights(&sizes, 1).into_iter().map(leaf).collect();
        let draw = |part: &[usize]| {
            let places =
                Tensor::from_slice(&part.iter().map(|&place| place as f32).collect::<Vec<f32>>()).to_device(of_tests());
            let images = (Tensor::arange(3 * 32 * 32, (Kind::Float, of_tests())) * places.unsqueeze(1)).sin();
            let tokens = (Tensor::arange(6, (Kind::Int64, of_tests())) * places.unsqueeze(1)).remainder(19.0);
            (images.reshape([-1, 3, 32, 32]), tokens.to_kind(Kind::Int64))
        };
        let batch = [1, 2, 3, 4, 5];
        let mut replicas = Replicas::new(&parameters, of_tests()).unwrap();
        let (loss, gradients) = replicas.gradients(&batch, draw);

        let clip = &replicas.0[0].clip;
        let (images, tokens) = draw(&batch);
        let features = [clip.image_features(&images), clip.text_features(&tokens)].map(|side| normalised(&side));
        let [images, texts] = features;
        let whole = contrastive_loss(&[images, texts, clip.logit_scale()]);
        let inputs: Vec<&Tensor> = parameters.iter().map(|(_, tensor)| tensor).collect();
        let expected = Tensor::run_backward(&[&whole], &inputs, false, false);
        assert!((loss - whole.double_value(&[])).abs() < 1e-6);
        for (((name, _), found), expected) in parameters.iter().zip(&gradients).zip(&expected) {
            let difference = (found - expected).norm().double_value(&[]);
            let bound = 1e-4 * expected.norm().double_value(&[]) + 1e-7;
            assert!(difference < bound, "{name}: {difference}, more than {bound}");
        }
    }
}
