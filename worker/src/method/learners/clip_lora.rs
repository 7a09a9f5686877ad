//! CLIP-LoRA: low-rank updates of the products of attention in both towers (`loralib/layers.py` of the published code,
//! `PlainMultiheadAttentionLoRA`). They stay beside the weights at evaluation, too, where the published code adds them to
//! these; the numbers are the same but for rounding.

use tch::{Kind, Tensor};

use crate::clip::{Addition, Additions, Dropout, LowRank};
use crate::method::initial::LearnedTensors;
use crate::method::learner::{Learner, Parts, TemplateText, Text};
use maple_pipe::data::random;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::Tower;
use maple_pipe::method::learners::{self, update_name};

/// The learned updates of both towers, and the text of each class.
pub(super) struct ClipLora {
    text: TemplateText,
    updates: Vec<Update>,
    /// By which dropout draws, without axes.
    steps: Tensor,
}

/// An update, and where it belongs.
struct Update {
    tower: Tower,
    block: usize,
    product: learners::Product,
    down: Tensor,
    up: Tensor,
    scale: f64,
    rate: f64,
    seed: i64,
}

impl ClipLora {
    pub(super) fn new(options: &learners::ClipLora, parts: &Parts<'_>) -> Result<ClipLora> {
        let scale = options.alpha / (options.rank as f64).sqrt();
        let update = |tower: Tower, block: i64, product: learners::Product| {
            let name = update_name(tower, block, product);
            let tensor = |learned: &LearnedTensors, part: &str| learned.tensor(&format!("{name}.{part}"));
            let mut generator = random::generator(parts.seed, &format!("dropout {name}"), 0, 0);
            Update {
                tower,
                block: block as usize,
                product,
                down: tensor(parts.learned, "w_lora_A"),
                up: tensor(parts.learned, "w_lora_B"),
                scale,
                rate: options.dropout,
                seed: random::below(&mut generator, 1 << 32) as i64,
            }
        };
        let of_block = |(tower, block)| options.products.iter().map(move |product| (tower, block, *product));
        let blocks = [Tower::Text, Tower::Vision]
            .into_iter()
            .flat_map(|tower| options.blocks(tower).map(move |block| (tower, block)));
        Ok(ClipLora {
            text: parts.words.template_text(&options.template, options.text_blocks.is_some())?,
            updates: blocks.flat_map(of_block).map(|(tower, block, product)| update(tower, block, product)).collect(),
            steps: Tensor::zeros([], (Kind::Int64, parts.words.clip.device())),
        })
    }
}

impl Learner for ClipLora {
    fn additions(&self, tower: Tower) -> Additions {
        let mut additions = Additions::default();
        for update in self.updates.iter().filter(|update| update.tower == tower) {
            let dropout = Dropout { rate: update.rate, seed: update.seed, steps: self.steps.shallow_clone() };
            let low_rank = LowRank {
                down: update.down.shallow_clone(),
                up: update.up.shallow_clone(),
                scale: update.scale,
                dropout: (update.rate > 0.0).then_some(dropout),
            };
            let addition: &mut Addition = additions.0.entry(update.block).or_default();
            addition.updates.push((update.product, low_rank));
        }
        additions
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        self.text.text()
    }

    fn after_step(&mut self) {
        self.steps += 1i64;
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("steps".to_owned(), self.steps.shallow_clone())]
    }
}
