//! What an evaluation measures, of all test images and of each class.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::data::{Classes, SplitPart};
use crate::error::{Error, Result};
use crate::files::read_json;

/// What an evaluation measures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Metrics {
    /// The classes that were told apart.
    pub classes: Classes,
    /// 100 x correct / total over all test images, as in the published code (no mean over classes).
    pub accuracy: f64,
    /// The mean F1 score of the classes that have test images, in percent, as Dassl's `Classification` evaluator has it:
    /// `f1_score(average="macro", labels=np.unique(y_true))` of scikit-learn.
    pub macro_f1: f64,
    /// Images whose largest logit was their label's.
    pub correct: usize,
    /// Test images.
    pub total: usize,
    /// Test images that could not be decoded and were left out, where the stage says `on_bad_image = "skip"`.
    pub skipped: usize,
    /// Which images; those of the test list, where nothing is said.
    #[serde(default, skip_serializing_if = "SplitPart::is_test")]
    pub split: SplitPart,
}

/// What an evaluation counts of one class: a row of `per-class.csv`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// From 0 among the classes that were told apart.
    pub label: usize,
    /// Its name.
    pub class: String,
    /// Test images of it.
    pub images: usize,
    /// Test images that were taken for it.
    pub predicted: usize,
    /// Those that are both.
    pub correct: usize,
    /// 100 x correct / images; nothing for a class without test images.
    #[serde(serialize_with = "percent")]
    pub accuracy: Option<f64>,
    /// The harmonic mean of precision and recall, in percent; nothing for a class without test images.
    #[serde(serialize_with = "percent")]
    pub f1: Option<f64>,
}

/// Reads what somebody needs of an evaluation's metrics, which a command may have written; `accuracy` is what of it must be a
/// percentage. `output` is the node and its output, as `node:output`.
///
/// # Errors
/// They hold something else, or cannot be read; the message names the node.
pub fn read_metrics<T: DeserializeOwned>(path: &Path, output: &str, accuracy: impl Fn(&T) -> f64) -> Result<T> {
    let wrong = |why: String| {
        Error::hinted(
            format!("`{output}` holds no accuracy: {why}"),
            "it is JSON such as `{\"accuracy\": 81.4, \"classes\": \"all\"}`, in percent; `NaN` is no JSON",
        )
    };
    let metrics: T = read_json(path).map_err(|error| match error {
        Error::Format { message, .. } => wrong(message),
        other => other,
    })?;
    match accuracy(&metrics) {
        0.0..=100.0 => Ok(metrics),
        accuracy => Err(wrong(format!("{accuracy} is not a percentage"))),
    }
}

impl ClassMetrics {
    /// Counts each class, by label: of every image its label and its prediction, both below `class_names.len()`.
    pub fn count(class_names: &[String], pairs: impl Iterator<Item = (usize, usize)>) -> Vec<ClassMetrics> {
        // Of each class: images, predicted, correct.
        let mut counts = vec![[0; 3]; class_names.len()];
        for (label, prediction) in pairs {
            counts[label][0] += 1;
            counts[prediction][1] += 1;
            counts[label][2] += usize::from(label == prediction);
        }
        let of_class = |(label, [images, predicted, correct]): (usize, [usize; 3])| {
            let share = |part: usize, whole: usize| (images > 0).then(|| 100.0 * part as f64 / whole as f64);
            let (accuracy, f1) = (share(correct, images), share(2 * correct, images + predicted));
            ClassMetrics { label, class: class_names[label].clone(), images, predicted, correct, accuracy, f1 }
        };
        counts.into_iter().enumerate().map(of_class).collect()
    }
}

/// A percentage with four decimals, as in tables.
fn percent<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.map(|value| format!("{value:.4}")).unwrap_or_default())
}

impl Metrics {
    /// The metrics over all classes, of which at least one has test images.
    pub fn new(classes: Classes, counts: &[ClassMetrics]) -> Metrics {
        let total = counts.iter().map(|one| one.images).sum();
        let correct = counts.iter().map(|one| one.correct).sum();
        let scores: Vec<f64> = counts.iter().filter_map(|one| one.f1).collect();
        let macro_f1 = scores.iter().sum::<f64>() / scores.len() as f64;
        Metrics {
            classes,
            accuracy: 100.0 * correct as f64 / total as f64,
            macro_f1,
            correct,
            total,
            skipped: 0,
            split: SplitPart::Test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::csv;

    fn counts(labels: &[usize], predictions: &[usize]) -> Vec<ClassMetrics> {
        let names: Vec<String> = ["cat", "dog", "fish, dried", "newt"].map(str::to_owned).to_vec();
        ClassMetrics::count(&names, labels.iter().copied().zip(predictions.iter().copied()))
    }

    // The numbers are scikit-learn's: 100 * accuracy_score(labels, predictions), and
    // 100 * f1_score(labels, predictions, average="macro", labels=np.unique(labels)).
    #[test]
    fn the_numbers_are_those_of_scikit_learn() {
        for (labels, predictions, accuracy, macro_f1) in [
            (&[0, 0, 0, 1, 1, 2, 2, 2, 3][..], &[0, 0, 1, 1, 3, 2, 2, 0, 3][..], 200.0 / 3.0, 65.833_333_333_333_33),
            // Class 3 has no image and is predicted once: the mean leaves it out.
            (&[0, 0, 1, 1, 2], &[0, 3, 1, 0, 2], 60.0, 72.222_222_222_222_21),
            // Class 1 is never predicted: its score is 0.
            (&[0, 1, 1], &[0, 0, 0], 100.0 / 3.0, 25.0),
        ] {
            let metrics = Metrics::new(Classes::All, &counts(labels, predictions));
            assert!((metrics.accuracy - accuracy).abs() < 1e-9, "{metrics:?}, {accuracy}");
            assert!((metrics.macro_f1 - macro_f1).abs() < 1e-9, "{metrics:?}, {macro_f1}");
            assert_eq!(metrics.total, labels.len());
        }
    }

    #[test]
    fn each_class_is_a_row_and_one_without_images_has_no_percentages() {
        assert_eq!(
            csv(counts(&[0, 0, 0, 1, 2], &[0, 0, 1, 1, 3])),
            "label,class,images,predicted,correct,accuracy,f1\n\
             0,cat,3,2,2,66.6667,80.0000\n\
             1,dog,1,2,1,100.0000,66.6667\n\
             2,\"fish, dried\",1,0,0,0.0000,0.0000\n\
             3,newt,0,1,0,,\n"
        );
    }
}
