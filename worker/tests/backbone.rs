//! The towers against a plain computation in float64, with heads that are not 64 wide and with both activations.

// Each test program uses some of what they share.
#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;

use maple_pipe::architecture::{Architecture, VisionLayers};
use maple_pipe::backbone::{Activation, Backbone};
use maple_pipe::method::Precision;
use maple_pipe_worker::clip::{Clip, Weights};
use tch::{Device, Kind, Tensor};

/// Rows of numbers.
type Matrix = Vec<Vec<f64>>;

/// A CLIP whose every step is written out, after OpenAI's `clip/model.py` and OpenCLIP's `src/open_clip/transformer.py`.
struct Reference {
    backbone: Backbone,
    tensors: BTreeMap<String, (Vec<i64>, Vec<f64>)>,
}

impl Reference {
    /// A model with values that are numbers of float32, the same at every call.
    fn new(backbone: Backbone) -> Reference {
        let named = backbone.architecture.tensors().into_iter().enumerate().map(|(number, (name, shape))| {
            let mut random = random(number as u64);
            let scale = if shape.len() > 1 { (shape[1..].iter().product::<i64>() as f64).sqrt().recip() } else { 0.2 };
            let base =
                if name.contains("ln_") && name.ends_with("weight") || name.ends_with("var") { 1.0 } else { 0.0 };
            let values = (0..shape.iter().product()).map(|_: i64| f64::from((base + scale * random()) as f32));
            (name, (shape, values.collect()))
        });
        Reference { backbone, tensors: named.collect() }
    }

    /// The program's model with the same values.
    fn clip(&self, backbone: &Backbone) -> Clip {
        let tensors = self.tensors.iter().map(|(name, (shape, values))| {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            (name.clone(), Tensor::from_slice(&values).reshape(shape))
        });
        let weights = Weights::from_tensors(tensors);
        Clip::from_weights(&weights, backbone, common::device(), Precision::Fp32).unwrap()
    }

    fn vector(&self, name: &str) -> &[f64] {
        &self.tensors[name].1
    }

    /// A tensor's first axis by all others.
    fn matrix(&self, name: &str) -> Matrix {
        let (shape, values) = &self.tensors[name];
        values.chunks(values.len() / shape[0] as usize).map(<[f64]>::to_vec).collect()
    }

    /// `x @ weight^T + bias`.
    fn linear(&self, x: &Matrix, weight: &str, bias: &str) -> Matrix {
        let (weight, bias) = (self.matrix(weight), self.vector(bias));
        let row = |x: &Vec<f64>| weight.iter().zip(bias).map(|(weight, bias)| dot(weight, x) + bias).collect();
        x.iter().map(row).collect()
    }

    fn layer_norm(&self, x: &Matrix, name: &str) -> Matrix {
        let (weight, bias) = (self.vector(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let row = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let scale = (variance + 1e-5).sqrt().recip();
            x.iter().zip(weight).zip(bias).map(|((x, weight), bias)| (x - mean) * scale * weight + bias).collect()
        };
        x.iter().map(row).collect()
    }

    fn block(&self, x: &Matrix, name: &str, heads: i64, causal: bool) -> Matrix {
        let part = |part: &str| format!("{name}.{part}");
        let normalised = self.layer_norm(x, &part("ln_1"));
        let projected = self.linear(&normalised, &part("attn.in_proj_weight"), &part("attn.in_proj_bias"));
        let width = x[0].len();
        let head_width = width / heads as usize;
        let mut attended = vec![vec![0.0; width]; x.len()];
        for (query, output) in attended.iter_mut().enumerate() {
            for head in (0..width).step_by(head_width) {
                let slice = |row: usize, third: usize| &projected[row][third * width + head..][..head_width];
                let seen = if causal { query + 1 } else { x.len() };
                let scores = (0..seen).map(|key| dot(slice(query, 0), slice(key, 1)) / (head_width as f64).sqrt());
                let scores: Vec<f64> = scores.map(f64::exp).collect();
                let sum: f64 = scores.iter().sum();
                for (key, score) in scores.iter().enumerate() {
                    for (output, value) in output[head..].iter_mut().zip(slice(key, 2)) {
                        *output += score / sum * value;
                    }
                }
            }
        }
        let x = add(x, &self.linear(&attended, &part("attn.out_proj.weight"), &part("attn.out_proj.bias")));
        let hidden = self.linear(&self.layer_norm(&x, &part("ln_2")), &part("mlp.c_fc.weight"), &part("mlp.c_fc.bias"));
        let activate = |x: &f64| match self.backbone.activation {
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::Gelu => x * 0.5 * (1.0 + libm::erf(x / 2f64.sqrt())),
        };
        let hidden = hidden.iter().map(|row| row.iter().map(activate).collect()).collect();
        add(&x, &self.linear(&hidden, &part("mlp.c_proj.weight"), &part("mlp.c_proj.bias")))
    }

    /// The features of an image, whose values are by channel, row and column.
    fn image_features(&self, image: &[f64]) -> Vec<f64> {
        let Architecture { image_size, patch_size, vision_layers, .. } = self.backbone.architecture;
        let (size, patch) = (image_size as usize, patch_size as usize);
        let kernels = self.matrix("visual.conv1.weight");
        let mut x = vec![self.vector("visual.class_embedding").to_vec()];
        for (top, left) in
            (0..size).step_by(patch).flat_map(|top| (0..size).step_by(patch).map(move |left| (top, left)))
        {
            let places =
                (0..3).flat_map(|channel| (0..patch).map(move |row| (channel * size + top + row) * size + left));
            let pixels: Vec<f64> = places.flat_map(|start| &image[start..start + patch]).copied().collect();
            x.push(kernels.iter().map(|kernel| dot(kernel, &pixels)).collect());
        }
        x = self.layer_norm(&add(&x, &self.matrix("visual.positional_embedding")), "visual.ln_pre");
        let VisionLayers::Transformer(layers) = vision_layers else { panic!("a ResNet has no reference here") };
        for layer in 0..layers {
            x = self.block(&x, &format!("visual.transformer.resblocks.{layer}"), self.backbone.vision_heads, false);
        }
        project(&self.layer_norm(&x, "visual.ln_post")[0], &self.matrix("visual.proj"))
    }

    /// The features of a text, read at its last token.
    fn text_features(&self, tokens: &[i64]) -> Vec<f64> {
        let (embedding, positions) = (self.matrix("token_embedding.weight"), self.matrix("positional_embedding"));
        let embedded: Matrix = tokens.iter().map(|&token| embedding[token as usize].clone()).collect();
        let mut x = add(&embedded, &positions[..tokens.len()].to_vec());
        for layer in 0..self.backbone.architecture.text_layers {
            x = self.block(&x, &format!("transformer.resblocks.{layer}"), self.backbone.text_heads, true);
        }
        project(&self.layer_norm(&x, "ln_final")[tokens.len() - 1], &self.matrix("text_projection"))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &Matrix, b: &Matrix) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// `x @ weight`.
fn project(x: &[f64], weight: &Matrix) -> Vec<f64> {
    (0..weight[0].len()).map(|column| x.iter().zip(weight).map(|(x, row)| x * row[column]).sum()).collect()
}

/// Numbers between -1 and 1 (SplitMix64).
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// How far `found` is from `expected`, relative to the largest of these.
fn difference(found: &Tensor, expected: &[f64]) -> f64 {
    let found = found.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
    let expected = Tensor::from_slice(expected);
    (found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

const TOKENS: [i64; 5] = [6, 1, 4, 4, 8];

fn image(size: i64) -> (Tensor, Vec<f64>) {
    let mut random = random(1_000);
    let pixels: Vec<f32> = (0..3 * size * size).map(|_| (2.0 * random()) as f32).collect();
    let tensor = Tensor::from_slice(&pixels).reshape([1, 3, size, size]).to_device(common::device());
    (tensor, pixels.into_iter().map(f64::from).collect())
}

fn text() -> Tensor {
    Tensor::from_slice(&TOKENS).unsqueeze(0).to_device(common::device())
}

/// Heads of 80 and of 16, a hidden layer of an odd width.
fn backbone(activation: Activation) -> Backbone {
    let architecture = Architecture {
        image_size: 32,
        patch_size: 16,
        vision_width: 160,
        vision_layers: VisionLayers::Transformer(2),
        vision_hidden_width: Some(236),
        text_width: 64,
        text_layers: 2,
        text_positions: 8,
        vocabulary: 9,
        embedding: 24,
    };
    Backbone { vision_heads: 2, text_heads: 4, activation, ..Backbone::openai(architecture) }
}

#[test]
fn features_are_those_of_the_backbone_s_heads_and_activation() {
    for activation in [Activation::Gelu, Activation::QuickGelu] {
        let backbone = backbone(activation);
        let reference = Reference::new(backbone);
        let (images, pixels) = image(backbone.architecture.image_size);
        let (expected_image, expected_text) = (reference.image_features(&pixels), reference.text_features(&TOKENS));
        let differences = |other: &Backbone| {
            let clip = reference.clip(other);
            let found = (clip.image_features(&images), clip.text_features(&text()));
            (difference(&found.0, &expected_image), difference(&found.1, &expected_text))
        };
        let (image, text) = differences(&backbone);
        assert!(image < 5e-6 && text < 5e-6, "{activation}: {image:e}, {text:e}");
        // The test would see another number of heads, and the other activation.
        let (image, text) = differences(&Backbone { vision_heads: 1, text_heads: 1, ..backbone });
        assert!(image > 1e-3 && text > 1e-3, "{activation}: {image:e}, {text:e}");
        let other = if activation == Activation::Gelu { Activation::QuickGelu } else { Activation::Gelu };
        let (image, text) = differences(&Backbone { activation: other, ..backbone });
        assert!(image > 1e-3 && text > 1e-3, "{activation}: {image:e}, {text:e}");
    }
}

#[test]
fn the_text_tower_beside_a_resnet_has_the_activation_too() {
    let architecture = Architecture {
        image_size: 32,
        patch_size: 32,
        vision_width: 4,
        vision_layers: VisionLayers::ResNet([1, 1, 1, 1]),
        vision_hidden_width: None,
        ..backbone(Activation::Gelu).architecture
    };
    let backbone = Backbone { text_heads: 4, activation: Activation::Gelu, ..Backbone::openai(architecture) };
    let reference = Reference::new(backbone);
    let found = reference.clip(&backbone).text_features(&text());
    let difference = difference(&found, &reference.text_features(&TOKENS));
    assert!(difference < 5e-6, "{difference:e}");
}

#[test]
fn both_activations_work_in_every_precision() {
    for activation in [Activation::Gelu, Activation::QuickGelu] {
        let backbone = backbone(activation);
        let reference = Reference::new(backbone);
        let weights = reference.clip(&backbone);
        let tensors = weights.parameters().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let weights = Weights::from_tensors(tensors);
        for precision in [Precision::Fp16, Precision::Bf16, Precision::Mixed] {
            let clip = Clip::from_weights(&weights, &backbone, common::device(), precision).unwrap();
            let difference = difference(&clip.text_features(&text()), &reference.text_features(&TOKENS));
            assert!(difference < 0.05, "{activation} in {precision:?}: {difference:e}");
        }
    }
}
