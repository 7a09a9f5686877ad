//! CoOp: one learned context for all classes, or one for each (`trainers/coop.py` of the published code).

use tch::Tensor;

use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;
use maple_pipe::method::learners;

/// The context and the prompts around it.
pub(super) struct Coop {
    prompts: ClassPrompts,
    /// `(n, text width)`, or `(classes, n, text width)`.
    context: Tensor,
}

impl Coop {
    pub(super) fn new(options: &learners::Coop, parts: &Parts<'_>) -> Result<Coop> {
        let arrangement = Arrangement {
            length: options.context_length,
            position: options.class_token_position,
            class_specific: options.class_specific_context,
            class_tokens: 0,
        };
        let prompts = parts.words.context_prompts(&options.context_initial_words, arrangement)?;
        Ok(Coop { prompts, context: parts.learned.tensor(CONTEXT) })
    }
}

impl Learner for Coop {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let rows = self.context.flatten(0, -2);
        Text::Prompts { prompts: &self.prompts, context: rows, deep: Vec::new() }
    }
}
