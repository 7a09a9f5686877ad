//! What several tests share: tiny CLIPs made from recipes.

pub mod case;

use std::path::Path;

use maple_pipe::backbone::Backbone;
use maple_pipe::method::Precision;
use maple_pipe::numerics::Numerics;
use maple_pipe_worker::clip::{Clip, Weights};
use maple_pipe_worker::device::open;
use serde::Deserialize;
use tch::{Device, Tensor};

/// Tensors as formulas.
#[derive(Deserialize)]
pub struct Recipe {
    seed: u64,
    tensors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    key: String,
    shape: Vec<i64>,
    /// The values are `k * 2^exp + base` with a random `k`, or `base` alone.
    exp: Option<i32>,
    base: f64,
}

/// The device on which tests compute: `MAPLE_PIPE_TEST_DEVICE`, e.g. `cuda:0`; without it the processor.
pub fn device() -> Device {
    let name = std::env::var("MAPLE_PIPE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let device = name.parse().unwrap_or_else(|error| panic!("{error}"));
    open(device, Numerics::Native).unwrap_or_else(|error| panic!("{error}")).0
}

/// Tensors on the device on which tests compute.
pub fn on_device(weights: &Weights) -> Weights {
    let device = device();
    let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.to_device(device)));
    Weights::from_tensors(tensors.collect::<Vec<_>>())
}

/// The model of OpenAI's kind that has these weights.
pub fn clip(weights: &Weights, precision: Precision) -> Clip {
    let backbone = Backbone::openai(weights.shapes().architecture().unwrap());
    Clip::from_weights(weights, &backbone, device(), precision).unwrap()
}

/// The folder of the reference numbers.
pub fn reference() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/reference"))
}

/// The weights that `clip-tiny.recipe.json` describes.
pub fn tiny_weights() -> Weights {
    let text = std::fs::read_to_string(reference().join("clip-tiny.recipe.json")).unwrap();
    Weights::from_tensors(serde_json::from_str::<Recipe>(&text).unwrap().tensors())
}

impl Recipe {
    /// The tensors (`algorithm` in `clip-tiny.recipe.json` says how).
    pub fn tensors(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.tensors.iter().map(|entry| (entry.key.clone(), values(self.seed, entry)))
    }
}

fn values(seed: u64, entry: &Entry) -> Tensor {
    let count = entry.shape.iter().product::<i64>() as u64;
    let state = fnv1a(format!("{seed}:{}", entry.key).as_bytes());
    let value = |i: u64| {
        let Some(exponent) = entry.exp else { return entry.base as f32 };
        let mut z = state.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let k = (z >> 53) as i64 - 1024;
        (k as f64 * 2f64.powi(exponent)) as f32 + entry.base as f32
    };
    Tensor::from_slice(&(0..count).map(value).collect::<Vec<f32>>()).reshape(&entry.shape)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
