//! Random numbers keyed by what they are for, so that no result depends on threads, workers or resuming.
//!
//! ChaCha8 seeded with blake3 of the key. The draws below are our own few lines, because `rand`'s distributions may
//! change their values from one minor version to the next; logarithms and sines are `libm`'s, which are the same on every
//! machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What random numbers are drawn from.
pub type Generator = ChaCha8Rng;

/// Separates these seeds from any other use of blake3.
const DOMAIN: &str = "maple-pipe random generator v1";

/// The generator of one purpose (e.g. `"crop"`) in one epoch, for the item with this index.
///
/// Every different key gives an independent stream; use 0 for an epoch or index that has no meaning for a purpose.
pub fn generator(seed: u64, purpose: &str, epoch: u64, index: u64) -> Generator {
    // Numbers have a fixed width and the text comes last, so no two keys share an encoding.
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    for number in [seed, epoch, index] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A number in [0, 1), with 53 random bits.
pub fn uniform(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number within `bound` of zero, rounded to 32 bits.
pub fn symmetric(generator: &mut impl Rng, bound: f64) -> f32 {
    (bound * (2.0 * uniform(generator) - 1.0)) as f32
}

/// Numbers from the standard normal distribution (Box and Muller 1958, a pair for every two uniform ones).
pub fn normals(mut generator: impl Rng) -> impl Iterator<Item = f64> {
    let pair = move || {
        // The logarithm of 0 has no value, so the first number is in (0, 1].
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(&mut generator)));
        let angle = 2.0 * std::f64::consts::PI * uniform(&mut generator);
        [radius * libm::cos(angle), radius * libm::sin(angle)]
    };
    std::iter::repeat_with(pair).flatten()
}

/// A whole number in `0..bound`; its bias is below `bound / 2^64`. `bound` must not be 0.
pub fn below(generator: &mut impl Rng, bound: usize) -> usize {
    ((u128::from(generator.next_u64()) * bound as u128) >> 64) as usize
}

/// The numbers `0..length` in random order (Fisher-Yates).
pub fn order(generator: &mut impl Rng, length: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    for last in (1..length).rev() {
        order.swap(last, below(generator, last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_never_change() {
        let mut draws = generator(1, "crop", 2, 3);
        assert_eq!([draws.next_u64(), draws.next_u64()], [12_933_792_910_756_196_946, 13_151_395_011_742_376_516]);
        assert_eq!(uniform(&mut generator(7, "flip", 0, 0)), 0.6467541165157822);
        assert_eq!(order(&mut generator(1, "order", 5, 0), 10), [6, 2, 1, 3, 0, 7, 5, 9, 8, 4]);
        let first: Vec<f64> = normals(generator(1, "normal", 0, 0)).take(3).collect();
        assert_eq!(first, [0.5201305483405614, 0.7283088100862627, -1.2937719618492998]);
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let keys = [(1, "a", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1), (0, "b", 0, 0), (0, "", 0, 0), (256, "a", 0, 0)];
        let first: std::collections::BTreeSet<u64> = keys
            .iter()
            .map(|&(seed, purpose, epoch, index)| generator(seed, purpose, epoch, index).next_u64())
            .collect();
        assert_eq!(first.len(), keys.len());
    }

    /// Mean, spread, the share within one and two deviations, and no correlation within pairs.
    #[test]
    fn normals_are_normal() {
        const COUNT: usize = 100_000;
        let drawn: Vec<f64> = normals(generator(3, "normal", 0, 0)).take(COUNT).collect();
        let mean = |value: &dyn Fn(usize) -> f64| (0..COUNT).map(value).sum::<f64>() / COUNT as f64;
        let share = |bound: f64| mean(&|place| f64::from(drawn[place].abs() < bound));
        let found = [
            (mean(&|place| drawn[place]), 0.0),
            (mean(&|place| drawn[place].powi(2)), 1.0),
            (mean(&|place| drawn[place].powi(4)), 3.0),
            (share(1.0), 0.6827),
            (share(2.0), 0.9545),
            (mean(&|place| drawn[place & !1] * drawn[place | 1]), 0.0),
        ];
        for (found, expected) in found {
            assert!((found - expected).abs() < 0.05, "{found}, not {expected}");
        }
    }

    #[test]
    fn draws_stay_in_range_and_orders_are_permutations() {
        let mut draws = generator(0, "range", 0, 0);
        let mean = (0..10_000).map(|_| uniform(&mut draws)).inspect(|value| assert!((0.0..1.0).contains(value)));
        assert!((mean.sum::<f64>() / 10_000.0 - 0.5).abs() < 0.02);
        let mut seen = [0; 3];
        (0..3_000).for_each(|_| seen[below(&mut draws, 3)] += 1);
        assert!(seen.iter().all(|count| (900..1_100).contains(count)), "{seen:?}");
        for length in [0, 1, 2, 57] {
            let mut sorted = order(&mut draws, length);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..length).collect::<Vec<_>>());
        }
    }
}
