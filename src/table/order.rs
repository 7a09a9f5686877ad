//! What a table shows: which data sets, methods and seeds were asked for, in which order and under which labels.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::deviation::Deviation;
use super::label::Label;
use super::layout::Layout;
use super::metric::Metric;
use super::published::PublishedNumbers;
use super::score::Score;
use crate::data::Classes;
use crate::error::{Error, Result};

/// The name under which the average over the data sets appears; no data set may have it.
pub(super) const AVERAGE: &str = "average";

/// What is shown, and how, in the order wanted.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The data sets.
    pub datasets: Vec<String>,
    /// Those of the data sets that do not enter the average, such as the source of a transfer.
    pub outside_average: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// What to print for a data set or method instead of its name.
    pub labels: BTreeMap<String, String>,
    /// What to show of the spread over seeds.
    pub deviation: Deviation,
    /// How data sets are arranged in LaTeX.
    pub layout: Layout,
    /// What papers print.
    pub published: PublishedNumbers,
    /// What papers call a method, where it is not its label.
    pub published_as: BTreeMap<String, String>,
    /// How far from the published number a value may be, in percentage points.
    pub tolerance: f64,
}

impl Order {
    /// The name with its label.
    pub(super) fn label(&self, name: &str) -> Label {
        Label { name: name.to_owned(), text: self.labels.get(name).map_or(name, String::as_str).to_owned() }
    }

    /// What a paper prints for a cell. An average is compared only if it is one over the same data sets.
    pub(super) fn published_number(&self, method: &str, dataset: &Label, metric: Metric) -> Option<f64> {
        let averaged = || {
            let datasets = self.datasets.iter().filter(|name| !self.outside_average.contains(name));
            datasets.map(|name| self.label(name).text).collect::<BTreeSet<String>>()
        };
        if dataset.name == AVERAGE {
            let outside: BTreeSet<String> = self.outside_average.iter().map(|name| self.label(name).text).collect();
            let known = self.published.datasets(metric);
            let known: BTreeSet<String> = known.into_iter().map(str::to_owned).collect();
            if &known - &outside != averaged() {
                return None;
            }
        }
        let method = self.published_as.get(method).or_else(|| self.labels.get(method)).map_or(method, String::as_str);
        self.published.number(method, &dataset.text, metric)
    }

    /// Refuses an order that contradicts itself, and scores that it does not place exactly once.
    pub(super) fn check(&self, scores: &[Score]) -> Result<()> {
        self.check_names()?;
        let mut seen = HashSet::new();
        let mut seeded = BTreeMap::new();
        for score in scores {
            self.check_place(score)?;
            if !seen.insert((&score.dataset, &score.method, score.seed, score.shots, score.classes)) {
                return Err(Error::hinted(
                    format!("{} is given twice", describe(score)),
                    "give one score for each data set, method, seed, number of shots and set of classes",
                ));
            }
            if *seeded.entry(&score.method).or_insert(score.seed.is_some()) != score.seed.is_some() {
                return Err(Error::hinted(
                    format!("method `{}` has scores with a seed and scores without one", score.method),
                    "give every score of a method a seed, or none",
                ));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        for (what, names) in [("data set", &self.datasets), ("method", &self.methods)] {
            let mut seen = HashSet::new();
            if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
                return Err(Error::invalid(format!("{what} `{name}` is listed twice in the table's order")));
            }
        }
        if self.datasets.iter().any(|name| name == AVERAGE) {
            return Err(Error::invalid(format!("`{AVERAGE}` is the table's average and cannot be a data set's name")));
        }
        match self.outside_average.iter().find(|name| !self.datasets.contains(name)) {
            Some(name) => Err(Error::invalid(format!(
                "`{name}` is listed as outside the table's average, and is none of its data sets"
            ))),
            None => Ok(()),
        }
    }

    fn check_place(&self, score: &Score) -> Result<()> {
        let reason = if !self.datasets.contains(&score.dataset) {
            format!("the table has no data set `{}`", score.dataset)
        } else if !self.methods.contains(&score.method) {
            format!("the table has no method `{}`", score.method)
        } else if let Some(accuracy) = score.accuracy.filter(|accuracy| !(0.0..=100.0).contains(accuracy)) {
            format!("an accuracy of {accuracy} is not a percentage")
        } else if score.shots.is_some() && score.classes != Classes::All {
            "a table that compares numbers of shots shows all classes".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("{} has no place in the table: {reason}", describe(score))))
    }
}

/// Names a score in a message.
fn describe(score: &Score) -> String {
    let seed = score.seed.map_or("without a seed".to_owned(), |seed| format!("at seed {seed}"));
    format!("the score of `{}` on the {} classes of `{}` {seed}", score.method, score.classes, score.dataset)
}
