//! What a table shows: which data sets, methods and seeds were asked for, in which order and under which labels.

use std::collections::{BTreeMap, HashSet};

use super::aggregate::Label;
use super::score::Score;
use crate::error::{Error, Result};

/// The name under which the average over the data sets appears; no data set may have it.
pub(super) const AVERAGE: &str = "average";

/// What was asked for, in the order wanted. What is asked for and has no score is shown as missing.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The data sets.
    pub datasets: Vec<String>,
    /// Those of the data sets that do not enter the average, such as the source of a transfer.
    pub outside_average: Vec<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// The seeds that every method has, except one whose scores have no seed.
    pub seeds: Vec<i64>,
    /// What to print for a data set or method instead of its name.
    pub labels: BTreeMap<String, String>,
}

impl Order {
    /// The name with its label.
    pub(super) fn label(&self, name: &str) -> Label {
        Label { name: name.to_owned(), text: self.labels.get(name).map_or(name, String::as_str).to_owned() }
    }

    /// Refuses an order that contradicts itself, and scores that it does not place exactly once.
    pub(super) fn check(&self, scores: &[Score]) -> Result<()> {
        self.check_names()?;
        let mut seen = HashSet::new();
        let mut seeded = BTreeMap::new();
        for score in scores {
            self.check_place(score)?;
            if !seen.insert((&score.dataset, &score.method, score.seed, score.classes)) {
                return Err(Error::hinted(
                    format!("{} is given twice", describe(score)),
                    "give one score for each data set, method, seed and set of classes",
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
        } else if score.seed.is_some_and(|seed| !self.seeds.contains(&seed)) {
            "the table does not ask for this seed".to_owned()
        } else if !(0.0..=100.0).contains(&score.accuracy) {
            format!("an accuracy of {} is not a percentage", score.accuracy)
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
