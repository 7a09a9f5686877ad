//! MMA: adapters beside some blocks of both towers, whose middle layers serve both (`trainers/mmadapter.py` and
//! `clip/model.py` of the published code).

use std::ops::Range;

use tch::Tensor;

use crate::clip::{Adapter, Addition, Additions};
use crate::method::learner::{Learner, Parts, TemplateText, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::Tower;
use maple_pipe::method::learners::{self, adapter_layers};

/// The text of every data set.
const TEMPLATE: &str = "a photo of a {}.";

/// The layers of the adapters of each tower by block, and the text of each class.
pub(super) struct Mma {
    text: TemplateText,
    layers: [Vec<[[Tensor; 2]; 3]>; 2],
    blocks: Range<usize>,
    scale: f64,
}

impl Mma {
    pub(super) fn new(options: &learners::Mma, parts: &Parts<'_>) -> Result<Mma> {
        let layer = |name: String| ["weight", "bias"].map(|part| parts.learned.tensor(&format!("{name}.{part}")));
        let of_tower = |tower| options.blocks.numbers().map(|block| adapter_layers(tower, block).map(layer)).collect();
        let last = options.blocks.last() as usize;
        Ok(Mma {
            text: parts.words.template_text(TEMPLATE, true)?,
            blocks: last - options.blocks.numbers().count()..last,
            layers: [Tower::Text, Tower::Vision].map(of_tower),
            scale: options.scale,
        })
    }
}

impl Learner for Mma {
    fn additions(&self, tower: Tower) -> Additions {
        let [text, vision] = &self.layers;
        let layers = if tower == Tower::Text { text } else { vision };
        let adapter = |layers: &[[Tensor; 2]; 3]| Adapter {
            layers: layers.iter().map(|layer| layer.each_ref().map(Tensor::shallow_clone)).collect(),
            scale: self.scale,
        };
        let addition = |layers| Addition { updates: Vec::new(), adapter: Some(adapter(layers)) };
        Additions(self.blocks.clone().zip(layers.iter().map(addition)).collect())
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        self.text.text()
    }
}
