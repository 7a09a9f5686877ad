//! The columns of a table.

use crate::data::Classes;

/// A column: an accuracy on some classes, or what follows from two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Accuracy on the base classes.
    Base,
    /// Accuracy on the novel classes.
    Novel,
    /// Harmonic mean of the two.
    HarmonicMean,
    /// Accuracy on all classes.
    Accuracy,
}

impl Metric {
    /// All metrics, in the order of the columns.
    pub(super) const ALL: [Metric; 4] = [Metric::Base, Metric::Novel, Metric::HarmonicMean, Metric::Accuracy];

    /// The classes whose accuracies the metric needs.
    pub(super) fn needs(self) -> &'static [Classes] {
        match self {
            Metric::Base => &[Classes::Base],
            Metric::Novel => &[Classes::Novel],
            Metric::HarmonicMean => &[Classes::Base, Classes::Novel],
            Metric::Accuracy => &[Classes::All],
        }
    }

    /// The value of the metric, given the mean accuracy on each of the classes that it needs: their harmonic mean.
    pub(super) fn combine(self, accuracies: &[f64]) -> f64 {
        match accuracies {
            [accuracy] => *accuracy,
            _ if accuracies.contains(&0.0) => 0.0,
            _ => accuracies.len() as f64 / accuracies.iter().map(|accuracy| accuracy.recip()).sum::<f64>(),
        }
    }

    /// The name in a CSV file: `base`, `novel`, `hm`, `accuracy`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Base => "base",
            Metric::Novel => "novel",
            Metric::HarmonicMean => "hm",
            Metric::Accuracy => "accuracy",
        }
    }

    /// The heading of a column.
    pub fn heading(self) -> &'static str {
        match self {
            Metric::Base => "Base",
            Metric::Novel => "Novel",
            Metric::HarmonicMean => "HM",
            Metric::Accuracy => "Accuracy",
        }
    }
}
