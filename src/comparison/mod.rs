//! Two methods beside each other, in pairs: over data sets and seeds, and over test images.

mod sentence;
mod statistics;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::table::{Metric, Score};
pub use sentence::LIMITS;
use statistics::{bootstrap, mcnemar, wilcoxon};

/// An evaluation: what it measured, and of each of its images whether it was taken for what it is, where that is known.
#[derive(Debug)]
pub struct Outcome {
    /// What it measured.
    pub score: Score,
    /// By the image's path.
    pub images: Option<BTreeMap<String, bool>>,
}

/// Two methods in one column of a table.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The column, e.g. `novel`.
    pub metric: String,
    /// The data sets that both have, in order.
    pub datasets: Vec<Pair>,
    /// The mean of each method over these data sets, in percent.
    pub means: [f64; 2],
    /// The mean of the first less that of the second, in percentage points.
    pub difference: f64,
    /// The 95 % interval of it: a bootstrap over data sets, or over seeds where there is one data set.
    pub interval: Option<[f64; 2]>,
    /// Data sets on which the first is better, equal and worse.
    pub better_equal_worse: [usize; 3],
    /// The p-value of Wilcoxon's signed-rank test over data sets, each with the mean over its seeds.
    pub p_datasets: Option<f64>,
    /// The same over all pairs of data set and seed.
    pub p_pairs: Option<f64>,
    /// How many such pairs there are.
    pub pairs: usize,
    /// Over test images, where a method's predictions are there.
    pub images: Option<Images>,
}

/// Two methods on one data set.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The data set.
    pub dataset: String,
    /// What each method reaches, in percent: the mean over the seeds that both have.
    pub values: [f64; 2],
    /// The difference in each of these seeds.
    pub differences: Vec<f64>,
}

impl Pair {
    fn difference(&self) -> f64 {
        self.values[0] - self.values[1]
    }
}

/// Test images of all data sets. An image is right where more than half of a method's seeds take it for what it is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Images {
    /// Right with both methods.
    pub both: usize,
    /// Right with the first alone.
    pub first_alone: usize,
    /// Right with the second alone.
    pub second_alone: usize,
    /// Right with neither.
    pub neither: usize,
    /// The p-value of McNemar's exact test.
    pub p: Option<f64>,
}

impl Comparison {
    /// The second method beside the first.
    pub fn turned(&self) -> Comparison {
        // Zero stays without a sign.
        let less = |value: f64| 0.0 - value;
        let turn = |pair: &Pair| Pair {
            dataset: pair.dataset.clone(),
            values: [pair.values[1], pair.values[0]],
            differences: pair.differences.iter().copied().map(less).collect(),
        };
        let [better, equal, worse] = self.better_equal_worse;
        Comparison {
            metric: self.metric.clone(),
            datasets: self.datasets.iter().map(turn).collect(),
            means: [self.means[1], self.means[0]],
            difference: less(self.difference),
            interval: self.interval.map(|[low, high]| [less(high), less(low)]),
            better_equal_worse: [worse, equal, better],
            images: self.images.map(|images| Images {
                first_alone: images.second_alone,
                second_alone: images.first_alone,
                ..images
            }),
            ..*self
        }
    }
}

/// Compares two methods in every column of a table that both have.
pub fn compare(outcomes: &[Outcome], metrics: &[Metric], methods: [&str; 2], datasets: &[String]) -> Vec<Comparison> {
    metrics.iter().filter_map(|&metric| comparison(outcomes, metric, methods, datasets)).collect()
}

fn comparison(outcomes: &[Outcome], metric: Metric, methods: [&str; 2], datasets: &[String]) -> Option<Comparison> {
    let pair = |dataset: &String| {
        let [first, second] = methods.map(|method| values(outcomes, metric, method, dataset));
        pair(dataset, &first, &second)
    };
    let datasets: Vec<Pair> = datasets.iter().filter_map(pair).collect();
    if datasets.is_empty() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let means = [0, 1].map(|which| mean(&datasets.iter().map(|pair| pair.values[which]).collect::<Vec<_>>()));
    let of_datasets: Vec<f64> = datasets.iter().map(Pair::difference).collect();
    let of_pairs: Vec<f64> = datasets.iter().flat_map(|pair| pair.differences.clone()).collect();
    let count = |is: fn(f64) -> bool| of_datasets.iter().filter(|one| is(**one)).count();
    Some(Comparison {
        metric: metric.name(),
        means,
        difference: means[0] - means[1],
        interval: bootstrap(if datasets.len() > 1 { &of_datasets } else { &of_pairs }),
        better_equal_worse: [count(|one| one > 0.0), count(|one| one == 0.0), count(|one| one < 0.0)],
        p_datasets: wilcoxon(&of_datasets),
        p_pairs: wilcoxon(&of_pairs),
        pairs: of_pairs.len(),
        images: images(outcomes, metric, methods, &datasets),
        datasets,
    })
}

/// What a method reaches on a data set, by seed.
fn values(outcomes: &[Outcome], metric: Metric, method: &str, dataset: &str) -> BTreeMap<Option<i64>, f64> {
    let own = |outcome: &&Outcome| {
        outcome.score.method == method && outcome.score.dataset == dataset && metric.is_of(&outcome.score)
    };
    let own: Vec<&Score> = outcomes.iter().filter(own).map(|outcome| &outcome.score).collect();
    let seeds: BTreeSet<Option<i64>> = own.iter().map(|score| score.seed).collect();
    let value = |seed: Option<i64>| {
        let of_seed: Vec<&Score> = own.iter().filter(|score| score.seed == seed).copied().collect();
        Some((seed, metric.of_scores(&of_seed)?))
    };
    seeds.into_iter().filter_map(value).collect()
}

/// Pairs what two methods reach in the same seeds. A method without seeds is paired with each seed of the other.
fn pair(dataset: &str, first: &BTreeMap<Option<i64>, f64>, second: &BTreeMap<Option<i64>, f64>) -> Option<Pair> {
    let alone = |values: &BTreeMap<Option<i64>, f64>| values.get(&None).copied();
    let pairs: Vec<[f64; 2]> = match (alone(first), alone(second)) {
        (Some(one), None) => second.values().map(|other| [one, *other]).collect(),
        (None, Some(other)) => first.values().map(|one| [*one, other]).collect(),
        _ => first.iter().filter_map(|(seed, one)| Some([*one, *second.get(seed)?])).collect(),
    };
    if pairs.is_empty() {
        return None;
    }
    let values = [0, 1].map(|which| pairs.iter().map(|pair| pair[which]).sum::<f64>() / pairs.len() as f64);
    let differences = pairs.iter().map(|[one, other]| one - other).collect();
    Some(Pair { dataset: dataset.to_owned(), values, differences })
}

/// The images of these data sets that both methods were measured on.
fn images(outcomes: &[Outcome], metric: Metric, methods: [&str; 2], datasets: &[Pair]) -> Option<Images> {
    let mut counts = Images::default();
    for Pair { dataset, .. } in datasets {
        let [first, second] = methods.map(|method| right(outcomes, metric, method, dataset));
        for (image, first) in first? {
            match (first, second.as_ref()?.get(&image)) {
                (true, Some(true)) => counts.both += 1,
                (true, Some(false)) => counts.first_alone += 1,
                (false, Some(true)) => counts.second_alone += 1,
                (false, Some(false)) => counts.neither += 1,
                (_, None) => {}
            }
        }
    }
    counts.p = mcnemar(counts.first_alone, counts.second_alone);
    Some(counts)
}

/// Which images a method takes for what they are in more than half of its seeds; nothing where that is not known, or where the
/// column is made of several accuracies.
fn right(outcomes: &[Outcome], metric: Metric, method: &str, dataset: &str) -> Option<BTreeMap<String, bool>> {
    let own = |outcome: &&Outcome| {
        outcome.score.method == method && outcome.score.dataset == dataset && metric.is_of(&outcome.score)
    };
    if !metric.is_an_accuracy() {
        return None;
    }
    let mut votes: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for outcome in outcomes.iter().filter(own) {
        for (image, is_right) in outcome.images.as_ref()? {
            let [right, all] = votes.entry(image.clone()).or_default();
            *right += usize::from(*is_right);
            *all += 1;
        }
    }
    (!votes.is_empty()).then(|| votes.into_iter().map(|(image, [right, all])| (image, 2 * right > all)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Classes;

    fn outcome(method: &str, dataset: &str, seed: Option<i64>, accuracy: f64, right: &[bool]) -> Outcome {
        let score = Score {
            dataset: dataset.to_owned(),
            method: method.to_owned(),
            seed,
            shots: None,
            classes: Classes::All,
            accuracy: Some(accuracy),
            key: None,
        };
        let images = right.iter().enumerate().map(|(place, right)| (format!("{dataset}{place}"), *right));
        Outcome { score, images: Some(images.collect()) }
    }

    #[test]
    fn methods_are_compared_in_pairs() {
        let outcomes = [
            outcome("a", "x", Some(1), 80.0, &[true, true, false, true]),
            outcome("a", "x", Some(2), 84.0, &[true, true, false, false]),
            outcome("a", "x", Some(3), 70.0, &[true, false, false, true]),
            outcome("b", "x", Some(1), 79.0, &[false, true, true, true]),
            outcome("b", "x", Some(2), 80.0, &[false, true, true, true]),
            outcome("a", "y", Some(1), 50.0, &[true]),
            outcome("b", "y", Some(1), 53.0, &[true]),
            outcome("b", "z", Some(1), 53.0, &[true]),
            outcome("clip", "x", None, 75.0, &[false, false, false, false]),
        ];
        let datasets = ["x", "y", "z"].map(str::to_owned);
        let found = compare(&outcomes, &[Metric::Accuracy], ["a", "b"], &datasets).remove(0);
        // Seed 3 of `a` has no partner, and `z` no value of `a`.
        let pairs: Vec<_> = found.datasets.iter().map(|pair| (pair.values, pair.differences.clone())).collect();
        assert_eq!(pairs, [([82.0, 79.5], vec![1.0, 4.0]), ([50.0, 53.0], vec![-3.0])]);
        assert_eq!((found.means, found.difference), ([66.0, 66.25], -0.25));
        assert_eq!((found.better_equal_worse, found.pairs), ([1, 0, 1], 3));
        let Images { both, first_alone, second_alone, neither, p } = found.images.unwrap();
        assert_eq!(([both, first_alone, second_alone, neither], p), ([3, 1, 1, 0], Some(1.0)));

        let json = |one: &Comparison| serde_json::to_value(one).unwrap();
        let turned = compare(&outcomes, &[Metric::Accuracy], ["b", "a"], &datasets).remove(0);
        assert_eq!((json(&found.turned()), found.interval.is_some()), (json(&turned), true));

        let clip = compare(&outcomes, &[Metric::Accuracy], ["a", "clip"], &datasets).remove(0);
        assert_eq!((clip.pairs, clip.datasets.len(), clip.difference), (3, 1, 3.0));
        assert!(compare(&outcomes, &[Metric::Accuracy], ["a", "unknown"], &datasets).is_empty());
    }
}
