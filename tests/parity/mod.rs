//! What tests of data preparation share: reference files, and images beside what others made of them.

use std::fs;
use std::path::Path;

use image::RgbImage;
use maple_pipe::data::image::decode;
use maple_pipe::data::random::generator;
use maple_pipe::data::transform::Transform;
use serde::de::DeserializeOwned;

pub fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// How far two 8-bit images of one size are apart.
#[derive(Clone, Copy)]
pub struct Difference {
    /// The share of values that differ at all.
    share: f64,
    mean: f64,
    largest: u8,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{:6.3}% differ, mean {:.4}, largest {}", 100.0 * self.share, self.mean, self.largest)
    }
}

pub fn difference(ours: &RgbImage, reference: &RgbImage) -> Difference {
    assert_eq!(ours.dimensions(), reference.dimensions());
    let values = ours.as_raw().iter().zip(reference.as_raw()).map(|(ours, reference)| ours.abs_diff(*reference));
    let count = ours.as_raw().len() as f64;
    Difference {
        share: values.clone().filter(|&value| value > 0).count() as f64 / count,
        mean: values.clone().map(f64::from).sum::<f64>() / count,
        largest: values.max().unwrap(),
    }
}

pub fn open(path: &Path) -> RgbImage {
    decode(&fs::read(path).unwrap(), path).unwrap()
}

pub fn evaluation(image: &RgbImage) -> RgbImage {
    Transform::Evaluation { size: 224 }.apply(image, &mut generator(0, "unused", 0, 0))
}

/// Not one value differs.
#[track_caller]
pub fn assert_equal(name: &str, ours: &RgbImage, reference: &RgbImage) {
    let difference = difference(ours, reference);
    assert_eq!(difference.largest, 0, "{name}: {difference}");
}
