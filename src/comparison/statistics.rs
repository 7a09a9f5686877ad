//! Tests and intervals of paired differences.

use std::cmp::Ordering;

use crate::data::random;

/// Differences that are no further apart count as equal: accuracies are written with so many digits.
const EQUAL: f64 = 1e-9;
/// Up to so many differences the distribution of the rank sum is counted, beyond it is taken for a normal one.
const COUNTED: usize = 300;
/// How often a bootstrap draws.
const RESAMPLES: usize = 10_000;

/// The two-sided p-value of Wilcoxon's signed-rank test: how often chance alone gives signs that are at least so one-sided,
/// were each difference as likely up as down. Differences of zero are left out; equal ones share their ranks. Nothing where
/// no difference is left.
pub fn wilcoxon(differences: &[f64]) -> Option<f64> {
    let mut sizes: Vec<(f64, bool)> =
        differences.iter().filter(|one| one.abs() > EQUAL).map(|one| (one.abs(), *one > 0.0)).collect();
    if sizes.is_empty() {
        return None;
    }
    sizes.sort_by(|one, other| one.0.total_cmp(&other.0));
    let ranks = doubled_ranks(&sizes);
    let positive: usize = ranks.iter().zip(&sizes).filter(|(_, (_, up))| *up).map(|(rank, _)| rank).sum();
    Some(if ranks.len() <= COUNTED { counted(&ranks, positive) } else { normal(&ranks, positive) })
}

/// Twice the ranks of sizes in order, from 2: equal sizes have the mean of theirs.
fn doubled_ranks(sizes: &[(f64, bool)]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sizes.len());
    while ranks.len() < sizes.len() {
        let first = ranks.len();
        let alike = sizes[first..].iter().take_while(|size| size.0 - sizes[first].0 <= EQUAL).count();
        ranks.extend(std::iter::repeat_n(2 * first + alike + 1, alike));
    }
    ranks
}

/// The p-value of a sum of ranks, from the distribution of all sums.
fn counted(ranks: &[usize], sum: usize) -> f64 {
    let mut chances = vec![0.0; ranks.iter().sum::<usize>() + 1];
    chances[0] = 1.0;
    let mut highest = 0;
    for rank in ranks {
        highest += rank;
        for place in (0..=highest).rev() {
            let with = if place >= *rank { chances[place - rank] } else { 0.0 };
            chances[place] = 0.5 * (chances[place] + with);
        }
    }
    let [low, high] = [&chances[..=sum], &chances[sum..]].map(|part| part.iter().sum::<f64>());
    (2.0 * low.min(high)).min(1.0)
}

fn normal(ranks: &[usize], sum: usize) -> f64 {
    let mean = ranks.iter().sum::<usize>() as f64 / 2.0;
    let variance = ranks.iter().map(|rank| (rank * rank) as f64).sum::<f64>() / 4.0;
    // Doubled ranks: half a step of the sum is one.
    let apart = ((sum as f64 - mean).abs() - 1.0).max(0.0) / variance.sqrt();
    libm::erfc(apart / std::f64::consts::SQRT_2)
}

/// The 95 % interval of the mean, by drawing as many `differences` with replacement again and again (percentiles of 10,000 means,
/// the same in every call). Nothing for fewer than two.
pub fn bootstrap(differences: &[f64]) -> Option<[f64; 2]> {
    if differences.len() < 2 {
        return None;
    }
    let mut generator = random::generator(0, "bootstrap", 0, 0);
    let mut draw = |_| {
        let drawn = (0..differences.len()).map(|_| differences[random::below(&mut generator, differences.len())]);
        drawn.sum::<f64>() / differences.len() as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(&mut draw).collect();
    means.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    Some([at(0.025), at(0.975)])
}

/// The two-sided p-value of McNemar's test in its exact form: of the images that one method alone gets right, `first` and
/// `second`, how often chance alone divides them at least so unevenly. Nothing where there is none.
pub fn mcnemar(first: usize, second: usize) -> Option<f64> {
    let all = first + second;
    if all == 0 {
        return None;
    }
    let log_factorial = |number: usize| libm::lgamma(number as f64 + 1.0);
    let log_chance = |number: usize| {
        log_factorial(all) - log_factorial(number) - log_factorial(all - number) - all as f64 * std::f64::consts::LN_2
    };
    let tail: f64 = (0..=first.min(second)).map(|number| libm::exp(log_chance(number))).sum();
    Some((2.0 * tail).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-9 * expected.max(1e-3), "{found:?}, {expected}");
    }

    // SciPy 1.16: `wilcoxon(..., method="exact")`.
    #[test]
    fn signed_ranks_are_those_of_scipy() {
        let eleven = [1.2, -0.5, 3.1, 2.2, 0.7, -0.3, 4.0, 1.9, -2.5, 0.9, 1.1];
        assert_near(wilcoxon(&eleven), 0.067_382_812_5);
        assert_near(wilcoxon(&[0.5, 1.5, 2.5, 3.5]), 0.125);
        let many: Vec<f64> = (1..34)
            .map(|place| f64::from(place) + 0.25)
            .zip([-1.0, 1.0].into_iter().cycle())
            .map(|(size, sign)| 9.0 + sign * size)
            .collect();
        assert_near(wilcoxon(&many), 0.032_195_003_703_236_58);
        // Which way the difference is taken does not matter.
        assert_eq!(wilcoxon(&eleven), wilcoxon(&eleven.map(|one| -one)));
    }

    // All 2^7 signs, counted.
    #[test]
    fn equal_differences_share_ranks_and_zeros_do_not_count() {
        assert_near(wilcoxon(&[1.0, 1.0, -1.0, 2.0, 0.0, 3.0, -2.0, 5.0]), 0.265_625);
        assert_eq!(wilcoxon(&[0.0, 0.0]), None);
        assert_near(wilcoxon(&[0.0, 2.0]), 1.0);
    }

    #[test]
    fn many_differences_are_near_what_is_counted() {
        let differences: Vec<f64> = (0..COUNTED).map(|place| ((place * 37) % 101) as f64 - 43.5).collect();
        let counted = wilcoxon(&differences).unwrap();
        let mut sizes: Vec<(f64, bool)> = differences.iter().map(|one| (one.abs(), *one > 0.0)).collect();
        sizes.sort_by(|one, other| one.0.total_cmp(&other.0));
        let ranks = doubled_ranks(&sizes);
        let positive = ranks.iter().zip(&sizes).filter(|(_, (_, up))| *up).map(|(rank, _)| rank).sum();
        assert!((normal(&ranks, positive) - counted).abs() < 1e-3, "{counted}");
        let more: Vec<f64> = differences.iter().cycle().take(2 * COUNTED).copied().collect();
        assert!(wilcoxon(&more).unwrap() < counted);
    }

    // SciPy 1.16: `binomtest(first, first + second).pvalue`.
    #[test]
    fn uneven_images_are_those_of_scipy() {
        for (first, second, expected) in
            [(7, 13, 0.263_175_964_355_468_75), (0, 5, 0.0625), (480, 620, 2.713_138_109_300_687_8e-5), (10, 10, 1.0)]
        {
            let found = mcnemar(first, second).unwrap();
            assert!((found - expected).abs() < 1e-9 * expected.max(1e-2), "{found}, {expected}");
            assert_eq!(mcnemar(second, first), Some(found));
        }
        assert_eq!(mcnemar(0, 0), None);
    }

    #[test]
    fn an_interval_holds_the_mean_and_narrows() {
        let differences = [1.0, 2.0, 3.0, 2.5, 1.5, 2.0, 0.5, 3.5];
        let [low, high] = bootstrap(&differences).unwrap();
        // The mean is 2, the deviation of a mean of eight 0.33.
        assert!((1.2..1.6).contains(&low) && (2.4..2.8).contains(&high), "{low} {high}");
        let [nearer, _] = bootstrap(&differences.repeat(9)).unwrap();
        assert!(nearer > low && nearer < 2.0);
        assert_eq!(bootstrap(&differences), Some([low, high]));
        assert_eq!(bootstrap(&[1.0]), None);
    }
}
