//! CoCoOp: a context that a small network shifts for each image (`trainers/cocoop.py` of the published code).

use tch::Tensor;

use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::initial::LearnedLinear;
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;
use maple_pipe::method::learners::{self, meta_net};

/// The context, the network that shifts it, and the prompts around it.
pub(super) struct Cocoop {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    linear_1: LearnedLinear,
    linear_2: LearnedLinear,
}

impl Cocoop {
    pub(super) fn new(options: &learners::Cocoop, parts: &Parts<'_>) -> Result<Cocoop> {
        let arrangement = Arrangement::in_front(options.context_length);
        Ok(Cocoop {
            prompts: parts.words.context_prompts(&options.context_initial_words, arrangement)?,
            context: parts.learned.tensor(CONTEXT),
            linear_1: parts.learned.linear(&meta_net(1)),
            linear_2: parts.learned.linear(&meta_net(2)),
        })
    }
}

impl Learner for Cocoop {
    fn text(&self, image_features: &Tensor) -> Text<'_> {
        let shift = self.linear_2.forward(&self.linear_1.forward(image_features).relu());
        Text::Prompts { prompts: &self.prompts, context: &self.context + shift.unsqueeze(1), deep: Vec::new() }
    }

    fn per_image(&self) -> bool {
        true
    }
}
