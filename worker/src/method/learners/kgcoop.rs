//! KgCoOp: CoOp whose class features are held near those of a hand-written text (`trainers/kgcoop.py` of the published code).

use tch::Tensor;

use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::learner::{Learner, Parts, Text};
use crate::method::loss::{Forward, Term};
use crate::method::teacher::Teacher;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;
use maple_pipe::method::learners;

/// The context, the prompts around it, and the text that the teacher reads.
pub(super) struct Kgcoop {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    teacher: Teacher,
    teacher_weight: f64,
}

impl Kgcoop {
    pub(super) fn new(options: &learners::Kgcoop, parts: &Parts<'_>) -> Result<Kgcoop> {
        let arrangement = Arrangement::in_front(options.context_length);
        Ok(Kgcoop {
            prompts: parts.words.context_prompts(&options.context_initial_words, arrangement)?,
            context: parts.learned.tensor(CONTEXT),
            teacher: Teacher::new(&parts.words, &options.teacher_template)?,
            teacher_weight: options.teacher_weight,
        })
    }
}

impl Learner for Kgcoop {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep: Vec::new() }
    }

    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        vec![forward.cross_entropy(), self.teacher.text_distance(forward, self.teacher_weight)]
    }
}
