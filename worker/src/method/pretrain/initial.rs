//! Initial weights as in `initialize_parameters` of OpenAI's `clip/model.py`, in both towers; biases start at 0.

use crate::clip::{Architecture, VisionLayers};
use maple_pipe::data::random;
use tch::Tensor;

/// The initial `logit_scale`: ln(1 / 0.07).
const LOGIT_SCALE: f32 = 2.659_26;

/// Every tensor of a model, drawn from `seed`, each from a generator of its own.
pub(in crate::method) fn weights(architecture: &Architecture, seed: u64) -> Vec<(String, Tensor)> {
    let named = architecture.tensors().into_iter().map(|(name, shape)| {
        let tensor = draw(architecture, seed, &name, &shape);
        (name, tensor)
    });
    named.collect()
}

/// How the values of one tensor start.
enum Start {
    Constant(f32),
    /// Its standard deviation.
    Normal(f64),
    /// How far from 0.
    Uniform(f64),
}

fn draw(architecture: &Architecture, seed: u64, name: &str, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let mut generator = random::generator(seed, &format!("pretraining {name}"), 0, 0);
    let values: Vec<f32> = match start(architecture, name, shape) {
        Start::Constant(value) => vec![value; count],
        Start::Normal(deviation) => {
            random::normals(generator).map(|value| (deviation * value) as f32).take(count).collect()
        }
        Start::Uniform(bound) => (0..count).map(|_| random::symmetric(&mut generator, bound)).collect(),
    };
    Tensor::from_slice(&values).reshape(shape)
}

/// The distribution of a tensor's initial values, by its key.
fn start(architecture: &Architecture, name: &str, shape: &[i64]) -> Start {
    let vision = name.starts_with("visual.");
    let (width, layers) = match vision {
        true => (architecture.vision_width as f64, vision_blocks(architecture) as f64),
        false => (architecture.text_width as f64, architecture.text_layers as f64),
    };
    let one_over_root = |value: f64| value.sqrt().recip();
    match name {
        "logit_scale" => Start::Constant(LOGIT_SCALE),
        "token_embedding.weight" => Start::Normal(0.02),
        "positional_embedding" => Start::Normal(0.01),
        // A convolution's default in PyTorch.
        "visual.conv1.weight" => Start::Uniform(one_over_root(shape[1..].iter().product::<i64>() as f64)),
        _ if name.ends_with("bias") => Start::Constant(0.0),
        _ if name.contains("ln_") => Start::Constant(1.0),
        _ if name.ends_with("out_proj.weight") || name.ends_with("c_proj.weight") => {
            Start::Normal(one_over_root(width * 2.0 * layers))
        }
        _ if name.ends_with("c_fc.weight") => Start::Normal(one_over_root(2.0 * width)),
        // Attention, projections, and the vision tower's class and positional embedding.
        _ => Start::Normal(one_over_root(width)),
    }
}

fn vision_blocks(architecture: &Architecture) -> i64 {
    match architecture.vision_layers {
        VisionLayers::Transformer(blocks) => blocks,
        VisionLayers::ResNet(_) => unreachable!("pretraining refuses a ResNet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_those_of_openai() {
        let architecture = Architecture::tiny();
        let weights = weights(&architecture, 1);
        let spread = |wanted: &str| {
            let (_, tensor) = weights.iter().find(|(name, _)| name == wanted).unwrap();
            tensor.std(false).double_value(&[])
        };
        // width ** -0.5, (2 * width) ** -0.5, (width * 2 * layers) ** -0.5; uniform: bound / sqrt(3).
        let wanted = [
            ("token_embedding.weight", 0.02),
            ("transformer.resblocks.0.attn.in_proj_weight", 0.125),
            ("transformer.resblocks.2.mlp.c_fc.weight", 128f64.powf(-0.5)),
            ("transformer.resblocks.2.mlp.c_proj.weight", (64.0f64 * 2.0 * 3.0).powf(-0.5)),
            ("visual.transformer.resblocks.3.attn.out_proj.weight", (128.0f64 * 2.0 * 4.0).powf(-0.5)),
            ("visual.proj", 128f64.powf(-0.5)),
            ("visual.conv1.weight", (3.0f64 * 64.0).powf(-0.5) / 3f64.sqrt()),
        ];
        for (name, wanted) in wanted {
            assert!((spread(name) / wanted - 1.0).abs() < 0.03, "{name}: {} instead of {wanted}", spread(name));
        }
        assert_eq!(spread("visual.ln_pre.weight") + spread("ln_final.bias"), 0.0);
    }
}
