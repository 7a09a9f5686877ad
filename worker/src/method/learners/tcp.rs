//! TCP: CoOp with tokens of each class's own in a later block of the text tower (`trainers/tcp.py` of the published code).

use tch::Tensor;

use crate::clip::quick_gelu;
use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::initial::LearnedLinear;
use crate::method::learner::{Learner, Parts, Text};
use crate::method::loss::{Forward, Term};
use crate::method::teacher::Teacher;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;
use maple_pipe::method::learners::{self, CLASS_TOKENS, meta_net};

/// The context, the network that makes each class's tokens, and the prompts around them.
pub(super) struct Tcp {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    linear_1: LearnedLinear,
    linear_2: LearnedLinear,
    /// From 0.
    block: i64,
    teacher: Teacher,
    teacher_weight: f64,
    /// Normalised, `(classes, embedding)`: what the network reads.
    class_features: Tensor,
}

impl Tcp {
    pub(super) fn new(options: &learners::Tcp, parts: &Parts<'_>) -> Result<Tcp> {
        let arrangement = Arrangement { class_tokens: CLASS_TOKENS, ..Arrangement::in_front(options.context_length) };
        let teacher = Teacher::new(&parts.words, &options.teacher_template)?;
        Ok(Tcp {
            prompts: parts.words.template_prompts(&options.prompt_template, arrangement)?,
            context: parts.learned.tensor(CONTEXT),
            linear_1: parts.learned.linear(&meta_net(1)),
            linear_2: parts.learned.linear(&meta_net(2)),
            block: options.class_token_block,
            class_features: teacher.text_features(parts.words.clip).shallow_clone(),
            teacher,
            teacher_weight: options.teacher_weight,
        })
    }
}

impl Learner for Tcp {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let hidden = quick_gelu(&self.linear_1.forward(&self.class_features));
        let width = self.context.size()[1];
        let tokens = self.linear_2.forward(&hidden).reshape([-1, CLASS_TOKENS, width]);
        // Nothing is replaced before that block.
        let nothing = |_| self.context.detach().narrow(0, 0, 0);
        let deep = (1..self.block).map(nothing).chain([tokens]).collect();
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep }
    }

    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        vec![forward.cross_entropy(), self.teacher.text_distance(forward, self.teacher_weight)]
    }
}
