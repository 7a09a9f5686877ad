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
    let (rows, columns) = (Windows::new(image.width(), width), Windows::new(image.height(), height));
    let mut target = RgbImage::new(rows.starts.len() as u32, columns.starts.len() as u32);
    vectorised(&Resize { source: image.as_raw(), length: image.width() as usize, rows, columns }, &mut target);
    target
}

/// The input values that make each output value of a side.
struct Windows {
    /// The first input value of each.
    starts: Vec<usize>,
    /// The weights of that value and those after it: as many for each output value, zeros where it has fewer.
    weights: Vec<i32>,
    /// How many.
    taps: usize,
}

impl Windows {
    /// Those of each wanted value of `output` over `input` values. Where the lengths are equal, a value's weight is 1 and its
    /// neighbours' 0: a copy, as in Pillow.
    fn new(input: u32, output: &Side) -> Windows {
        let scale = f64::from(input) / f64::from(output.length);
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let places = |place: u32| {
            let centre = (f64::from(place) + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            (centre, start..((centre + support + 0.5) as usize).min(input as usize))
        };
        let ranges: Vec<(f64, Range<usize>)> = output.part.clone().map(places).collect();
        let taps = ranges.iter().map(|(_, range)| range.len()).max().unwrap_or_default();
        let mut weights = vec![0; ranges.len() * taps];
        let mut exact = Vec::with_capacity(taps);
        for ((centre, range), weights) in ranges.iter().zip(weights.chunks_exact_mut(taps.max(1))) {
            exact.clear();
            exact.extend(range.clone().map(|place| cubic((place as f64 - centre + 0.5) * (1.0 / stretch))));
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                *weight = (exact / sum * f64::from(1 << PRECISION_BITS)).round() as i32;
            }
        }
        Windows { starts: ranges.into_iter().map(|(_, range)| range.start).collect(), weights, taps }
    }

    /// Each output value's first input value and weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.taps.max(1)))
    }
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
#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes with the widest instructions that this processor has; all of them give the same.
fn vectorised(resize: &Resize<'_>, target: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a function for processors that have these instructions")]
        // SAFETY: this processor has them.
        return unsafe { with_avx2(resize, target) };
    }
    resize.write(target);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(resize: &Resize<'_>, target: &mut [u8]) {
    resize.write(target);
}

/// A pixel with a fourth channel, which is never read: one instruction computes two such pixels.
type Wide<T> = [T; 4];
/// Values that are computed together.
const LANES: usize = 8;

/// How an image is resized.
struct Resize<'a> {
    source: &'a [u8],
    /// Pixels of a row.
    length: usize,
    rows: Windows,
    columns: Windows,
}

impl Resize<'_> {
    /// Writes the resized image. It is compiled into each function that calls it, with the instructions of that.
    #[inline(always)]
    fn write(&self, target: &mut [u8]) {
        self.resize_columns(&self.resized_rows(), target);
    }

    /// The image with every row resized.
    #[inline(always)]
    fn resized_rows(&self) -> Vec<Wide<u8>> {
        let Windows { starts, taps, .. } = &self.rows;
        let pairs = taps.div_ceil(2);
        let wide_weights = |(_, weights): (usize, &[i32])| -> Vec<[i32; LANES]> {
            let weight = |tap: usize| weights.get(tap).copied().unwrap_or_default();
            (0..pairs).map(|pair| std::array::from_fn(|lane| weight(2 * pair + lane / 4))).collect()
        };
        let weights: Vec<[i32; LANES]> = self.rows.iter().flat_map(wide_weights).collect();
        let source = self.source.chunks_exact(self.length * RGB);
        let mut resized = vec![Wide::default(); source.len() * starts.len()];
        // A window may reach beyond the row, with weights of 0.
        let mut pixels = vec![Wide::<i32>::default(); self.length + 2 * pairs];
        for (source, target) in source.zip(resized.chunks_exact_mut(starts.len())) {
            for (pixel, &[red, green, blue]) in pixels.iter_mut().zip(source.as_chunks::<RGB>().0) {
                *pixel = [red, green, blue, 0].map(i32::from);
            }
            for ((target, &start), weights) in target.iter_mut().zip(starts).zip(weights.chunks_exact(pairs)) {
                let (window, _) = pixels[start..start + 2 * pairs].as_flattened().as_chunks::<LANES>();
                let mut sums = [0i32; LANES];
                for (weights, values) in weights.iter().zip(window) {
                    sums = std::array::from_fn(|lane| sums[lane] + weights[lane] * values[lane]);
                }
                let sums: Wide<i32> = std::array::from_fn(|channel| sums[channel] + sums[channel + 4]);
                *target = sums.map(to_u8);
            }
        }
        resized
    }

    /// Resizes every column of an image whose rows have their length.
    #[inline(always)]
    fn resize_columns(&self, image: &[Wide<u8>], target: &mut [u8]) {
        let row = self.rows.starts.len();
        let mut sums = vec![[0i32; LANES]; (row * 4).div_ceil(LANES)];
        for ((start, weights), target) in self.columns.iter().zip(target.chunks_exact_mut(row * RGB)) {
            sums.fill([0; LANES]);
            for (weight, source) in weights.iter().zip(image[start * row..].chunks_exact(row)) {
                let (values, rest) = source.as_flattened().as_chunks::<LANES>();
                for (sums, values) in sums.iter_mut().zip(values) {
                    *sums = std::array::from_fn(|lane| sums[lane] + weight * i32::from(values[lane]));
                }
                for (sum, &value) in sums[values.len()..].as_flattened_mut().iter_mut().zip(rest) {
                    *sum += weight * i32::from(value);
                }
            }
            let sums = sums.as_flattened().as_chunks::<4>().0;
            for (target, sums) in target.as_chunks_mut::<RGB>().0.iter_mut().zip(sums) {
                let [red, green, blue, _] = sums.map(to_u8);
                *target = [red, green, blue];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_a_value_sum_to_one() {
        for (input, output) in [(5, 224), (500, 224), (224, 223), (1, 10), (3, 1)] {
            for (start, weights) in Windows::new(input, &Side::whole(output)).iter() {
                let sum: i32 = weights.iter().sum();
                assert!(sum.abs_diff(1 << PRECISION_BITS) < 32, "{input} to {output}: {sum}");
                let length = weights.iter().rposition(|&weight| weight != 0).map_or(0, |last| last + 1);
                assert!(start + length <= input as usize, "{input} to {output}");
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
