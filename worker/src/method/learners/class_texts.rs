//! The texts of classes that learners behind the towers start from: the mean of several templates.

use tch::{Kind, Tensor};

use crate::clip::{Clip, normalised};
use crate::method::context::{ClassPrompts, Words};
use maple_pipe::error::Result;

/// The prompts of each template.
pub(super) struct ClassTexts(Vec<ClassPrompts>);

impl ClassTexts {
    /// Those of the classes.
    ///
    /// # Errors
    /// When the prompt of a class, which the message names, is too long.
    pub(super) fn new(words: &Words<'_>, templates: &[String]) -> Result<ClassTexts> {
        Ok(ClassTexts(templates.iter().map(|template| words.fixed_prompts(template)).collect::<Result<_>>()?))
    }

    /// The mean of the features as they are, `(classes, embedding)`, in fp32.
    pub(super) fn mean(&self, clip: &Clip) -> Tensor {
        self.mean_of(clip, |features| features)
    }

    /// The mean of the normalised features, normalised, `(classes, embedding)`, in fp32.
    pub(super) fn direction(&self, clip: &Clip) -> Tensor {
        normalised(&self.mean_of(clip, |features| normalised(&features)))
    }

    fn mean_of(&self, clip: &Clip, each: impl Fn(Tensor) -> Tensor) -> Tensor {
        let features = self.0.iter().map(|prompts| each(prompts.fixed_features(clip).to_kind(Kind::Float)));
        Tensor::stack(&features.collect::<Vec<_>>(), 0).mean_dim([0i64].as_slice(), false, None)
    }
}
