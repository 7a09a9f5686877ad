//! Where learned tensors start: drawn from generators keyed by a seed and a name, so that they depend on nothing else.
//!
//! The distributions are those of the published code; the numbers are not PyTorch's.

use maple_pipe::data::random;
use maple_pipe::method::learnable::{Form, Learned, Length, Start};
use tch::{Device, Kind, Tensor};

use super::context::Words;

/// Standard deviation of a context drawn at random (`nn.init.normal_(ctx_vectors, std=0.02)`).
const CONTEXT_DEVIATION: f64 = 0.02;

/// The learned tensors of one model (leaves that ask for gradients), under the published names and in their order.
#[derive(Debug)]
pub(super) struct LearnedTensors(Vec<(String, Tensor)>);

impl LearnedTensors {
    /// What a learner learns, at its start for these classes and so many images of a sample.
    pub(super) fn new(learned: &[Learned], initial: Initial, words: &Words<'_>, images: usize) -> LearnedTensors {
        let mut tensors = Vec::new();
        for one in learned {
            let initial = if one.wide { Initial { kind: Kind::Float, ..initial } } else { initial };
            let (architecture, classes) = (words.clip.architecture(), words.class_names.len());
            let shape = |axes: Vec<Length>| axes.iter().map(|axis| axis.of(architecture, classes, images)).collect();
            let (names, shapes): (Vec<String>, Vec<Vec<i64>>) =
                one.tensors().into_iter().map(|(name, axes)| (name, shape(axes))).unzip();
            let values = match &one.form {
                Form::Tokens { initial_words, count, .. } if !initial_words.is_empty() => {
                    vec![words.initial_context(initial_words, *count)]
                }
                Form::Tokens { .. } => shapes.iter().map(|shape| initial.normal(&one.name, shape)).collect(),
                Form::Linear { drawn_as, .. } => initial.linear(drawn_as, &shapes),
                Form::Free { start: Start::Uniform, .. } => initial.linear(&one.name, &shapes),
                Form::Free { .. } => {
                    shapes.iter().map(|shape| Tensor::zeros(shape, (Kind::Float, Device::Cpu))).collect()
                }
                Form::LowRank { .. } => initial.low_rank(&one.name, &shapes),
                Form::AdapterLayer { .. } => initial.adapter_layer(&one.name, &shapes),
            };
            let moves = !matches!(one.form, Form::Free { start: Start::Fixed, .. });
            let leaf = |values: &Tensor| initial.leaf(values).set_requires_grad(moves);
            tensors.extend(names.into_iter().zip(values.iter().map(leaf)));
        }
        LearnedTensors(tensors)
    }

    /// The tensors with their names.
    pub(super) fn named(&self) -> Vec<(String, Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// The tensor of a name that the learner's list has.
    pub(super) fn tensor(&self, name: &str) -> Tensor {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| unreachable!("`{name}` is not in the list of what is learned")).1.shallow_clone()
    }

    /// The linear layer of a name that the learner's list has.
    pub(super) fn linear(&self, name: &str) -> LearnedLinear {
        let [weight, bias] = ["weight", "bias"].map(|part| self.tensor(&format!("{name}.{part}")));
        LearnedLinear { weight, bias }
    }
}

/// Draws the learned tensors of one model.
#[derive(Clone, Copy)]
pub(super) struct Initial {
    pub(super) seed: u64,
    pub(super) device: Device,
    /// The number format that they are learned in.
    pub(super) kind: Kind,
}

impl Initial {
    /// Tokens from a normal distribution.
    fn normal(&self, name: &str, shape: &[i64]) -> Tensor {
        let drawn = random::normals(self.generator(name)).map(|value| (CONTEXT_DEVIATION * value) as f32);
        Tensor::from_slice(&drawn.take(count(shape)).collect::<Vec<f32>>()).reshape(shape)
    }

    /// Weight `(outputs, inputs)` and bias `(outputs,)` of a linear layer as PyTorch starts one: uniform within
    /// 1 / sqrt(inputs) of zero.
    fn linear(&self, name: &str, shapes: &[Vec<i64>]) -> Vec<Tensor> {
        let mut generator = self.generator(name);
        let mut bound = 0.0;
        let uniform = shapes.iter().map(|shape| {
            if let [_, inputs] = shape[..] {
                bound = (inputs as f64).sqrt().recip();
            }
            let values: Vec<f32> = (0..count(shape)).map(|_| random::symmetric(&mut generator, bound)).collect();
            Tensor::from_slice(&values).reshape(shape)
        });
        uniform.collect()
    }

    /// An update of a product: `(rank, inputs)` as the weight of a linear layer (Kaiming's uniform start with a slope of
    /// root 5), and `(outputs, rank)` of zeros.
    fn low_rank(&self, name: &str, shapes: &[Vec<i64>]) -> Vec<Tensor> {
        let mut values = self.linear(name, &shapes[..1]);
        values.push(zeros(&shapes[1]));
        values
    }

    /// Weight `(outputs, inputs)` with a variance of 2 / outputs (Kaiming's normal start by fan-out), and a bias of zeros.
    fn adapter_layer(&self, name: &str, shapes: &[Vec<i64>]) -> Vec<Tensor> {
        let deviation = (2.0 / shapes[0][0] as f64).sqrt();
        let drawn = random::normals(self.generator(name)).map(|value| (deviation * value) as f32);
        let weight = Tensor::from_slice(&drawn.take(count(&shapes[0])).collect::<Vec<f32>>()).reshape(&shapes[0]);
        vec![weight, zeros(&shapes[1])]
    }

    /// A leaf of the gradient graph with these values.
    fn leaf(&self, values: &Tensor) -> Tensor {
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
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

fn count(shape: &[i64]) -> usize {
    shape.iter().product::<i64>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(seed: u64) -> Initial {
        Initial { seed, device: Device::Cpu, kind: Kind::Float }
    }

    #[test]
    fn distributions_are_those_of_the_published_code() {
        let context = initial(7).normal("ctx", &[100, 1000]);
        assert!((context.std(false).double_value(&[]) - 0.02).abs() < 2e-4);
        assert!(context.mean(Kind::Double).double_value(&[]).abs() < 2e-4);
        for values in initial(7).linear("proj", &[vec![1000, 64], vec![1000]]) {
            assert!(values.abs().max().double_value(&[]) <= 0.125);
            assert!((values.std(false).double_value(&[]) - 0.125 / 3f64.sqrt()).abs() < 3e-3);
        }
    }

    #[test]
    fn what_changes_the_towers_starts_as_published() {
        let [down, up] = initial(7).low_rank("update", &[vec![8, 1600], vec![1600, 8]]).try_into().unwrap();
        assert!(down.abs().max().double_value(&[]) <= 0.025);
        assert!((down.std(false).double_value(&[]) - 0.025 / 3f64.sqrt()).abs() < 3e-4);
        let [weight, bias] = initial(7).adapter_layer("down", &[vec![32, 2000], vec![32]]).try_into().unwrap();
        assert!((weight.std(false).double_value(&[]) - 0.25).abs() < 4e-3);
        for zeros in [up, bias] {
            assert_eq!(zeros.abs().max().double_value(&[]), 0.0);
        }
    }

    #[test]
    fn a_seed_and_a_name_decide_the_values() {
        let draw = |seed, name: &str| initial(seed).normal(name, &[2, 3]);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        let first = draw(1, "prompt_learner.ctx").double_value(&[0, 0]);
        assert!((first - PINNED).abs() < 1e-9, "{first}");
    }

    /// The first value drawn for seed 1 and `prompt_learner.ctx`; another one means that every result changes.
    const PINNED: f64 = -0.013355324044823647;
}
