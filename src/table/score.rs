//! One measured accuracy.

use crate::data::Classes;

/// The accuracy of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The data set evaluated on, as the pipeline's axis names it.
    pub dataset: String,
    /// The method evaluated, as the pipeline's axis names it.
    pub method: String,
    /// The seed of the training run; none for a method that draws nothing at random (zero-shot).
    pub seed: Option<i64>,
    /// The classes evaluated on.
    pub classes: Classes,
    /// Correct / total over all test images of these classes, in percent.
    pub accuracy: f64,
}
