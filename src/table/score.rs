//! One accuracy that a table asks for.

use crate::data::Classes;

/// The accuracy of one evaluation, measured or asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The data set evaluated on, as the pipeline's axis names it.
    pub dataset: String,
    /// The method evaluated, as the pipeline's axis names it.
    pub method: String,
    /// The seed of the training run; none for a method that draws nothing at random (zero-shot).
    pub seed: Option<i64>,
    /// Training images per class, where a table compares several; none for a method without training.
    pub shots: Option<u32>,
    /// The classes evaluated on.
    pub classes: Classes,
    /// Correct / total over all test images of these classes, in percent; none where it is asked for and not there yet.
    pub accuracy: Option<f64>,
    /// The key of the node that measured it, if a node did.
    pub key: Option<String>,
}
