//! From scores to a table: means over the seeds, then over the data sets.
//!
//! As the papers compute them: a harmonic mean is that of the mean base and the mean novel accuracy, also in the average
//! over the data sets (it is not the mean of the data sets' harmonic means); a standard deviation is the population's.
//! Base and novel enter a harmonic mean only from seeds and data sets that have both.

use super::metric::Metric;
use super::order::{AVERAGE, Order};
use super::score::Score;
use crate::data::Classes;
use crate::error::{Error, Result};

/// A name, and what is printed for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// As the pipeline names it.
    pub name: String,
    /// As people read it.
    pub text: String,
}

/// How many of those asked for are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Those with a score.
    pub present: usize,
    /// Those asked for.
    pub asked: usize,
}

impl Coverage {
    fn is_complete(self) -> bool {
        self.present >= self.asked
    }
}

/// One number of the table, in percent, and what it was computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The value: a mean over seeds, a mean of such means over data sets, or the harmonic mean of two of them.
    pub mean: f64,
    /// The population standard deviation over the seeds; none for a single seed, an average or a harmonic mean.
    pub std: Option<f64>,
    /// The seeds behind the value, in an average those of the data set with the fewest; none where there is no seed.
    pub seeds: Option<Coverage>,
    /// The data sets behind an average; none for a single data set.
    pub datasets: Option<Coverage>,
}

impl Cell {
    /// What is missing behind the value, in words, or nothing if all that was asked for is there.
    pub fn note(&self) -> Option<String> {
        let missing = |coverage: Option<Coverage>| {
            coverage
                .filter(|coverage| !coverage.is_complete())
                .map(|found| format!("{} of {}", found.present, found.asked))
        };
        match (missing(self.datasets), missing(self.seeds)) {
            (None, None) => None,
            (Some(datasets), None) => Some(format!("{datasets} data sets")),
            (Some(datasets), Some(seeds)) => Some(format!("{datasets} data sets, some with {seeds} seeds")),
            (None, Some(seeds)) if self.datasets.is_some() => Some(format!("some data sets with {seeds} seeds")),
            (None, Some(seeds)) => Some(format!("{seeds} seeds")),
        }
    }

    /// The number of the cell's note in the list of a table's notes, counted from 1.
    pub(super) fn note_number(&self, notes: &[String]) -> Option<usize> {
        let note = self.note()?;
        notes.iter().position(|known| *known == note).map(|index| index + 1)
    }
}

/// The rows of one data set, or of the average over the data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The data set; of the average, the name is `average`.
    pub label: Label,
    /// One row for each method of the table, with one cell for each of its metrics; none where there is no score.
    pub rows: Vec<Vec<Option<Cell>>>,
}

/// A table as data: groups of rows by data set, rows by method, columns by metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The name of the table, such as `base2novel`.
    pub name: String,
    /// What the table shows, in one line; may be empty.
    pub caption: String,
    /// The columns: the metrics that any score contributes to.
    pub metrics: Vec<Metric>,
    /// The methods in order.
    pub methods: Vec<Label>,
    /// The data sets in order; then their average, where more than one data set enters it.
    pub groups: Vec<Group>,
}

impl Table {
    /// Aggregates `scores` to a table that shows what `order` asks for.
    ///
    /// # Errors
    /// If there is no score; if the order contradicts itself; if a score is not in the order, is given twice, or is no
    /// percentage; if a method has scores with and without a seed.
    pub fn new(name: &str, caption: &str, scores: &[Score], order: &Order) -> Result<Table> {
        order.check(scores)?;
        if scores.is_empty() {
            return Err(Error::hinted(format!("table `{name}` has no scores"), "run the evaluations that it shows"));
        }
        let has = |classes: &Classes| scores.iter().any(|score| score.classes == *classes);
        let metrics: Vec<_> = Metric::ALL.into_iter().filter(|metric| metric.needs().iter().all(has)).collect();
        let averaged: Vec<_> =
            order.datasets.iter().filter(|dataset| !order.outside_average.contains(dataset)).collect();
        let mut groups = Vec::new();
        for dataset in &order.datasets {
            let cell = |method: &str, metric| summarize(scores, order, dataset, method, metric).map(Summary::into_cell);
            groups.push(Group { label: order.label(dataset), rows: rows(order, &metrics, cell) });
        }
        if averaged.len() > 1 {
            let cell = |method: &str, metric| average(scores, order, &averaged, method, metric);
            let label = Label { name: AVERAGE.to_owned(), text: "Average".to_owned() };
            groups.push(Group { label, rows: rows(order, &metrics, cell) });
        }
        let methods = order.methods.iter().map(|method| order.label(method)).collect();
        Ok(Table { name: name.to_owned(), caption: caption.to_owned(), metrics, methods, groups })
    }

    /// The notes of all cells, each once, in the order in which they first appear.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for cell in self.groups.iter().flat_map(|group| group.rows.iter().flatten().flatten()) {
            notes.extend(cell.note().filter(|note| !notes.contains(note)));
        }
        notes
    }
}

/// One row for each method, with one cell for each metric.
fn rows(order: &Order, metrics: &[Metric], cell: impl Fn(&str, Metric) -> Option<Cell>) -> Vec<Vec<Option<Cell>>> {
    order.methods.iter().map(|method| metrics.iter().map(|&metric| cell(method, metric)).collect()).collect()
}

/// A metric of one method on one data set, before the classes are combined.
struct Summary {
    metric: Metric,
    /// The accuracy on each of the metric's classes, averaged over the seeds that have all of them.
    accuracies: Vec<f64>,
    std: Option<f64>,
    seeds: Option<Coverage>,
}

impl Summary {
    fn into_cell(self) -> Cell {
        Cell { mean: self.metric.combine(&self.accuracies), std: self.std, seeds: self.seeds, datasets: None }
    }
}

/// Averages over the seeds that have all classes of the metric; none if there is no such seed.
fn summarize(scores: &[Score], order: &Order, dataset: &str, method: &str, metric: Metric) -> Option<Summary> {
    let accuracy = |seed: Option<i64>, classes: Classes| {
        let is_it = |score: &&Score| {
            score.dataset == dataset && score.method == method && score.seed == seed && score.classes == classes
        };
        scores.iter().find(is_it).map(|score| score.accuracy)
    };
    let of_seed = |seed| metric.needs().iter().map(|&classes| accuracy(seed, classes)).collect::<Option<Vec<f64>>>();
    let seeded: Vec<_> = order.seeds.iter().filter_map(|&seed| of_seed(Some(seed))).collect();
    let (runs, seeds) = match of_seed(None) {
        Some(run) => (vec![run], None),
        None => {
            let coverage = Coverage { present: seeded.len(), asked: order.seeds.len() };
            (seeded, Some(coverage))
        }
    };
    if runs.is_empty() {
        return None;
    }
    let column = |index: usize| runs.iter().map(|run| run[index]).collect::<Vec<f64>>();
    let accuracies: Vec<_> = (0..metric.needs().len()).map(|index| mean(&column(index))).collect();
    let std = (runs.len() > 1 && accuracies.len() == 1).then(|| population_std(&column(0)));
    Some(Summary { metric, accuracies, std, seeds })
}

/// Averages a method's accuracies over the data sets that have them, then combines the classes.
fn average(scores: &[Score], order: &Order, datasets: &[&String], method: &str, metric: Metric) -> Option<Cell> {
    let summaries: Vec<_> =
        datasets.iter().filter_map(|dataset| summarize(scores, order, dataset, method, metric)).collect();
    if summaries.is_empty() {
        return None;
    }
    let column = |index: usize| summaries.iter().map(|summary| summary.accuracies[index]).collect::<Vec<f64>>();
    let accuracies: Vec<_> = (0..metric.needs().len()).map(|index| mean(&column(index))).collect();
    Some(Cell {
        mean: metric.combine(&accuracies),
        std: None,
        seeds: summaries.iter().filter_map(|summary| summary.seeds).min_by_key(|seeds| seeds.present),
        datasets: Some(Coverage { present: summaries.len(), asked: datasets.len() }),
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation with divisor n, as numpy computes it by default.
fn population_std(values: &[f64]) -> f64 {
    let center = mean(values);
    mean(&values.iter().map(|value| (value - center).powi(2)).collect::<Vec<f64>>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, order, score, transfer};
    use super::*;

    fn cell(table: &Table, group: usize, method: usize, metric: Metric) -> Option<&Cell> {
        let column = table.metrics.iter().position(|&known| known == metric).unwrap();
        table.groups[group].rows[method][column].as_ref()
    }

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn averages_over_seeds_with_the_population_deviation() {
        let table = base2novel();
        let base = cell(&table, 0, 2, Metric::Base).unwrap();
        assert_near(base.mean, 93.0);
        assert_near(base.std.unwrap(), 1.0);
        assert_eq!(base.seeds, Some(Coverage { present: 2, asked: 2 }));
        let harmonic = cell(&table, 0, 2, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean, 2.0 * 93.0 * 73.0 / (93.0 + 73.0));
        assert_eq!(harmonic.std, None);
    }

    #[test]
    fn a_method_without_seeds_is_complete_with_one_score() {
        let table = base2novel();
        let base = cell(&table, 0, 0, Metric::Base).unwrap();
        assert_eq!((base.mean, base.std, base.seeds, base.note()), (56.0, None, None, None));
    }

    #[test]
    fn the_average_harmonic_mean_is_that_of_the_averages() {
        let table = base2novel();
        let (base, novel) = (f64::midpoint(56.0, 53.0), f64::midpoint(64.0, 60.0));
        let harmonic = cell(&table, 2, 0, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean, 2.0 * base * novel / (base + novel));
        assert_eq!(harmonic.note(), None);
    }

    #[test]
    fn an_average_over_less_than_asked_says_so() {
        let table = base2novel();
        let note = |group, method| cell(&table, group, method, Metric::HarmonicMean).and_then(Cell::note);
        assert_eq!(note(1, 2).as_deref(), Some("1 of 2 seeds"));
        assert_eq!(cell(&table, 1, 1, Metric::Base), None);
        assert_eq!(note(2, 1).as_deref(), Some("1 of 2 data sets"));
        assert_eq!(note(2, 2).as_deref(), Some("some data sets with 1 of 2 seeds"));
    }

    #[test]
    fn a_harmonic_mean_uses_the_seeds_that_have_both_classes() {
        let scores = [
            score("dtd", "coop", Some(1), Classes::Base, 80.0),
            score("dtd", "coop", Some(2), Classes::Base, 90.0),
            score("dtd", "coop", Some(2), Classes::Novel, 60.0),
        ];
        let table = Table::new("t", "", &scores, &order(&["dtd"], &["coop"], &[1, 2])).unwrap();
        assert_near(cell(&table, 0, 0, Metric::Base).unwrap().mean, 85.0);
        let harmonic = cell(&table, 0, 0, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean, 72.0);
        assert_eq!(harmonic.note().as_deref(), Some("1 of 2 seeds"));
    }

    #[test]
    fn a_harmonic_mean_with_zero_is_zero() {
        let scores = [score("d", "m", None, Classes::Base, 0.0), score("d", "m", None, Classes::Novel, 50.0)];
        let table = Table::new("t", "", &scores, &order(&["d"], &["m"], &[])).unwrap();
        assert_eq!(cell(&table, 0, 0, Metric::HarmonicMean).unwrap().mean, 0.0);
    }

    #[test]
    fn columns_are_the_metrics_present_and_the_average_leaves_the_source_out() {
        let table = transfer();
        assert_eq!(table.metrics, [Metric::Accuracy]);
        assert_near(cell(&table, 3, 0, Metric::Accuracy).unwrap().mean, 47.25);
        let single = order(&["dtd"], &["maple"], &[1]);
        let scores = [score("dtd", "maple", Some(1), Classes::Base, 46.0)];
        let table = Table::new("t", "", &scores, &single).unwrap();
        assert_eq!((table.metrics.as_slice(), table.groups.len()), ([Metric::Base].as_slice(), 1));
    }

    #[test]
    fn scores_without_one_place_are_refused() {
        let order = order(&["dtd"], &["coop"], &[1, 2]);
        let good = score("dtd", "coop", Some(1), Classes::Base, 80.0);
        let refused = |scores: &[Score]| Table::new("t", "", scores, &order).unwrap_err().to_string();
        let twice = "the score of `coop` on the base classes of `dtd` at seed 1 is given twice";
        assert_eq!(refused(&[good.clone(), good.clone()]), twice);
        let mixed = "method `coop` has scores with a seed and scores without one";
        assert_eq!(refused(&[good.clone(), Score { seed: None, ..good.clone() }]), mixed);
        let reasons = [
            (Score { dataset: "x".to_owned(), ..good.clone() }, "the table has no data set `x`"),
            (Score { method: "x".to_owned(), ..good.clone() }, "the table has no method `x`"),
            (Score { seed: Some(3), ..good.clone() }, "the table does not ask for this seed"),
            (Score { accuracy: f64::NAN, ..good.clone() }, "an accuracy of NaN is not a percentage"),
            (Score { accuracy: 100.5, ..good }, "an accuracy of 100.5 is not a percentage"),
        ];
        for (score, reason) in reasons {
            let message = refused(&[score]);
            assert!(message.ends_with(&format!("has no place in the table: {reason}")), "{message}");
        }
    }

    #[test]
    fn an_order_that_contradicts_itself_or_has_no_scores_is_refused() {
        let refused = |order: Order| Table::new("t", "", &[], &order).unwrap_err().to_string();
        assert!(refused(order(&["dtd", "dtd"], &[], &[])).starts_with("data set `dtd` is listed twice"));
        assert!(refused(order(&["dtd"], &["m", "m"], &[])).starts_with("method `m` is listed twice"));
        assert!(refused(order(&["average"], &[], &[])).starts_with("`average` is the table's average"));
        let outside = Order { outside_average: vec!["imagenet".to_owned()], ..order(&["dtd"], &[], &[]) };
        assert!(refused(outside).starts_with("`imagenet` is listed as outside"));
        assert_eq!(refused(order(&["dtd"], &["m"], &[1])), "table `t` has no scores");
    }
}
