//! CoCoOp: a context that a small network shifts for each image (`trainers/cocoop.py` of the published code).

use tch::Tensor;

use super::context::{Arrangement, ClassPrompts, Words};
use super::coop::CONTEXT;
use super::initial::{Initial, LearnedLinear};
use super::model::{Adaptation, Text};
use maple_pipe::error::{Error, Result};

/// The hidden layer is the embedding's width divided by this.
const REDUCTION: i64 = 16;
const LINEAR_1: &str = "prompt_learner.meta_net.linear1";
const LINEAR_2: &str = "prompt_learner.meta_net.linear2";

/// The context, the network that shifts it, and the prompts around it.
pub(super) struct Cocoop {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    linear_1: LearnedLinear,
    linear_2: LearnedLinear,
}

impl Cocoop {
    pub(super) fn new(words: Words, initial: &Initial, initial_words: &str, length: i64) -> Result<Cocoop> {
        let architecture = words.clip.architecture();
        let hidden = architecture.embedding / REDUCTION;
        if hidden == 0 {
            return Err(Error::hinted(
                format!("CoCoOp's network has no width in a model with an embedding of {}", architecture.embedding),
                format!("use a model with an embedding of at least {REDUCTION}"),
            ));
        }
        Ok(Cocoop {
            prompts: words.context_prompts(initial_words, Arrangement::in_front(length))?,
            context: words.initial_context(initial, CONTEXT, initial_words, length)?,
            linear_1: initial.linear(LINEAR_1, hidden, architecture.embedding),
            linear_2: initial.linear(LINEAR_2, architecture.text_width, hidden),
        })
    }
}

impl Adaptation for Cocoop {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        let mut learnable = vec![(CONTEXT.to_owned(), self.context.shallow_clone())];
        learnable.extend(self.linear_1.named(LINEAR_1));
        learnable.extend(self.linear_2.named(LINEAR_2));
        learnable
    }

    fn text(&self, image_features: &Tensor) -> Text<'_> {
        let shift = self.linear_2.forward(&self.linear_1.forward(image_features).relu());
        Text::Prompts { prompts: &self.prompts, context: &self.context + shift.unsqueeze(1), deep: Vec::new() }
    }

    fn per_image(&self) -> bool {
        true
    }
}
