//! Few-shot samples, equal to those that the published code draws (`generate_fewshot_dataset` of Dassl's
//! `DatasetBase`): CPython's `random.seed(seed)`, then `random.sample` once per class.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use rand_mt::Mt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::item::Labelled;
use super::split::Split;
use crate::text::{NAMED, few, plural};

/// At most this many images per class are drawn for validation, whatever the number of shots.
const VALIDATION_SHOTS: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");

/// The images of a few-shot run: all classes, in the order in which they were drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample<T> {
    /// `shots` training images per class.
    pub train: Vec<T>,
    /// min(`shots`, 4) validation images per class.
    pub val: Vec<T>,
}

/// How a sample is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Generator {
    /// By Python's `random`, as Dassl draws it for prompt learners.
    #[default]
    Python,
    /// By numpy's `RandomState`, as CoOp's linear probe draws it.
    Numpy,
}

/// The sample of CoOp's linear probe (`lpclip/linear_probe.py`): as [`few_shot`], by another generator, classes in the order of
/// their labels.
pub fn few_shot_of_probe<T: Labelled>(split: &Split<T>, shots: NonZeroUsize, seed: u32) -> Sample<T> {
    let mut random = NumpyRandom::new(seed);
    let mut draw = |items: &[T], shots: NonZeroUsize| {
        let mut classes = by_first_appearance(items);
        classes.sort_by_key(|class| class.first().map(|item| item.label()));
        let drawn = classes.into_iter().flat_map(|class| match class.len() < shots.get() {
            true => class.into_iter().cloned().collect::<Vec<T>>(),
            false => random.choice(class.len(), shots.get()).into_iter().map(|place| class[place].clone()).collect(),
        });
        drawn.collect()
    };
    let train = draw(&split.train, shots);
    let val = draw(&split.val, shots.min(VALIDATION_SHOTS));
    Sample { train, val }
}

/// Draws `shots` training images of every class, then min(`shots`, 4) validation images from the same generator.
///
/// Cut the sample to base or novel classes afterwards ([`super::classes::Classes::select`]), never before.
pub fn few_shot<T: Labelled>(split: &Split<T>, shots: NonZeroUsize, seed: u64) -> Sample<T> {
    let mut random = PythonRandom::new(seed);
    let train = per_class(&split.train, shots, &mut random);
    let val = per_class(&split.val, shots.min(VALIDATION_SHOTS), &mut random);
    Sample { train, val }
}

/// Which classes of a drawn sample have fewer images than `shots`, because the data set has no more; nothing where none has.
pub fn small_classes(train: &[impl Labelled], class_names: &[String], shots: NonZeroUsize) -> Option<String> {
    let count = |label: usize| train.iter().filter(|item| item.label() == label).count();
    let counts = class_names.iter().enumerate().map(|(label, name)| (name, count(label)));
    let small: Vec<String> =
        counts.filter(|(_, count)| *count < shots.get()).map(|(name, count)| format!("{name} ({count})")).collect();
    let have = if small.len() == 1 { "has" } else { "have" };
    (!small.is_empty()).then(|| {
        let images = plural(shots.get(), "training image", "training images");
        format!(
            "{} {have} fewer than {images}: {}",
            plural(small.len(), "class", "classes"),
            few(NAMED, small.into_iter())
        )
    })
}

/// `shots` items of every class, classes in order of first appearance. A class with fewer keeps all of its items in
/// their order and draws nothing.
fn per_class<T: Labelled>(items: &[T], shots: NonZeroUsize, random: &mut PythonRandom) -> Vec<T> {
    let mut sample = Vec::new();
    for class in by_first_appearance(items) {
        if class.len() < shots.get() {
            sample.extend(class.into_iter().cloned());
        } else {
            let drawn = random.sample(class.len(), shots.get());
            sample.extend(drawn.into_iter().map(|place| class[place].clone()));
        }
    }
    sample
}

/// The items of each class, classes in order of first appearance.
fn by_first_appearance<T: Labelled>(items: &[T]) -> Vec<Vec<&T>> {
    let mut places = std::collections::HashMap::new();
    let mut classes: Vec<Vec<&T>> = Vec::new();
    for item in items {
        let place = *places.entry(item.label()).or_insert(classes.len());
        if place == classes.len() {
            classes.push(Vec::new());
        }
        classes[place].push(item);
    }
    classes
}

/// numpy's legacy `RandomState`: the Mersenne Twister, and `choice` without replacement.
struct NumpyRandom {
    twister: Mt,
}

impl NumpyRandom {
    /// `numpy.random.seed(seed)`.
    fn new(seed: u32) -> NumpyRandom {
        NumpyRandom { twister: Mt::new(seed) }
    }

    /// `choice(length, count, replace=False)`: the first numbers of a permutation.
    fn choice(&mut self, length: usize, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..length).collect();
        for last in (1..length).rev() {
            let other = self.up_to(u32::try_from(last).expect("no class has four billion images"));
            numbers.swap(last, other as usize);
        }
        numbers.truncate(count);
        numbers
    }

    /// A number from 0 to `largest`: as many of the lowest bits as it has, until they do not exceed it.
    fn up_to(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let value = self.twister.next_u32() & mask;
            if value <= largest {
                return value;
            }
        }
    }
}

/// CPython's `random.Random`: the Mersenne Twister, and `sample` as `Lib/random.py` draws it (3.6 to 3.14).
pub struct PythonRandom {
    twister: Mt,
}

impl PythonRandom {
    /// `random.seed(seed)`.
    pub fn new(seed: u64) -> PythonRandom {
        // `init_by_array` gets the seed's 32-bit words, least significant first, without leading zeros.
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let mut twister = Mt::new_unseeded();
        if high == 0 {
            twister.reseed_with_key([low]);
        } else {
            twister.reseed_with_key([low, high]);
        }
        PythonRandom { twister }
    }

    /// `random.sample(range(length), count)`: `count` different numbers below `length`, in the order drawn.
    ///
    /// # Panics
    /// When `count` exceeds `length`, or `length` exceeds 32 bits.
    pub fn sample(&mut self, length: usize, count: usize) -> Vec<usize> {
        assert!(count <= length, "a sample is no larger than what it is drawn from");
        let length = u32::try_from(length).expect("no class has four billion images");
        if length as usize <= set_size(count) {
            self.sample_pool(length, count)
        } else {
            self.sample_set(length, count)
        }
    }

    /// `random.shuffle(items)`.
    ///
    /// # Panics
    /// When the length exceeds 32 bits.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(u32::try_from(last + 1).expect("no class has four billion images"));
            items.swap(last, other as usize);
        }
    }

    /// Draws from a shrinking pool, whose last number takes the drawn one's place.
    fn sample_pool(&mut self, length: u32, count: usize) -> Vec<usize> {
        let mut pool: Vec<usize> = (0..length as usize).collect();
        (0..count)
            .map(|_| {
                let place = self.below(pool.len() as u32);
                pool.swap_remove(place as usize)
            })
            .collect()
    }

    /// Draws again whatever was drawn before.
    fn sample_set(&mut self, length: u32, count: usize) -> Vec<usize> {
        let mut seen = HashSet::with_capacity(count);
        std::iter::repeat_with(|| self.below(length))
            .filter(|&place| seen.insert(place))
            .take(count)
            .map(|place| place as usize)
            .collect()
    }

    /// `_randbelow_with_getrandbits`: as many bits as `bound` has, until they are below it.
    fn below(&mut self, bound: u32) -> u32 {
        let unused = bound.leading_zeros();
        loop {
            let value = self.twister.next_u32() >> unused;
            if value < bound {
                return value;
            }
        }
    }
}

/// The length up to which `random.sample` uses a pool: 21, and the smallest power of four above 3 `count` where
/// `count` exceeds 5.
fn set_size(count: usize) -> usize {
    let table = std::iter::successors(Some(1usize), |power| Some(power * 4)).find(|&power| power >= 3 * count);
    21 + if count > 5 { table.unwrap_or(usize::MAX - 21) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::item::Item;

    // The anchors were recorded with CPython 3: `random.seed(seed)` before each call.
    #[test]
    fn the_generator_is_cpythons() {
        let mut random = PythonRandom::new(1);
        let words: Vec<u32> = (0..5).map(|_| random.twister.next_u32()).collect();
        assert_eq!(words, [577_090_037, 2_444_712_010, 3_639_700_191, 3_445_702_192, 3_280_387_012]);
    }

    #[test]
    fn both_branches_of_sample_are_cpythons() {
        assert_eq!(PythonRandom::new(1).sample(100, 5), [17, 72, 97, 8, 32]);
        let pool = [8, 4, 16, 7, 31, 28, 15, 20, 12, 25, 6, 3, 30, 0, 32, 13];
        assert_eq!(PythonRandom::new(1).sample(37, 16), pool);
        assert_eq!([5, 6, 16, 21, 22].map(set_size), [21, 85, 85, 85, 277]);
    }

    fn items(labels: &[usize]) -> Vec<Item> {
        let item =
            |(place, &label): (usize, &usize)| Item { path: place.to_string(), label, class_name: label.to_string() };
        labels.iter().enumerate().map(item).collect()
    }

    /// The recorded sample of CoOp's linear probe: 20 training and 6 validation images of each of 5 classes.
    #[test]
    fn numpy_draws_as_recorded() {
        let labels = |count: usize| (0..5).flat_map(|label| vec![label; count]).collect::<Vec<_>>();
        let split = Split { train: items(&labels(20)), val: items(&labels(6)), test: vec![] };
        let drawn = |shots: usize, seed: u32| {
            let sample = few_shot_of_probe(&split, NonZeroUsize::new(shots).unwrap(), seed);
            [sample.train, sample.val]
                .map(|items| items.iter().map(|item| item.path.clone()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(drawn(1, 1), ["3 35 44 70 95", "2 9 14 19 27"]);
        assert_eq!(
            drawn(4, 2),
            [
                "12 4 18 0 33 34 22 29 45 57 43 51 67 64 61 79 95 99 92 89",
                "2 0 4 1 11 10 9 7 16 13 12 15 23 22 20 18 25 29 28 26"
            ]
        );
        assert_eq!(
            drawn(16, 3),
            [
                "14 2 1 17 4 16 6 7 15 12 9 11 19 18 13 5 24 29 27 26 39 20 36 31 33 28 25 30 \
             23 21 32 35 52 50 49 43 51 42 53 48 40 46 47 58 57 59 54 44 77 71 62 69 72 66 60 68 \
             63 64 70 79 73 78 75 76 96 90 83 86 95 88 87 99 89 82 92 84 81 97 98 94",
                "3 5 1 4 8 9 11 10 15 14 17 16 19 23 18 20 26 25 27 24"
            ]
        );
    }

    #[test]
    fn classes_come_in_order_of_appearance_and_small_ones_draw_nothing() {
        let small = Split { train: items(&[2, 0, 2]), val: items(&[1]), test: vec![] };
        let sample = few_shot(&small, NonZeroUsize::new(3).unwrap(), 1);
        let paths = |items: &[Item]| items.iter().map(|item| item.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&sample.train), ["0", "2", "1"]);
        assert_eq!(paths(&sample.val), ["0"]);

        // The small class before it leaves the generator untouched, so class 0 is drawn as if it came first.
        let labels: Vec<usize> = [7].into_iter().chain([0; 37]).collect();
        let split = Split { train: items(&labels), val: items(&[0; 9]), test: vec![] };
        let sample = few_shot(&split, NonZeroUsize::new(16).unwrap(), 1);
        assert_eq!(paths(&sample.train)[..4], ["0", "9", "5", "17"]);
        assert_eq!(sample.val.len(), 4);
    }

    #[test]
    fn classes_with_fewer_images_than_shots_are_named() {
        let names = ["cat", "dog", "newt"].map(str::to_owned);
        let small = |labels: &[usize], shots: usize| {
            small_classes(&items(labels), &names, NonZeroUsize::new(shots).unwrap()).unwrap_or_default()
        };
        assert_eq!(small(&[0, 1, 2, 0], 1), "");
        assert_eq!(small(&[0, 1, 2, 0, 2], 2), "1 class has fewer than 2 training images: dog (1)");
        assert_eq!(small(&[0, 1, 0], 16), "3 classes have fewer than 16 training images: cat (2), dog (1), newt (0)");
    }

    #[test]
    fn seeds_of_any_width_are_cpythons() {
        assert_eq!(PythonRandom::new(0).sample(100, 5), [49, 97, 53, 5, 33]);
        assert_eq!(PythonRandom::new(1 + (1 << 32)).sample(100, 5), [29, 64, 65, 53, 11]);
        let pool = [1, 15, 21, 13, 29, 6, 32, 28, 11, 24, 23, 22, 26, 36, 31, 17];
        assert_eq!(PythonRandom::new(u64::MAX).sample(37, 16), pool);
    }
}
