//! From a decoded image to what the vision tower reads, as torchvision does it on Pillow images.

use std::ops::Deref;

use image::imageops::flip_horizontal_in_place;
use image::{ImageBuffer, Rgb, RgbImage};
use rand_chacha::rand_core::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::random::{below, uniform};
use super::resize::{Side, resize};
use crate::backbone::Preprocessing;
use crate::error::{Error, Result};

/// The share of the image's area that a training crop covers (torchvision's default).
const SCALE: [f64; 2] = [0.08, 1.0];
/// The aspect ratio, width by height, of a training crop (torchvision's default).
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// How often a training crop is drawn before the central one is taken (as in torchvision).
const TRIES: usize = 10;
/// The probability that a training image is flipped.
const FLIP: f64 = 0.5;

/// How training images are changed at random. The default is that of the published prompt learners.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Whether a random part of an image is seen; if not, its centre, as in an evaluation.
    pub crop: bool,
    /// The least and the largest share of the image's area that a crop covers.
    pub crop_scale: [f64; 2],
    /// Whether every other image is mirrored.
    pub flip: bool,
}

impl Default for Augmentation {
    fn default() -> Augmentation {
        Augmentation { crop: true, crop_scale: SCALE, flip: true }
    }
}

impl Augmentation {
    /// Whether it is the default, which keys do not name.
    pub fn is_default(&self) -> bool {
        *self == Augmentation::default()
    }

    /// Whether nothing is random: images are seen as in an evaluation.
    pub fn is_none(&self) -> bool {
        !self.crop && !self.flip
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the option that makes no sense, and what would.
    pub fn validate(&self) -> Result<()> {
        let [least, largest] = self.crop_scale;
        if !(0.0 < least && least <= largest && largest <= 1.0) {
            let message = format!("`crop_scale` is from {least} to {largest}");
            return Err(Error::hinted(message, "give two shares of the area: 0 < least <= largest <= 1")
                .about("augmentation.crop_scale"));
        }
        if !self.crop && self.crop_scale != SCALE {
            let message = "`crop_scale` is an option of crops, and `crop` is false";
            return Err(Error::hinted(message, "remove one of the two").about("augmentation.crop_scale"));
        }
        Ok(())
    }
}

/// How an image becomes a square of `size` x `size` pixels; `size` must not be 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Transform {
    /// Shorter side to `size`, then the centre; draws nothing.
    Evaluation {
        /// Pixels per side.
        size: u32,
    },
    /// A random view resized to `size`.
    Training {
        /// Pixels per side.
        size: u32,
        /// What is random.
        augmentation: Augmentation,
    },
}

impl Transform {
    /// Pixels per side of the result.
    pub fn size(self) -> u32 {
        match self {
            Transform::Evaluation { size } | Transform::Training { size, .. } => size,
        }
    }

    /// The square that the vision tower sees, still in 8 bits. The image must have pixels.
    pub fn apply<Pixels: Deref<Target = [u8]>>(
        self,
        image: &ImageBuffer<Rgb<u8>, Pixels>,
        random: &mut impl Rng,
    ) -> RgbImage {
        match self {
            Transform::Training { size, augmentation } if augmentation.crop => {
                View::draw(image.width(), image.height(), &augmentation, random).of(image, size)
            }
            Transform::Training { size, augmentation } => {
                let mut square = shorter_side_and_centre(image, size);
                if augmentation.flip && uniform(random) < FLIP {
                    flip_horizontal_in_place(&mut square);
                }
                square
            }
            Transform::Evaluation { size } => shorter_side_and_centre(image, size),
        }
    }
}

/// What a training transform shows of an image: a box, in pixels, and whether it is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Rows above the box.
    pub top: u32,
    /// Columns left of the box.
    pub left: u32,
    /// Rows of the box.
    pub height: u32,
    /// Columns of the box.
    pub width: u32,
    /// Whether left and right are swapped after cropping.
    pub flip: bool,
}

impl View {
    /// torchvision's `RandomResizedCrop.get_params`, then `RandomHorizontalFlip`, on an image of this size.
    pub fn draw(width: u32, height: u32, augmentation: &Augmentation, random: &mut impl Rng) -> View {
        let view = (0..TRIES).find_map(|_| View::try_draw(width, height, augmentation.crop_scale, random));
        let view = view.unwrap_or_else(|| View::central(width, height));
        View { flip: augmentation.flip && uniform(random) < FLIP, ..view }
    }

    /// One try: an area and an aspect ratio, then a place if they fit.
    fn try_draw(width: u32, height: u32, [least, largest]: [f64; 2], random: &mut impl Rng) -> Option<View> {
        let between = |(low, high): (f64, f64), share: f64| low + (high - low) * share;
        let area = f64::from(width) * f64::from(height) * between((least, largest), uniform(random));
        let ratio = libm::exp(between((libm::log(RATIO.0), libm::log(RATIO.1)), uniform(random)));
        let crop_width = (area * ratio).sqrt().round_ties_even() as u32;
        let crop_height = (area / ratio).sqrt().round_ties_even() as u32;
        if !(1..=width).contains(&crop_width) || !(1..=height).contains(&crop_height) {
            return None;
        }
        let top = below(random, (height - crop_height + 1) as usize) as u32;
        let left = below(random, (width - crop_width + 1) as usize) as u32;
        Some(View { top, left, height: crop_height, width: crop_width, flip: false })
    }

    /// The largest central box whose aspect ratio is allowed.
    fn central(width: u32, height: u32) -> View {
        let ratio = f64::from(width) / f64::from(height);
        let (crop_width, crop_height) = if ratio < RATIO.0 {
            (width, (f64::from(width) / RATIO.0).round_ties_even() as u32)
        } else if ratio > RATIO.1 {
            ((f64::from(height) * RATIO.1).round_ties_even() as u32, height)
        } else {
            (width, height)
        };
        let (top, left) = ((height - crop_height) / 2, (width - crop_width) / 2);
        View { top, left, height: crop_height, width: crop_width, flip: false }
    }

    /// The box of `image`, resized to a square of `size` pixels per side, mirrored where the view is.
    pub fn of<Pixels: Deref<Target = [u8]>>(self, image: &ImageBuffer<Rgb<u8>, Pixels>, size: u32) -> RgbImage {
        let (left, width) = (3 * self.left as usize, 3 * self.width as usize);
        let rows = image.as_raw().chunks_exact(3 * image.width() as usize);
        let mut pixels = Vec::with_capacity(width * self.height as usize);
        for row in rows.skip(self.top as usize).take(self.height as usize) {
            pixels.extend_from_slice(&row[left..left + width]);
        }
        let cropped = RgbImage::from_raw(self.width, self.height, pixels).expect("the box lies in the image");
        let mut square = resize(&cropped, &Side::whole(size), &Side::whole(size));
        if self.flip {
            flip_horizontal_in_place(&mut square);
        }
        square
    }
}

/// torchvision's `Resize(size)` and `CenterCrop(size)`.
fn shorter_side_and_centre<Pixels: Deref<Target = [u8]>>(image: &ImageBuffer<Rgb<u8>, Pixels>, size: u32) -> RgbImage {
    let shorter = image.width().min(image.height());
    let side = |length: u32| {
        let length = (f64::from(size) * f64::from(length) / f64::from(shorter)) as u32;
        let offset = (f64::from(length - size) / 2.0).round_ties_even() as u32;
        Side { length, part: offset..offset + size }
    };
    resize(image, &side(image.width()), &side(image.height()))
}

/// What each 8-bit value becomes, by channel: less the mean, by the standard deviation, in f32 as torchvision computes it.
#[derive(Clone)]
pub struct Normalisation(Box<[[f32; 256]; 3]>);

impl Normalisation {
    /// That of a model's images.
    pub fn new(preprocessing: &Preprocessing) -> Normalisation {
        let Preprocessing { mean, standard_deviation, .. } = preprocessing;
        let value = |channel: usize, value: usize| (value as f32 / 255.0 - mean[channel]) / standard_deviation[channel];
        Normalisation(Box::new(std::array::from_fn(|channel| std::array::from_fn(|index| value(channel, index)))))
    }

    /// For each channel what each 8-bit value becomes, `(3, 256)`.
    pub fn tables(&self) -> &[[f32; 256]; 3] {
        &self.0
    }

    /// Writes an image as the vision tower reads it: (channel, row, column). `pixels` are its rows, a pixel's channels
    /// together, and `output` holds as many values.
    ///
    /// # Panics
    /// When `output` has another length.
    pub fn apply(&self, pixels: &[u8], output: &mut [f32]) {
        assert_eq!(output.len(), pixels.len(), "one value for each of the image's");
        let tables = &*self.0;
        let plane = output.len() / 3;
        let (red, others) = output.split_at_mut(plane);
        let (green, blue) = others.split_at_mut(plane);
        for (((pixel, red), green), blue) in pixels.as_chunks::<3>().0.iter().zip(red).zip(green).zip(blue) {
            let [r, g, b] = pixel.map(usize::from);
            (*red, *green, *blue) = (tables[0][r], tables[1][g], tables[2][b]);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::imageops::crop_imm;

    use super::*;
    use crate::data::random::generator;

    #[test]
    fn the_shorter_side_sets_the_scale_and_the_centre_is_cut() {
        let image = RgbImage::from_fn(8, 4, |x, _| image::Rgb([x as u8 * 10; 3]));
        let square = Transform::Evaluation { size: 4 }.apply(&image, &mut generator(0, "unused", 0, 0));
        assert_eq!(square, crop_imm(&image, 2, 0, 4, 4).to_image());
    }

    #[test]
    fn very_long_images_cost_no_more_than_the_square() {
        let image = RgbImage::from_pixel(1, 60_000, image::Rgb([1, 2, 3]));
        let square = shorter_side_and_centre(&image, 224);
        assert_eq!(square, RgbImage::from_pixel(224, 224, image::Rgb([1, 2, 3])));
    }

    #[test]
    fn the_centres_offset_rounds_half_to_even() {
        // 5 columns leave 1 over (offset 0.5, to 0); 7 leave 3 over (offset 1.5, to 2).
        for (width, left) in [(5, 0), (7, 2)] {
            let image = RgbImage::from_fn(width, 4, |x, _| image::Rgb([x as u8; 3]));
            assert_eq!(shorter_side_and_centre(&image, 4).get_pixel(0, 0).0, [left; 3]);
        }
    }

    /// How the tries of torchvision's definition end on an image of this shape (width by height): an area and the
    /// logarithm of a ratio are uniform, and a try counts if its box fits. Where the first ten fail, the central box is
    /// taken, with probability `fallback`.
    struct Definition {
        /// The boxes that fit, each an equal share of the probability: area and logarithm of the ratio.
        boxes: Vec<(f64, f64)>,
        fallback: f64,
    }

    impl Definition {
        fn new(shape: f64) -> Definition {
            const STEPS: usize = 1_000;
            let grid = |(low, high): (f64, f64)| {
                (0..STEPS).map(move |step| low + (high - low) * (step as f64 + 0.5) / STEPS as f64)
            };
            let fits = |&(area, ratio): &(f64, f64)| area * ratio.exp() <= shape && area / ratio.exp() <= 1.0 / shape;
            let ratios = (RATIO.0.ln(), RATIO.1.ln());
            let all = grid(SCALE.into()).flat_map(|area| grid(ratios).map(move |ratio| (area, ratio)));
            let boxes: Vec<(f64, f64)> = all.filter(fits).collect();
            let fallback = (1.0 - boxes.len() as f64 / (STEPS * STEPS) as f64).powi(TRIES as i32);
            Definition { boxes, fallback }
        }
    }

    /// The largest distance of two distribution functions (Kolmogorov-Smirnov), `expected` being known well. Of this many
    /// values drawn from it, one sample in a thousand is further away than the threshold.
    #[track_caller]
    fn assert_distribution(what: &str, mut found: Vec<f64>, mut expected: Vec<f64>) {
        found.sort_by(f64::total_cmp);
        expected.sort_by(f64::total_cmp);
        let below = |value: f64| expected.partition_point(|&other| other <= value) as f64 / expected.len() as f64;
        let count = found.len() as f64;
        let apart = |(place, &value): (usize, &f64)| {
            let share = below(value);
            (share - place as f64 / count).abs().max((share - (place + 1) as f64 / count).abs())
        };
        let distance = found.iter().enumerate().map(apart).fold(0.0, f64::max);
        let threshold = (-(0.001f64 / 2.0).ln() / (2.0 * count)).sqrt();
        assert!(distance < threshold, "{what}: {distance} is not below {threshold}");
    }

    /// Area, ratio, place and mirroring of training crops have the distributions that torchvision's `RandomResizedCrop`
    /// and `RandomHorizontalFlip` define. The images are so large that whole pixels do not matter.
    #[test]
    fn views_are_distributed_as_published() {
        const DRAWS: u64 = 20_000;
        let uniform: Vec<f64> = (0..100_000).map(|place| (f64::from(place) + 0.5) / 100_000.0).collect();
        // The last is so narrow that half of all images get the central box.
        for (width, height) in [(40_000u32, 40_000u32), (33_300, 25_100), (20_000, 50_000), (8_000, 60_000)] {
            let size = f64::from(width) * f64::from(height);
            let definition = Definition::new(f64::from(width) / f64::from(height));
            let views: Vec<View> = (0..DRAWS)
                .map(|index| View::draw(width, height, &Augmentation::default(), &mut generator(1, "view", 0, index)))
                .collect();
            let flips = views.iter().filter(|view| view.flip).count() as f64 / DRAWS as f64;
            assert!((flips - 0.5).abs() < 3.3 * (0.25 / DRAWS as f64).sqrt(), "{flips}");
            let whole = View::central(width, height);
            let (central, drawn): (Vec<View>, Vec<View>) =
                views.into_iter().partition(|view| View { flip: false, ..*view } == whole);
            let (share, expected) = (central.len() as f64 / DRAWS as f64, definition.fallback);
            let spread = (expected * (1.0 - expected) / DRAWS as f64).sqrt();
            assert!((share - expected).abs() <= 3.3 * spread + 1e-4, "{width}x{height}: {share}, not {expected}");
            let of = |value: &dyn Fn(&View) -> f64| drawn.iter().map(value).collect::<Vec<_>>();
            let boxes = |value: &dyn Fn(&(f64, f64)) -> f64| definition.boxes.iter().map(value).collect::<Vec<_>>();
            let what = |what: &str| format!("{what} on {width}x{height}");
            let area = of(&|view| f64::from(view.width) * f64::from(view.height) / size);
            assert_distribution(&what("area"), area, boxes(&|(area, _)| *area));
            let ratio = of(&|view| (f64::from(view.width) / f64::from(view.height)).ln());
            assert_distribution(&what("ratio"), ratio, boxes(&|(_, ratio)| *ratio));
            let place = |offset: u32, room: u32| (f64::from(offset) + 0.5) / f64::from(room + 1);
            let top = of(&|view| place(view.top, height - view.height));
            assert_distribution(&what("top"), top, uniform.clone());
            let left = of(&|view| place(view.left, width - view.width));
            assert_distribution(&what("left"), left, uniform.clone());
            assert!(drawn.iter().all(|view| view.left + view.width <= width && view.top + view.height <= height));
        }
    }

    #[test]
    fn images_too_narrow_for_a_crop_give_the_central_one() {
        let box_of = |width, height| {
            let view = View::draw(width, height, &Augmentation::default(), &mut generator(0, "view", 0, 0));
            [view.top, view.left, view.height, view.width]
        };
        assert_eq!(box_of(10_000, 3), [0, 4_998, 3, 4]);
        assert_eq!(box_of(3, 10_000), [4_998, 0, 4, 3]);
    }

    #[test]
    fn an_augmentation_decides_what_is_random() {
        let shares = |augmentation: Augmentation| {
            let draw = |index| View::draw(1_000, 1_000, &augmentation, &mut generator(1, "view", 0, index));
            let views: Vec<View> = (0..500).map(draw).collect();
            let shares = views.iter().map(|view| f64::from(view.width * view.height) / 1e6);
            let least = shares.clone().fold(1.0, f64::min);
            (least, shares.fold(0.0, f64::max), views.iter().filter(|view| view.flip).count())
        };
        let (least, largest, flips) =
            shares(Augmentation { crop_scale: [0.5, 0.75], flip: false, ..Augmentation::default() });
        assert!((0.49..0.51).contains(&least) && (0.74..0.76).contains(&largest), "{least} {largest}");
        assert_eq!(flips, 0);
        let image = RgbImage::from_fn(5, 4, |x, y| image::Rgb([40 * x as u8, 60 * y as u8, 0]));
        let of = |transform: Transform, index| transform.apply(&image, &mut generator(1, "view", 0, index));
        let whole = of(Transform::Evaluation { size: 4 }, 0);
        let training = |crop, flip| {
            let augmentation = Augmentation { crop, flip, ..Augmentation::default() };
            let views = (0..40).map(|index| of(Transform::Training { size: 4, augmentation }, index));
            views.filter(|view| *view != whole).collect::<Vec<_>>()
        };
        assert_eq!(training(false, false), []);
        let mut mirrored = whole.clone();
        flip_horizontal_in_place(&mut mirrored);
        let flipped = training(false, true);
        assert!((10..30).contains(&flipped.len()) && flipped.iter().all(|view| *view == mirrored));
    }

    #[test]
    fn a_view_is_cropped_before_it_is_flipped() {
        let image = RgbImage::from_fn(4, 2, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let square = View { top: 0, left: 1, height: 2, width: 2, flip: true }.of(&image, 2);
        assert_eq!(
            square.pixels().map(|pixel| (pixel.0[0], pixel.0[1])).collect::<Vec<_>>(),
            [(2, 0), (1, 0), (2, 1), (1, 1)]
        );
    }

    #[test]
    fn pixels_are_normalised_by_channel() {
        let halves = Preprocessing { mean: [0.5; 3], standard_deviation: [0.5; 3], size: 1 };
        for preprocessing in [Preprocessing::openai(1), halves] {
            let mut output = [0.0; 6];
            Normalisation::new(&preprocessing).apply(&[0, 128, 255, 255, 0, 128], &mut output);
            let Preprocessing { mean, standard_deviation, .. } = preprocessing;
            let expected = |channel: usize, value: f32| (value / 255.0 - mean[channel]) / standard_deviation[channel];
            let values = [(0, 0.0), (0, 255.0), (1, 128.0), (1, 0.0), (2, 255.0), (2, 128.0)];
            assert_eq!(output, values.map(|(channel, value)| expected(channel, value)));
        }
    }
}
