//! Independent vision-language prompting: deep prompts in both towers, unconnected; without those of the vision tower,
//! language prompting alone (`trainers/independentVL.py` of the published code).

use tch::Tensor;

use super::context::{Arrangement, ClassPrompts, Words};
use super::initial::Initial;
use super::model::{Adaptation, Text};
use super::vpt::LearnedVision;
use crate::clip::VisionPrompts;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::{CONTEXT, text_names};

/// The learned tokens of both towers and the prompts around those of the text.
pub(super) struct Ivlp {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    /// Each `(n, text width)`, for block 1 and on.
    deep: Vec<(String, Tensor)>,
    vision: LearnedVision,
}

impl Ivlp {
    pub(super) fn new(
        words: Words,
        initial: &Initial,
        initial_words: &str,
        length: i64,
        depth: i64,
        vision: LearnedVision,
    ) -> Result<Ivlp> {
        let width = words.clip.architecture().text_width;
        let names = text_names(depth);
        Ok(Ivlp {
            prompts: words.context_prompts(initial_words, Arrangement::in_front(length))?,
            context: words.initial_context(initial, CONTEXT, initial_words, length)?,
            deep: names.map(|name| (name.clone(), initial.wide().context(&name, &[length, width]))).collect(),
            vision,
        })
    }
}

impl Adaptation for Ivlp {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        let mut learnable = vec![(CONTEXT.to_owned(), self.context.shallow_clone())];
        learnable.extend(self.vision.learnable());
        learnable.extend(self.deep.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
        learnable
    }

    fn vision_prompts(&self) -> VisionPrompts {
        self.vision.prompts()
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        let deep = self.deep.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep }
    }
}
