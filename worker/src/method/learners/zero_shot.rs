//! Zero-shot CLIP: the data set's own template (`ZeroshotCLIP` of `trainers/zsclip.py`), or several (`ZeroshotCLIP2`),
//! nothing learned.

use tch::Tensor;

use crate::clip::normalised;
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learners;

/// The features of each class's text.
pub(super) struct ZeroShot {
    class_features: Tensor,
}

impl ZeroShot {
    pub(super) fn new(options: &learners::ZeroShot, parts: &Parts<'_>) -> Result<ZeroShot> {
        let own = options.dataset_template.then_some(&parts.inputs.template);
        let templates = options.templates.iter().chain(own);
        let features: Vec<Tensor> =
            templates.map(|template| Ok(normalised(&parts.words.fixed_features(template)?))).collect::<Result<_>>()?;
        let class_features = Tensor::stack(&features, 0).mean_dim([0i64].as_slice(), false, None);
        Ok(ZeroShot { class_features })
    }
}

impl Learner for ZeroShot {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.class_features.shallow_clone())
    }
}
