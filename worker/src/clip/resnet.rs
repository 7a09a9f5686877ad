//! The modified ResNet of "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021):
//! the vision tower of OpenAI's checkpoints RN50, RN101, RN50x4 and RN50x16 (`ModifiedResNet` of `clip/model.py`).
//!
//! It differs from a ResNet in its stem of three convolutions, in strides that are average pools, and in its head, where
//! the mean of all positions attends to them. Batch norms use their running statistics: this tower is never trained.

use tch::{Kind, Tensor};

use super::transformer::{Linear, attention};

/// PyTorch's default epsilon of a batch norm.
const EPSILON: f64 = 1e-5;

/// A convolution without bias and the batch norm behind it.
#[derive(Debug)]
pub(super) struct Convolution {
    /// `(output, input, k, k)`.
    pub(super) weight: Tensor,
    pub(super) norm: BatchNorm,
}

impl Convolution {
    /// Keeps height and width, divided by `stride`.
    fn forward(&self, x: &Tensor, stride: i64) -> Tensor {
        let padding = self.weight.size()[2] / 2;
        self.norm.forward(&x.conv2d(&self.weight, None::<&Tensor>, [stride, stride], [padding, padding], [1, 1], 1))
    }
}

/// A batch norm with fixed statistics, computed in fp32 whatever its input.
#[derive(Debug)]
pub(super) struct BatchNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) running_mean: Tensor,
    pub(super) running_var: Tensor,
}

impl BatchNorm {
    fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, variance) = (Some(&self.running_mean), Some(&self.running_var));
        let wide = x.to_kind(Kind::Float);
        wide.batch_norm(weight, bias, mean, variance, false, 0.0, EPSILON, false).to_kind(x.kind())
    }
}

/// Three convolutions beside a shortcut.
#[derive(Debug)]
pub(super) struct Bottleneck {
    pub(super) conv1: Convolution,
    pub(super) conv2: Convolution,
    pub(super) conv3: Convolution,
    /// In the first block of a stage, where the width changes.
    pub(super) downsample: Option<Convolution>,
}

impl Bottleneck {
    fn forward(&self, x: &Tensor, stride: i64) -> Tensor {
        let hidden = self.conv2.forward(&self.conv1.forward(x, 1).relu(), 1).relu();
        let output = self.conv3.forward(&average_pool(hidden, stride), 1);
        let shortcut = average_pool(x.shallow_clone(), stride);
        (output + self.downsample.as_ref().map_or(shortcut.shallow_clone(), |layer| layer.forward(&shortcut, 1))).relu()
    }
}

/// The head: multi-head attention of the mean of all positions to these and to itself.
#[derive(Debug)]
pub(super) struct AttentionPool {
    pub(super) heads: i64,
    /// `(1 + positions, width)`.
    pub(super) positional_embedding: Tensor,
    pub(super) q_proj: Linear,
    pub(super) k_proj: Linear,
    pub(super) v_proj: Linear,
    pub(super) c_proj: Linear,
}

impl AttentionPool {
    /// `(B, width, H, W)` to `(B, embedding)`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.flatten(2, -1).transpose(1, 2);
        let mean = x.mean_dim([1i64].as_slice(), true, None);
        let x = Tensor::cat(&[mean, x], 1) + &self.positional_embedding;
        let heads = |x: Tensor| x.reshape([x.size()[0], x.size()[1], self.heads, -1]).transpose(1, 2);
        let query = heads(self.q_proj.forward(&x.narrow(1, 0, 1)));
        let (key, value) = (heads(self.k_proj.forward(&x)), heads(self.v_proj.forward(&x)));
        self.c_proj.forward(&attention(&query, &key, &value, false).flatten(1, -1)).to_kind(x.kind())
    }
}

/// The modified ResNet.
#[derive(Debug)]
pub(super) struct ResNet {
    pub(super) stem: [Convolution; 3],
    pub(super) stages: Vec<Vec<Bottleneck>>,
    pub(super) attnpool: AttentionPool,
}

impl ResNet {
    /// Images `(B, 3, R, R)` to features `(B, embedding)`, not normalised.
    pub(super) fn features(&self, images: &Tensor) -> Tensor {
        let mut x = images.to_kind(self.stem[0].weight.kind());
        for (layer, stride) in self.stem.iter().zip([2, 1, 1]) {
            x = layer.forward(&x, stride).relu();
        }
        x = average_pool(x, 2);
        for (stage, blocks) in self.stages.iter().enumerate() {
            for (index, block) in blocks.iter().enumerate() {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                x = block.forward(&x, stride);
            }
        }
        self.attnpool.forward(&x)
    }
}

/// The stride of these networks: the mean of `size` by `size` positions.
fn average_pool(x: Tensor, size: i64) -> Tensor {
    if size == 1 { x } else { x.avg_pool2d([size, size], [size, size], [0, 0], false, true, None) }
}
