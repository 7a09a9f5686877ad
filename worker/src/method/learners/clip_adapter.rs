//! CLIP-Adapter: a small network that changes image features (`clip_adapter.py` of the published code; `ClipA` of CLAP's).

use tch::Tensor;

use super::class_texts::ClassTexts;
use crate::method::learner::{Features, Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learners::{self, ADAPTER_LAYERS};

/// The network, and the text features that its output is compared with.
pub(super) struct ClipAdapter {
    /// `(classes, embedding)`.
    texts: Tensor,
    /// The weights of its layers, `(hidden, embedding)` and `(embedding, hidden)`.
    layers: [Tensor; 2],
    ratio: f64,
}

impl ClipAdapter {
    pub(super) fn new(options: &learners::ClipAdapter, parts: &Parts<'_>) -> Result<ClipAdapter> {
        Ok(ClipAdapter {
            texts: ClassTexts::new(&parts.words, &options.templates)?.mean(parts.words.clip),
            layers: ADAPTER_LAYERS.map(|layer| parts.learned.tensor(layer)),
            ratio: options.ratio,
        })
    }
}

impl Learner for ClipAdapter {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.texts.shallow_clone())
    }

    fn logits(&self, features: &Features<'_>) -> Tensor {
        let images = features.wide_images();
        let layer = |x: &Tensor, weight: &Tensor| x.linear(weight, None::<&Tensor>).relu();
        let changed = layer(&layer(&images, &self.layers[0]), &self.layers[1]);
        features.wide_cosines(&(changed * self.ratio + images * (1.0 - self.ratio)))
    }
}
