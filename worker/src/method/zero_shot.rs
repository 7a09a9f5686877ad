//! Zero-shot CLIP: the data set's own template (`ZeroshotCLIP` of `trainers/zsclip.py`), or several (`ZeroshotCLIP2`),
//! nothing learned.

use tch::Tensor;

use super::context::Words;
use super::model::{Adaptation, Text};
use crate::clip::normalised;
use maple_pipe::error::Result;

/// The features of each class's text.
pub(super) struct ZeroShot {
    class_features: Tensor,
}

impl ZeroShot {
    pub(super) fn new(words: Words, templates: &[&str]) -> Result<ZeroShot> {
        let features: Vec<Tensor> =
            templates.iter().map(|template| Ok(normalised(&words.fixed_features(template)?))).collect::<Result<_>>()?;
        let class_features = Tensor::stack(&features, 0).mean_dim([0i64].as_slice(), false, None);
        Ok(ZeroShot { class_features })
    }
}

impl Adaptation for ZeroShot {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.class_features.shallow_clone())
    }
}
