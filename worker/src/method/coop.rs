//! CoOp: one learned context for all classes, or one for each (`trainers/coop.py` of the published code).

use tch::Tensor;

use super::context::{Arrangement, ClassPrompts, Words};
use super::initial::Initial;
use super::model::{Adaptation, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;

/// The context and the prompts around it.
pub(super) struct Coop {
    prompts: ClassPrompts,
    /// `(n, text width)`, or `(classes, n, text width)`.
    context: Tensor,
}

impl Coop {
    pub(super) fn new(words: Words, initial: &Initial, initial_words: &str, arrangement: Arrangement) -> Result<Coop> {
        let prompts = words.context_prompts(initial_words, arrangement)?;
        let context = if arrangement.class_specific {
            let classes = words.class_names.len() as i64;
            initial.context(CONTEXT, &[classes, arrangement.length, words.clip.architecture().text_width])
        } else {
            words.initial_context(initial, CONTEXT, initial_words, arrangement.length)?
        };
        Ok(Coop { prompts, context })
    }
}

impl Adaptation for Coop {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        vec![(CONTEXT.to_owned(), self.context.shallow_clone())]
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let rows = self.context.flatten(0, -2);
        Text::Prompts { prompts: &self.prompts, context: rows, deep: Vec::new() }
    }
}
