//! From scores to a table: means over the seeds, then over the data sets.
//!
//! As the papers compute them: a harmonic mean is that of the mean base and the mean novel accuracy, also in the average
//! over the data sets (it is not the mean of the data sets' harmonic means); a standard deviation is the population's, unless
//! another is asked for. Base and novel enter a harmonic mean only from seeds and data sets that have both.

use super::deviation::Deviation;
use super::label::Label;
use super::layout::Layout;
use super::metric::Metric;
use super::order::{AVERAGE, Order};
use super::score::Score;
use crate::data::Classes;
use crate::error::{Error, Result};

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

/// Whether no data set is missing behind a value: an average of fewer is another number.
fn is_whole(cell: &Cell) -> bool {
    cell.datasets.is_none_or(Coverage::is_complete)
}

/// One number of the table, in percent, and what it was computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The value: a mean over seeds, a mean of such means over data sets, or the harmonic mean of two of them; none where
    /// it is asked for and nothing is there to compute it from.
    pub mean: Option<f64>,
    /// The deviation over the seeds; none for a single seed, an average or a harmonic mean.
    pub std: Option<f64>,
    /// The same of any value, for plots: of an average and of a harmonic mean, the deviation of what each seed has of it; none
    /// for fewer than two seeds that have it.
    pub spread: Option<f64>,
    /// The seeds behind the value, in an average those of the data set with the fewest; none where there is no seed.
    pub seeds: Option<Coverage>,
    /// The data sets behind an average; none for a single data set.
    pub datasets: Option<Coverage>,
    /// What a paper prints.
    pub published: Option<f64>,
    /// The keys of the evaluations behind the value.
    pub keys: Vec<String>,
}

impl Cell {
    /// How much the value is above the published one, in percentage points.
    pub fn delta(&self) -> Option<f64> {
        Some(self.mean? - self.published?)
    }

    /// What is missing behind the value, in words, or nothing if all that was asked for is there.
    pub fn note(&self) -> Option<String> {
        let missing = |coverage: Option<Coverage>| {
            coverage
                .filter(|coverage| !coverage.is_complete())
                .map(|found| format!("{} of {}", found.present, found.asked))
        };
        match (missing(self.datasets), missing(self.seeds)) {
            _ if self.mean.is_none() => Some("missing".to_owned()),
            (None, None) => None,
            (Some(datasets), None) => Some(format!("{datasets} data sets")),
            (Some(datasets), Some(seeds)) => Some(format!("{datasets} data sets, some with {seeds} seeds")),
            (None, Some(seeds)) if self.datasets.is_some() => Some(format!("some data sets with {seeds} seeds")),
            (None, Some(seeds)) => Some(format!("{seeds} seeds")),
        }
    }

    /// The number of the cell's note in the list of a table's notes, counted from 1.
    pub fn note_number(&self, notes: &[String]) -> Option<usize> {
        let note = self.note()?;
        notes.iter().position(|known| *known == note).map(|index| index + 1)
    }
}

/// The rows of one data set, or of the average over the data sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The data set; of the average, the name is `average`.
    pub label: Label,
    /// It does not enter the average, such as the source of a transfer.
    pub is_outside: bool,
    /// One row for each method of the table, with one cell for each of its metrics; none where nothing is asked for.
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
    /// What it is made of.
    pub scores: Vec<Score>,
    /// The data sets in order; then their average, where more than one data set enters it.
    pub groups: Vec<Group>,
    /// How far from the published number a value may be, in percentage points.
    pub tolerance: f64,
    /// What its deviations are.
    pub deviation: Deviation,
    /// How data sets are arranged in LaTeX.
    pub layout: Layout,
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
        let metrics = metrics(scores);
        let averaged: Vec<_> =
            order.datasets.iter().filter(|dataset| !order.outside_average.contains(dataset)).collect();
        let mut groups = Vec::new();
        for dataset in &order.datasets {
            let cell =
                |method: &str, metric| Some(summarize(scores, dataset, method, metric)?.into_cell(order.deviation));
            let is_outside = order.outside_average.contains(dataset);
            groups.push(Group { label: order.label(dataset), is_outside, rows: rows(order, &metrics, cell) });
        }
        if averaged.len() > 1 {
            let cell = |method: &str, metric| average(scores, &averaged, method, metric, order.deviation);
            let label = Label { name: AVERAGE.to_owned(), text: "Average".to_owned() };
            groups.push(Group { label, is_outside: false, rows: rows(order, &metrics, cell) });
        }
        for group in &mut groups {
            for (method, row) in order.methods.iter().zip(&mut group.rows) {
                for (&metric, cell) in metrics.iter().zip(row) {
                    let number = || order.published_number(method, &group.label, metric);
                    cell.iter_mut().for_each(|cell| cell.published = if is_whole(cell) { number() } else { None });
                }
            }
        }
        let methods = order.methods.iter().map(|method| order.label(method)).collect();
        let (name, caption) = (name.to_owned(), caption.to_owned());
        let Order { tolerance, deviation, layout, .. } = *order;
        let scores = scores.to_vec();
        Ok(Table { name, caption, metrics, methods, scores, groups, tolerance, deviation, layout })
    }

    /// The data sets that enter the average.
    pub fn averaged(&self) -> Vec<String> {
        let averaged = self.groups.iter().filter(|group| !group.is_outside && group.label.name != AVERAGE);
        averaged.map(|group| group.label.name.clone()).collect()
    }

    /// Whether a value is further from the published one than the table tolerates.
    pub fn is_off(&self, cell: &Cell) -> bool {
        cell.delta().is_some_and(|delta| delta.abs() > self.tolerance)
    }

    /// Whether any cell can be compared with a published number.
    pub fn is_compared(&self) -> bool {
        self.cells().any(|cell| cell.delta().is_some())
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.groups.iter().flat_map(|group| group.rows.iter().flatten().flatten())
    }

    /// Whether any value has a deviation over seeds.
    pub fn is_spread(&self) -> bool {
        self.cells().any(|cell| cell.spread.is_some())
    }

    /// The notes of all cells, each once, in the order in which they first appear.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for cell in self.cells() {
            notes.extend(cell.note().filter(|note| !notes.contains(note)));
        }
        notes
    }
}

/// One row for each method, with one cell for each metric.
fn rows(order: &Order, metrics: &[Metric], cell: impl Fn(&str, Metric) -> Option<Cell>) -> Vec<Vec<Option<Cell>>> {
    order.methods.iter().map(|method| metrics.iter().map(|&metric| cell(method, metric)).collect()).collect()
}

/// The columns that the scores give.
fn metrics(scores: &[Score]) -> Vec<Metric> {
    let mut shots: Vec<u32> = scores.iter().filter_map(|score| score.shots).collect();
    if shots.is_empty() {
        let has = |classes: &Classes| scores.iter().any(|score| score.classes == *classes);
        return Metric::PLAIN.into_iter().filter(|metric| metric.needs().iter().all(has)).collect();
    }
    if scores.iter().any(|score| score.shots.is_none()) {
        shots.push(0);
    }
    shots.sort_unstable();
    shots.dedup();
    shots.into_iter().map(Metric::Shots).collect()
}

/// A metric of one method on one data set, before the classes are combined.
struct Summary {
    metric: Metric,
    /// Of each seed that has all classes of the metric, the accuracy on each of them.
    runs: Vec<(Option<i64>, Vec<f64>)>,
    seeds: Option<Coverage>,
    keys: Vec<String>,
}

impl Summary {
    /// The accuracy on each of the metric's classes, averaged over the seeds that have all of them; none if none has.
    fn accuracies(&self) -> Option<Vec<f64>> {
        let runs: Vec<&[f64]> = self.runs.iter().map(|(_, run)| run.as_slice()).collect();
        (!runs.is_empty()).then(|| columns_of(&runs, self.metric.needs().len()))
    }

    fn into_cell(self, deviation: Deviation) -> Cell {
        let mean = self.accuracies().map(|accuracies| self.metric.combine(&accuracies));
        let spread = spread(&[&self], self.metric, deviation);
        let std = spread.filter(|_| self.metric.is_an_accuracy());
        Cell { mean, std, spread, seeds: self.seeds, datasets: None, published: None, keys: self.keys }
    }
}

/// Finds the seeds that have all classes of the metric; none if nothing of it is asked for.
fn summarize(scores: &[Score], dataset: &str, method: &str, metric: Metric) -> Option<Summary> {
    let is_asked = |score: &&Score| {
        let needed = metric.needs().contains(&score.classes) && metric.counts(score.shots);
        score.dataset == dataset && score.method == method && needed
    };
    let asked: Vec<&Score> = scores.iter().filter(is_asked).collect();
    let mut seeds: Vec<Option<i64>> = Vec::new();
    for score in &asked {
        if !seeds.contains(&score.seed) {
            seeds.push(score.seed);
        }
    }
    let (mut runs, mut keys) = (Vec::new(), Vec::new());
    for &seed in &seeds {
        let score = |classes: &Classes| asked.iter().find(|score| score.seed == seed && score.classes == *classes);
        let run: Option<Vec<&&Score>> = metric.needs().iter().map(score).collect();
        if let Some(accuracies) = run.iter().flatten().map(|score| score.accuracy).collect::<Option<Vec<f64>>>()
            && accuracies.len() == metric.needs().len()
        {
            runs.push((seed, accuracies));
            keys.extend(run.iter().flatten().filter_map(|score| score.key.clone()));
        }
    }
    let coverage = Coverage { present: runs.len(), asked: seeds.len() };
    let seeds = (seeds != [None]).then_some(coverage);
    (!asked.is_empty()).then_some(Summary { metric, runs, seeds, keys })
}

/// Averages a method's accuracies over the data sets that have them, then combines the classes.
fn average(scores: &[Score], datasets: &[&String], method: &str, metric: Metric, deviation: Deviation) -> Option<Cell> {
    let summaries: Vec<Summary> =
        datasets.iter().filter_map(|dataset| summarize(scores, dataset, method, metric)).collect();
    let found: Vec<(&Summary, Vec<f64>)> =
        summaries.iter().filter_map(|summary| Some((summary, summary.accuracies()?))).collect();
    let rows: Vec<&[f64]> = found.iter().map(|(_, accuracies)| accuracies.as_slice()).collect();
    let whole: Vec<&Summary> = found.iter().map(|(summary, _)| *summary).collect();
    let mean = (!rows.is_empty()).then(|| metric.combine(&columns_of(&rows, metric.needs().len())));
    let cell = Cell {
        mean,
        std: None,
        spread: spread(&whole, metric, deviation),
        seeds: found.iter().filter_map(|(summary, _)| summary.seeds).min_by_key(|seeds| seeds.present),
        datasets: Some(Coverage { present: rows.len(), asked: summaries.len() }),
        published: None,
        keys: found.iter().flat_map(|(summary, _)| summary.keys.clone()).collect(),
    };
    (!summaries.is_empty()).then_some(cell)
}

/// The deviation of a value over the seeds that all of these data sets have: each seed's is made of its accuracies averaged over
/// the data sets. None for fewer than two seeds.
fn spread(datasets: &[&Summary], metric: Metric, deviation: Deviation) -> Option<f64> {
    let of_seed = |(seed, _): &(Option<i64>, Vec<f64>)| {
        let run = |summary: &&Summary| Some(summary.runs.iter().find(|(other, _)| other == seed)?.1.clone());
        let rows: Vec<Vec<f64>> = datasets.iter().map(run).collect::<Option<_>>()?;
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        Some(metric.combine(&columns_of(&rows, metric.needs().len())))
    };
    let values: Vec<f64> = datasets.first()?.runs.iter().filter_map(of_seed).collect();
    (values.len() > 1).then(|| deviation.of(&values))
}

/// The mean of each column.
fn columns_of(rows: &[&[f64]], columns: usize) -> Vec<f64> {
    let column = |index: usize| rows.iter().map(|row| row[index]).sum::<f64>() / rows.len() as f64;
    (0..columns).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, few_shot, missing, order, score, transfer};
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
        assert_near(base.mean.unwrap(), 93.0);
        assert_near(base.std.unwrap(), 1.0);
        assert_eq!(base.seeds, Some(Coverage { present: 2, asked: 2 }));
        let harmonic = cell(&table, 0, 2, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean.unwrap(), 2.0 * 93.0 * 73.0 / (93.0 + 73.0));
        assert_eq!(harmonic.std, None);
        // 2 * 94 * 72 / 166 and 2 * 92 * 74 / 166 are as far from their mean.
        assert_near(harmonic.spread.unwrap(), (92.0 * 74.0 - 94.0 * 72.0) / 166.0);
        assert_eq!((base.spread, cell(&table, 0, 0, Metric::Base).unwrap().spread), (base.std, None));
    }

    #[test]
    fn the_spread_of_an_average_is_that_of_the_averages_of_seeds() {
        let scores = [("dtd", 1, 40.0), ("dtd", 2, 44.0), ("pets", 1, 80.0), ("pets", 2, 78.0), ("pets", 3, 90.0)]
            .map(|(dataset, seed, accuracy)| score(dataset, "maple", Some(seed), Classes::All, accuracy));
        let table = Table::new("t", "", &scores, &order(&["dtd", "pets"], &["maple"])).unwrap();
        let average = cell(&table, 2, 0, Metric::Accuracy).unwrap();
        // Seed 3 is not on both; the others have 60 and 61.
        assert_near(average.spread.unwrap(), 0.5);
        assert_eq!(average.std, None);
    }

    #[test]
    fn a_method_without_seeds_is_complete_with_one_score() {
        let table = base2novel();
        let base = cell(&table, 0, 0, Metric::Base).unwrap();
        assert_eq!((base.mean, base.std, base.seeds, base.note()), (Some(56.0), None, None, None));
    }

    #[test]
    fn the_average_harmonic_mean_is_that_of_the_averages() {
        let table = base2novel();
        let (base, novel) = (f64::midpoint(56.0, 53.0), f64::midpoint(64.0, 60.0));
        let harmonic = cell(&table, 2, 0, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean.unwrap(), 2.0 * base * novel / (base + novel));
        assert_eq!(harmonic.note(), None);
    }

    #[test]
    fn an_average_over_less_than_asked_says_so() {
        let table = base2novel();
        let note = |group, method| cell(&table, group, method, Metric::HarmonicMean).and_then(Cell::note);
        assert_eq!(note(1, 2).as_deref(), Some("1 of 2 seeds"));
        assert_eq!(note(1, 1).as_deref(), Some("missing"));
        assert_eq!(cell(&table, 1, 1, Metric::Base).unwrap().mean, None);
        assert_eq!(note(2, 1).as_deref(), Some("1 of 2 data sets"));
        assert_eq!(note(2, 2).as_deref(), Some("some data sets with 1 of 2 seeds"));
    }

    #[test]
    fn a_harmonic_mean_uses_the_seeds_that_have_both_classes() {
        let scores = [
            score("dtd", "coop", Some(1), Classes::Base, 80.0),
            missing("dtd", "coop", Some(1), Classes::Novel),
            score("dtd", "coop", Some(2), Classes::Base, 90.0),
            score("dtd", "coop", Some(2), Classes::Novel, 60.0),
        ];
        let table = Table::new("t", "", &scores, &order(&["dtd"], &["coop"])).unwrap();
        assert_near(cell(&table, 0, 0, Metric::Base).unwrap().mean.unwrap(), 85.0);
        let harmonic = cell(&table, 0, 0, Metric::HarmonicMean).unwrap();
        assert_near(harmonic.mean.unwrap(), 72.0);
        assert_eq!(harmonic.note().as_deref(), Some("1 of 2 seeds"));
    }

    #[test]
    fn a_harmonic_mean_with_zero_is_zero() {
        let scores = [score("d", "m", None, Classes::Base, 0.0), score("d", "m", None, Classes::Novel, 50.0)];
        let table = Table::new("t", "", &scores, &order(&["d"], &["m"])).unwrap();
        assert_eq!(cell(&table, 0, 0, Metric::HarmonicMean).unwrap().mean, Some(0.0));
    }

    #[test]
    fn columns_are_the_metrics_present_and_the_average_leaves_the_source_out() {
        let table = transfer();
        assert_eq!(table.metrics, [Metric::Accuracy]);
        assert_near(cell(&table, 3, 0, Metric::Accuracy).unwrap().mean.unwrap(), 47.25);
        let single = order(&["dtd"], &["maple"]);
        let scores = [score("dtd", "maple", Some(1), Classes::Base, 46.0)];
        let table = Table::new("t", "", &scores, &single).unwrap();
        assert_eq!((table.metrics.as_slice(), table.groups.len()), ([Metric::Base].as_slice(), 1));
    }

    #[test]
    fn scores_without_one_place_are_refused() {
        let order = order(&["dtd"], &["coop"]);
        let good = score("dtd", "coop", Some(1), Classes::Base, 80.0);
        let refused = |scores: &[Score]| Table::new("t", "", scores, &order).unwrap_err().to_string();
        let twice = "the score of `coop` on the base classes of `dtd` at seed 1 is given twice";
        assert_eq!(refused(&[good.clone(), good.clone()]), twice);
        let mixed = "method `coop` has scores with a seed and scores without one";
        assert_eq!(refused(&[good.clone(), Score { seed: None, ..good.clone() }]), mixed);
        let reasons = [
            (Score { dataset: "x".to_owned(), ..good.clone() }, "the table has no data set `x`"),
            (Score { method: "x".to_owned(), ..good.clone() }, "the table has no method `x`"),
            (Score { accuracy: Some(f64::NAN), ..good.clone() }, "an accuracy of NaN is not a percentage"),
            (Score { accuracy: Some(100.5), ..good.clone() }, "an accuracy of 100.5 is not a percentage"),
            (Score { shots: Some(4), ..good }, "a table that compares numbers of shots shows all classes"),
        ];
        for (score, reason) in reasons {
            let message = refused(&[score]);
            assert!(message.ends_with(&format!("has no place in the table: {reason}")), "{message}");
        }
    }

    #[test]
    fn an_order_that_contradicts_itself_or_has_no_scores_is_refused() {
        let refused = |order: Order| Table::new("t", "", &[], &order).unwrap_err().to_string();
        assert!(refused(order(&["dtd", "dtd"], &[])).starts_with("data set `dtd` is listed twice"));
        assert!(refused(order(&["dtd"], &["m", "m"])).starts_with("method `m` is listed twice"));
        assert!(refused(order(&["average"], &[])).starts_with("`average` is the table's average"));
        let outside = Order { outside_average: vec!["imagenet".to_owned()], ..order(&["dtd"], &[]) };
        assert!(refused(outside).starts_with("`imagenet` is listed as outside"));
        assert_eq!(refused(order(&["dtd"], &["m"])), "table `t` has no scores");
    }

    #[test]
    fn columns_count_shots_and_cells_know_the_published_number() {
        let table = few_shot();
        assert_eq!(table.metrics, [0, 1, 2].map(Metric::Shots));
        assert_eq!(cell(&table, 0, 1, Metric::Shots(0)), None);
        let zero_shot = cell(&table, 0, 0, Metric::Shots(0)).unwrap();
        assert_near(zero_shot.delta().unwrap(), -0.16);
        let two = cell(&table, 0, 1, Metric::Shots(2)).unwrap();
        assert_eq!(two.note().as_deref(), Some("1 of 2 seeds"));
        assert_near(two.delta().unwrap(), -1.6);
        assert_eq!((table.is_off(zero_shot), table.is_off(two)), (false, true));
    }
}
