//! Pillow's bicubic `resize` of 8-bit images, to the bit (`src/libImaging/Resample.c` of Pillow).
//!
//! The usual resampling libraries round weights to 15 bits and take columns first, which moves some values by 1 or 2;
//! Pillow takes rows first, with 22-bit weights, and rounds to 8 bits in between.

use std::ops::{Deref, Range};

use image::{ImageBuffer, Rgb, RgbImage};

/// Weights are whole numbers in units of 2^-22.
const PRECISION_BITS: u32 = 22;
/// Channels.
const RGB: usize = 3;

/// One side of a resized image.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its pixels.
    pub length: u32,
    /// Those that are wanted; the others are not computed.
    pub part: Range<u32>,
}

impl Side {
    /// All of a side.
    pub fn whole(length: u32) -> Side {
        Side { length, part: 0..length }
    }
}

/// Resizes with `BICUBIC`, antialiased where the image shrinks, and gives the wanted part, which must not be empty.
pub fn resize<Pixels: Deref<Target = [u8]>>(
    image: &ImageBuffer<Rgb<u8>, Pixels>,
    width: &Side,
    height: &Side,
) -> RgbImage {
    resize_columns(&resize_rows(image, width), height)
}

/// The input values that make one output value.
struct Window {
    /// The first input value.
    start: usize,
    /// The weights of that value and those after it.
    weights: Vec<i32>,
}

/// The windows of each wanted value of `output` over `input` values. Where the lengths are equal, a value's weight is 1
/// and its neighbours' 0: a copy, as in Pillow.
fn windows(input: u32, output: &Side) -> Vec<Window> {
    let scale = f64::from(input) / f64::from(output.length);
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let part = output.part.clone();
    part.map(|place| {
        let centre = (f64::from(place) + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(input as usize);
        let weight = |place: usize| cubic((place as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let whole = |weight: &f64| (weight / sum * f64::from(1 << PRECISION_BITS)).round() as i32;
        Window { start, weights: weights.iter().map(whole).collect() }
    })
    .collect()
}

/// The cubic convolution kernel with a = -0.5.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.5;
    match distance.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// A weighted sum, rounded and cut off to 8 bits.
fn to_u8(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8
}

fn resize_rows<Pixels: Deref<Target = [u8]>>(image: &ImageBuffer<Rgb<u8>, Pixels>, width: &Side) -> RgbImage {
    let windows = windows(image.width(), width);
    let mut target = RgbImage::new(windows.len() as u32, image.height());
    let (source_row, target_row) = (image.width() as usize * RGB, windows.len() * RGB);
    for (source, target) in image.as_raw().chunks_exact(source_row).zip(target.chunks_exact_mut(target_row)) {
        for (window, target) in windows.iter().zip(target.chunks_exact_mut(RGB)) {
            let mut sums = [0; RGB];
            for (weight, pixel) in window.weights.iter().zip(source[window.start * RGB..].chunks_exact(RGB)) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            target.copy_from_slice(&sums.map(to_u8));
        }
    }
    target
}

fn resize_columns(image: &RgbImage, height: &Side) -> RgbImage {
    let row = image.width() as usize * RGB;
    let windows = windows(image.height(), height);
    let mut target = RgbImage::new(image.width(), windows.len() as u32);
    let mut sums = vec![0; row];
    for (window, target) in windows.iter().zip(target.chunks_exact_mut(row)) {
        sums.fill(0);
        for (weight, source) in window.weights.iter().zip(image.as_raw()[window.start * row..].chunks_exact(row)) {
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum += weight * i32::from(value);
            }
        }
        for (value, &sum) in target.iter_mut().zip(&sums) {
            *value = to_u8(sum);
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_a_value_sum_to_one() {
        for (input, output) in [(5, 224), (500, 224), (224, 223), (1, 10), (3, 1)] {
            for window in windows(input, &Side::whole(output)) {
                let sum: i32 = window.weights.iter().sum();
                assert!(sum.abs_diff(1 << PRECISION_BITS) < 32, "{input} to {output}: {sum}");
                assert!(window.start + window.weights.len() <= input as usize, "{input} to {output}");
            }
        }
    }

    #[test]
    fn sharp_edges_are_cut_off_and_flat_areas_stay() {
        let edge = RgbImage::from_fn(8, 1, |x, _| image::Rgb([if x < 4 { 0 } else { 255 }, 77, 255]));
        let larger = resize(&edge, &Side::whole(32), &Side::whole(3));
        assert_eq!(larger.dimensions(), (32, 3));
        assert!(larger.pixels().all(|pixel| pixel.0[1..] == [77, 255]));
        assert_eq!((larger.get_pixel(10, 1).0[0], larger.get_pixel(21, 1).0[0]), (0, 255));
    }

    #[test]
    fn a_part_is_that_part_of_the_whole() {
        let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 28, y as u8 * 36, (x * y) as u8 * 5]));
        for (width, height) in [(9, 7), (20, 5), (4, 30)] {
            let whole = resize(&image, &Side::whole(width), &Side::whole(height));
            let part = resize(&image, &Side { length: width, part: 1..3 }, &Side { length: height, part: 2..5 });
            assert_eq!(part, image::imageops::crop_imm(&whole, 1, 2, 2, 3).to_image());
        }
        assert_eq!(resize(&image, &Side::whole(9), &Side::whole(7)), image);
    }
}
