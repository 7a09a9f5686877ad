//! MaPLe: deep prompts in the text tower, from which linear layers make those of the vision tower
//! (`trainers/maple.py` of the published code).

use tch::Tensor;

use crate::clip::VisionPrompts;
use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::initial::LearnedLinear;
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::{CONTEXT, numbered};
use maple_pipe::method::learners::{self, DEEP, DEEP_PROJECTION, PROJECTION};

/// The learned tokens of the text tower, their projections to the vision tower, and the prompts around them.
pub(super) struct Maple {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    projection: LearnedLinear,
    /// Each `(n, text width)`, for block 1 and on.
    deep: Vec<Tensor>,
    /// One for each of `deep`.
    deep_projections: Vec<LearnedLinear>,
}

impl Maple {
    pub(super) fn new(options: &learners::Maple, parts: &Parts<'_>) -> Result<Maple> {
        let (learned, deep) = (parts.learned, 0..options.depth - 1);
        let arrangement = Arrangement::in_front(options.context_length);
        Ok(Maple {
            prompts: parts.words.context_prompts(&options.context_initial_words, arrangement)?,
            context: learned.tensor(CONTEXT),
            projection: learned.linear(PROJECTION),
            deep: deep.clone().map(|number| learned.tensor(&numbered(DEEP, number))).collect(),
            deep_projections: deep.map(|number| learned.linear(&numbered(DEEP_PROJECTION, number))).collect(),
        })
    }
}

impl Learner for Maple {
    fn vision_prompts(&self) -> VisionPrompts {
        let deep = self.deep.iter().zip(&self.deep_projections).map(|(tokens, layer)| layer.forward(tokens));
        VisionPrompts { shallow: Some(self.projection.forward(&self.context)), deep: deep.collect() }
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let deep = self.deep.iter().map(Tensor::shallow_clone).collect();
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep }
    }
}
