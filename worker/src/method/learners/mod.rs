//! The learners, one file each. Their options, and the names and shapes of what they learn, are in the files of the same
//! names in the package `maple-pipe`.

mod cocoop;
mod coop;
mod ivlp;
mod maple;
mod vpt;
mod zero_shot;

use tch::Tensor;

use super::context::{ClassPrompts, Words};
use super::initial::LearnedTensors;
use super::loss::{Forward, Term};
use crate::clip::VisionPrompts;
use maple_pipe::error::Result;
use maple_pipe::method;

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

    /// Hears of every step that was taken, before gradients are on again; the learned tensors have moved.
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
        /// `deep[i]` replaces the context before block `i + 1`.
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

/// The learner of these options: the list of all learners.
///
/// # Errors
/// When the prompt of a class, which the message names, is too long.
pub(super) fn bind(learner: &method::Learner, parts: &Parts<'_>) -> Result<Box<dyn Learner>> {
    let bound: Box<dyn Learner> = match learner {
        method::Learner::ZeroShot(options) => Box::new(zero_shot::ZeroShot::new(options, parts)?),
        method::Learner::Coop(options) => Box::new(coop::Coop::new(options, parts)?),
        method::Learner::Cocoop(options) => Box::new(cocoop::Cocoop::new(options, parts)?),
        method::Learner::Vpt(options) => Box::new(vpt::Vpt::new(options, parts)?),
        method::Learner::Ivlp(options) => Box::new(ivlp::Ivlp::new(options, parts)?),
        method::Learner::Maple(options) => Box::new(maple::Maple::new(options, parts)?),
    };
    Ok(bound)
}
