//! CoCoOp: a context that a small network shifts for each image (`trainers/cocoop.py` of the published code).

use tch::Tensor;

use super::context::{Arrangement, ClassPrompts, Words};
use super::initial::{Initial, LearnedLinear};
use super::model::{Adaptation, Text};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::learnable::{CONTEXT, META_NET};

/// The hidden layer is the embedding's width divided by this.
const REDUCTION: i64 = 16;

/// The context, the network that shifts it, and the prompts around it.
pub(super) struct Cocoop {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    linear_1: LearnedLinear,
    linear_2: LearnedLinear,
}

/// The published name of a layer of the network.
fn linear(number: u32) -> String {
    format!("{META_NET}.linear{number}")
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
            linear_1: initial.linear(&linear(1), hidden, architecture.embedding),
            linear_2: initial.linear(&linear(2), architecture.text_width, hidden),
        })
    }
}

impl Adaptation for Cocoop {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        let mut learnable = vec![(CONTEXT.to_owned(), self.context.shallow_clone())];
        learnable.extend(self.linear_1.named(&linear(1)));
        learnable.extend(self.linear_2.named(&linear(2)));
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
