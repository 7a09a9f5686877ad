//! Zero-shot CLIP: the data set's own template, nothing learned (`ZeroshotCLIP` of `trainers/zsclip.py`).

use tch::Tensor;

use super::context::Words;
use super::model::{Adaptation, Text};
use maple_pipe::error::Result;

/// The features of each class's text.
pub(super) struct ZeroShot {
    class_features: Tensor,
}

impl ZeroShot {
    pub(super) fn new(words: Words, template: &str) -> Result<ZeroShot> {
        Ok(ZeroShot { class_features: words.fixed_features(template)? })
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
