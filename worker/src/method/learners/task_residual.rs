//! TaskRes: residuals of the classes' text features (`trainers/taskres.py` of the published code).

use tch::Tensor;

use super::class_texts::ClassTexts;
use crate::method::learner::{Features, Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learners::{self, RESIDUAL};

/// The text features and what is added to them.
pub(super) struct TaskResidual {
    /// `(classes, embedding)`.
    texts: Tensor,
    /// `(classes, embedding)`.
    residual: Tensor,
    scale: f64,
}

impl TaskResidual {
    pub(super) fn new(options: &learners::TaskResidual, parts: &Parts<'_>) -> Result<TaskResidual> {
        Ok(TaskResidual {
            texts: ClassTexts::new(&parts.words, &options.templates)?.mean(parts.words.clip),
            residual: parts.learned.tensor(RESIDUAL),
            scale: options.residual_scale,
        })
    }
}

impl Learner for TaskResidual {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(&self.texts + &self.residual * self.scale)
    }

    fn logits(&self, features: &Features<'_>) -> Tensor {
        features.wide_cosines(&features.wide_images())
    }
}
