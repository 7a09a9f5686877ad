//! Where learned tensors start: drawn from generators keyed by a seed and a name, so that they depend on nothing else.
//!
//! The distributions are those of the published code; the numbers are not PyTorch's.

use maple_pipe::data::random;
use tch::{Device, Kind, Tensor};

/// Standard deviation of a context drawn at random (`nn.init.normal_(ctx_vectors, std=0.02)`).
const CONTEXT_DEVIATION: f64 = 0.02;

/// Draws the learned tensors of one model.
#[derive(Clone, Copy)]
pub(super) struct Initial {
    pub(super) seed: u64,
    pub(super) device: Device,
    /// The number format that they are learned in.
    pub(super) kind: Kind,
}

impl Initial {
    /// The same in fp32: for deep prompts and their projections, which the published code keeps so whatever the precision.
    pub(super) fn wide(self) -> Initial {
        Initial { kind: Kind::Float, ..self }
    }

    /// Context tokens from a normal distribution.
    pub(super) fn context(&self, name: &str, shape: &[i64]) -> Tensor {
        let drawn = random::normals(self.generator(name)).map(|value| (CONTEXT_DEVIATION * value) as f32);
        self.leaf(&Tensor::from_slice(&drawn.take(count(shape)).collect::<Vec<f32>>()).reshape(shape))
    }

    /// Weight `(outputs, inputs)` and bias `(outputs,)` of a linear layer as PyTorch starts one: uniform within
    /// 1 / sqrt(inputs) of zero.
    pub(super) fn linear(&self, name: &str, outputs: i64, inputs: i64) -> LearnedLinear {
        let bound = (inputs as f64).sqrt().recip();
        let mut generator = self.generator(name);
        let mut uniform = |shape: &[i64]| {
            let values: Vec<f32> = (0..count(shape)).map(|_| random::symmetric(&mut generator, bound)).collect();
            self.leaf(&Tensor::from_slice(&values).reshape(shape))
        };
        LearnedLinear { weight: uniform(&[outputs, inputs]), bias: uniform(&[outputs]) }
    }

    /// A leaf of the gradient graph with these values.
    pub(super) fn leaf(&self, values: &Tensor) -> Tensor {
        values.detach().copy().to_device(self.device).to_kind(self.kind).set_requires_grad(true)
    }

    fn generator(&self, name: &str) -> random::Generator {
        random::generator(self.seed, &format!("initial {name}"), 0, 0)
    }
}

/// A learned linear layer.
pub(super) struct LearnedLinear {
    weight: Tensor,
    bias: Tensor,
}

impl LearnedLinear {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias))
    }

    /// The two tensors under `name`, weight first.
    pub(super) fn named(&self, name: &str) -> [(String, Tensor); 2] {
        let named = |part: &str, tensor: &Tensor| (format!("{name}.{part}"), tensor.shallow_clone());
        [named("weight", &self.weight), named("bias", &self.bias)]
    }
}

fn count(shape: &[i64]) -> usize {
    shape.iter().product::<i64>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_of_the_published_code() {
        let initial = Initial { seed: 7, device: Device::Cpu, kind: Kind::Float };
        let context = initial.context("ctx", &[100, 1000]);
        assert!((context.std(false).double_value(&[]) - 0.02).abs() < 2e-4);
        assert!(context.mean(Kind::Double).double_value(&[]).abs() < 2e-4);
        let [(_, weight), (_, bias)] = initial.linear("proj", 1000, 64).named("proj");
        for values in [weight, bias] {
            assert!(values.abs().max().double_value(&[]) <= 0.125);
            assert!((values.std(false).double_value(&[]) - 0.125 / 3f64.sqrt()).abs() < 3e-3);
        }
    }

    #[test]
    fn a_seed_and_a_name_decide_the_values() {
        let draw = |seed, name: &str| Initial { seed, device: Device::Cpu, kind: Kind::Float }.context(name, &[2, 3]);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        let first = draw(1, "prompt_learner.ctx").double_value(&[0, 0]);
        assert!((first - PINNED).abs() < 1e-9, "{first}");
    }

    /// The first value drawn for seed 1 and `prompt_learner.ctx`; another one means that every result changes.
    const PINNED: f64 = -0.013355324044823647;
}
