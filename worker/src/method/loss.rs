//! The loss of a batch: a sum of terms, each with a name and a weight.

use tch::{Kind, Tensor};

use crate::clip::Clip;

/// What a learner's loss may look at: a batch on its way through the model.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The model, whose own weights stay as they are.
    pub clip: &'a Clip,
    /// `(B, 3, R, R)`; absent where features were taken in their place, which only learners get whose image tower is plain
    /// CLIP's.
    pub images: Option<&'a Tensor>,
    /// `(B,)`.
    pub labels: &'a Tensor,
    /// Normalised, `(B, embedding)`.
    pub image_features: Tensor,
    /// The same of plain CLIP's image tower, without gradients; where the learner's teacher has images.
    pub frozen_image_features: Option<Tensor>,
    /// Normalised, `(1, classes, embedding)`, or `(B, classes, embedding)` where they depend on the image.
    pub class_features: Tensor,
    /// `(B, classes)`.
    pub logits: Tensor,
}

impl Forward<'_> {
    /// The term that every loss has.
    pub fn cross_entropy(&self) -> Term {
        Term { name: "cross_entropy", weight: 1.0, value: cross_entropy(&self.logits, self.labels) }
    }
}

/// A part of a loss.
#[derive(Debug)]
pub struct Term {
    /// What logs call it.
    pub name: &'static str,
    /// What it is multiplied by.
    pub weight: f64,
    /// A scalar.
    pub value: Tensor,
}

/// The sum of the terms, which are at least one.
pub fn total(terms: &[Term]) -> Tensor {
    let weighted = terms.iter().map(|term| &term.value * term.weight);
    weighted.reduce(|sum, term| sum + term).expect("a loss has a term")
}

/// The cross-entropy of logits `(B, classes)` for labels `(B,)`, the mean over the batch.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Float).nll_loss(labels)
}
