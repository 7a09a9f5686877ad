//! What a learner is.

use tch::Tensor;

use super::context::{ClassPrompts, Words};
use super::initial::LearnedTensors;
use super::loss::{Forward, Term};
use crate::clip::VisionPrompts;

/// What a learner adds to CLIP, and what it learns by. It is bound to a model and to the names of some classes.
///
/// What only a training needs (features of a teacher, say) is made when the loss is first asked for.
pub(super) trait Learner {
    /// Prompts for the vision tower.
    fn vision_prompts(&self) -> VisionPrompts {
        VisionPrompts::default()
    }

    /// The text of the classes, given normalised image features `(B, embedding)`.
    fn text(&self, image_features: &Tensor) -> Text<'_>;

    /// Whether [`Learner::text`] depends on the images, in which case it yields a context for each.
    fn per_image(&self) -> bool {
        false
    }

    /// The terms of the loss of a batch.
    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        vec![forward.cross_entropy()]
    }

    /// Whether a step goes along what [`Learner::direction`] makes of the gradient of each term, and not along the gradient of
    /// the terms' weighted sum.
    fn takes_terms_apart(&self) -> bool {
        false
    }

    /// What a learned tensor moves along, given its gradient by each term, without their weights. It reads nothing from the
    /// device, and computes the same at every step.
    fn direction(&self, of_terms: &[Tensor]) -> Tensor {
        of_terms[0].shallow_clone()
    }

    /// Hears of every step, before gradients are on again. The learned tensors have moved, unless the step was left out. It
    /// reads nothing from the device, and computes the same at every step: on a card its operations are recorded once.
    fn after_step(&mut self) {}

    /// Hears of the end of every epoch, from 1; what it writes to the learned tensors stays there.
    fn after_epoch(&mut self, _epoch: u32, _epochs: u32) {}

    /// The tensors that a training needs to go on beside the learned ones; a resumed training finds in them what they held.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// The text side of a learner.
pub(super) enum Text<'a> {
    /// Features `(classes, embedding)` that never change.
    Fixed(Tensor),
    /// Prompts to run through the text tower.
    Prompts {
        prompts: &'a ClassPrompts,
        /// See [`ClassPrompts::features`].
        context: Tensor,
        /// `deep[i]` replaces the context before block `i + 1`; see [`crate::clip::Clip::prompt_features`].
        deep: Vec<Tensor>,
    },
}

/// What learners read beside images and weights, as their [`maple_pipe::method::Input`]s name it.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The data set's own template, such as "a photo of a {}."; empty where nobody reads it.
    pub template: String,
}

/// What a learner is made from, beside its options.
pub(super) struct Parts<'a> {
    pub(super) words: Words<'a>,
    pub(super) learned: &'a LearnedTensors,
    pub(super) inputs: &'a Inputs,
}
