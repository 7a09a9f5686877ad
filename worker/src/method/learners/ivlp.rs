//! Independent vision-language prompting: deep prompts in both towers, unconnected; without those of the vision tower,
//! language prompting alone (`trainers/independentVL.py` of the published code).

use tch::Tensor;

use super::vpt::LearnedVision;
use crate::clip::VisionPrompts;
use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::{CONTEXT, numbered};
use maple_pipe::method::learners::{self, TEXT_BLOCKS};

/// The learned tokens of both towers and the prompts around those of the text.
pub(super) struct Ivlp {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    /// Each `(n, text width)`, for block 1 and on.
    deep: Vec<Tensor>,
    vision: LearnedVision,
}

impl Ivlp {
    pub(super) fn new(options: &learners::Ivlp, parts: &Parts<'_>) -> Result<Ivlp> {
        let arrangement = Arrangement::in_front(options.context_length);
        let deep = (1..options.depth).map(|block| parts.learned.tensor(&numbered(TEXT_BLOCKS, block)));
        Ok(Ivlp {
            prompts: parts.words.context_prompts(&options.context_initial_words, arrangement)?,
            context: parts.learned.tensor(CONTEXT),
            deep: deep.collect(),
            vision: LearnedVision::new(parts.learned, options.vision_depth),
        })
    }
}

impl Learner for Ivlp {
    fn vision_prompts(&self) -> VisionPrompts {
        self.vision.prompts()
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let deep = self.deep.iter().map(Tensor::shallow_clone).collect();
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep }
    }
}
