//! MaPLe: deep prompts in the text tower, from which linear layers make those of the vision tower
//! (`trainers/maple.py` of the published code).

use tch::Tensor;

use super::context::{Arrangement, ClassPrompts, Words};
use super::initial::{Initial, LearnedLinear};
use super::model::{Adaptation, Text};
use crate::clip::VisionPrompts;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::{CONTEXT, DEEP, DEEP_PROJECTION, PROJECTION};

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
    pub(super) fn new(words: Words, initial: &Initial, initial_words: &str, length: i64, depth: i64) -> Result<Maple> {
        let (text, vision) = (words.clip.architecture().text_width, words.clip.architecture().vision_width);
        let wide = initial.wide();
        let deep = (0..depth - 1).map(|index| wide.context(&format!("{DEEP}.{index}"), &[length, text]));
        Ok(Maple {
            prompts: words.context_prompts(initial_words, Arrangement::in_front(length))?,
            context: words.initial_context(initial, CONTEXT, initial_words, length)?,
            projection: initial.linear(PROJECTION, vision, text),
            deep: deep.collect(),
            // The published code copies one layer, so all start alike.
            deep_projections: (1..depth).map(|_| wide.linear(DEEP_PROJECTION, vision, text)).collect(),
        })
    }
}

impl Adaptation for Maple {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        let mut learnable = vec![(CONTEXT.to_owned(), self.context.shallow_clone())];
        learnable.extend(self.projection.named(PROJECTION));
        let deep = self.deep.iter().enumerate();
        learnable.extend(deep.map(|(index, tensor)| (format!("{DEEP}.{index}"), tensor.shallow_clone())));
        let projections = self.deep_projections.iter().enumerate();
        learnable.extend(projections.flat_map(|(index, layer)| layer.named(&format!("{DEEP_PROJECTION}.{index}"))));
        learnable
    }

    fn vision_prompts(&self) -> VisionPrompts {
        let deep = self.deep.iter().zip(&self.deep_projections).map(|(tokens, layer)| layer.forward(tokens));
        VisionPrompts { shallow: Some(self.projection.forward(&self.context)), deep: deep.collect() }
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let deep = self.deep.iter().map(Tensor::shallow_clone).collect();
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep }
    }
}
