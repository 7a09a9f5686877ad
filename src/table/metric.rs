//! The columns of a table.

use super::score::Score;
use crate::data::Classes;

/// A column: an accuracy on some classes, or what follows from two of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Metric {
    /// Accuracy on the base classes.
    Base,
    /// Accuracy on the novel classes.
    Novel,
    /// Harmonic mean of the two.
    HarmonicMean,
    /// Accuracy on all classes.
    Accuracy,
    /// Accuracy on all classes after training on so many images per class; 0 is zero-shot.
    Shots(u32),
}

impl Metric {
    /// The columns that do not count shots, in their order.
    pub(super) const PLAIN: [Metric; 4] = [Metric::Base, Metric::Novel, Metric::HarmonicMean, Metric::Accuracy];

    /// The classes whose accuracies the metric needs.
    pub(super) fn needs(self) -> &'static [Classes] {
        match self {
            Metric::Base => &[Classes::Base],
            Metric::Novel => &[Classes::Novel],
            Metric::HarmonicMean => &[Classes::Base, Classes::Novel],
            Metric::Accuracy | Metric::Shots(_) => &[Classes::All],
        }
    }

    /// Whether it is the one for so many shots.
    pub(super) fn counts(self, shots: Option<u32>) -> bool {
        match self {
            Metric::Shots(number) => number == shots.unwrap_or(0),
            _ => shots.is_none(),
        }
    }

    /// Whether a score enters it.
    pub fn is_of(self, score: &Score) -> bool {
        self.needs().contains(&score.classes) && self.counts(score.shots)
    }

    /// Whether it is an accuracy, and not made of several.
    pub fn is_an_accuracy(self) -> bool {
        self.needs().len() == 1
    }

    /// The value of the metric, given the scores of one method, data set and seed; nothing where one is missing.
    pub fn of_scores(self, scores: &[&Score]) -> Option<f64> {
        let accuracy = |classes: &Classes| scores.iter().find(|score| score.classes == *classes)?.accuracy;
        let accuracies: Option<Vec<f64>> = self.needs().iter().map(accuracy).collect();
        accuracies.map(|accuracies| self.combine(&accuracies))
    }

    /// The value of the metric, given the mean accuracy on each of the classes that it needs: their harmonic mean.
    pub(super) fn combine(self, accuracies: &[f64]) -> f64 {
        match accuracies {
            [accuracy] => *accuracy,
            _ if accuracies.contains(&0.0) => 0.0,
            _ => accuracies.len() as f64 / accuracies.iter().map(|accuracy| accuracy.recip()).sum::<f64>(),
        }
    }

    /// The name in a CSV file: `base`, `novel`, `hm`, `accuracy`, `accuracy_16_shots`.
    pub fn name(self) -> String {
        match self {
            Metric::Base => "base".to_owned(),
            Metric::Novel => "novel".to_owned(),
            Metric::HarmonicMean => "hm".to_owned(),
            Metric::Accuracy => "accuracy".to_owned(),
            Metric::Shots(number) => format!("accuracy_{number}_shots"),
        }
    }

    /// The heading of a column.
    pub fn heading(self) -> String {
        match self {
            Metric::Base => "Base".to_owned(),
            Metric::Novel => "Novel".to_owned(),
            Metric::HarmonicMean => "HM".to_owned(),
            Metric::Accuracy => "Accuracy".to_owned(),
            Metric::Shots(0) => "Zero-shot".to_owned(),
            Metric::Shots(1) => "1 shot".to_owned(),
            Metric::Shots(number) => format!("{number} shots"),
        }
    }

    /// The metric that a file of published numbers calls by this name, as in `results/published`; some papers tell the
    /// source of a transfer from its targets.
    pub(super) fn published(name: &str) -> Option<Metric> {
        match name {
            "base" => Some(Metric::Base),
            "novel" => Some(Metric::Novel),
            "hm" => Some(Metric::HarmonicMean),
            "accuracy" | "source_acc" | "target_acc" | "zeroshot_acc" => Some(Metric::Accuracy),
            _ => name.strip_prefix("acc_")?.strip_suffix("shot")?.parse().ok().map(Metric::Shots),
        }
    }
}
