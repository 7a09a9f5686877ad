//! MMA, the multi-modal adapter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::{at_least_one, blocks, in_text, in_vision};
use crate::method::learnable::{Blocks, Form, Learned, Length, TensorShapes, Tower, numbered};
use crate::method::options::Options;

/// The layers of adapters, under the names of the published checkpoints; `*` is the number of the block, from 1.
const TEXT_DOWN: &str = "text_adapter.*.down.0";
const TEXT_UP: &str = "text_adapter.*.up";
const VISION_DOWN: &str = "visual_adapter.*.down.0";
const VISION_UP: &str = "visual_adapter.*.up";
const SHARED: &str = "shared_adapter.*.0";

/// The scale, which tensors do not tell.
const PUBLISHED_SCALE: f64 = 0.001;
/// More than any tower is wide.
const WIDEST: i64 = 65_536;

/// MMA: an adapter beside each of some blocks of both towers; its middle layer serves both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mma {
    /// The first and the last block of each tower that has an adapter, from 1.
    pub blocks: Blocks,
    /// The width of the middle layer.
    pub width: i64,
    /// What the adapter's output is multiplied by. As published, the gradients of its layers are not.
    pub scale: f64,
}

/// The published names of the layers of a block's adapter, in the order in which they are passed; blocks count from 0.
pub fn adapter_layers(tower: Tower, block: i64) -> [String; 3] {
    let [down, up] = match tower {
        Tower::Text => [TEXT_DOWN, TEXT_UP],
        Tower::Vision => [VISION_DOWN, VISION_UP],
    };
    [down, SHARED, up].map(|name| numbered(name, block + 1))
}

impl Options for Mma {
    const STEMS: &'static [&'static str] = &[TEXT_DOWN, TEXT_UP, VISION_DOWN, VISION_UP, SHARED];
    const TOLD: &'static [&'static str] = &["blocks", "width"];

    fn validate(&self) -> Result<()> {
        blocks("blocks", self.blocks)?;
        at_least_one("width", self.width)?;
        if self.width > WIDEST {
            let message = format!("`width` is {}", self.width);
            return Err(Error::hinted(message, format!("give a number from 1 to {WIDEST}")).about("width"));
        }
        if !self.scale.is_finite() || self.scale <= 0.0 {
            return Err(Error::hinted(format!("`scale` is {}", self.scale), "give a number above 0").about("scale"));
        }
        Ok(())
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        in_text("blocks", self.blocks.last(), architecture)?;
        in_vision("blocks", self.blocks.last(), architecture)
    }

    fn has_plain_vision(&self) -> bool {
        false
    }

    fn learned(&self) -> Vec<Learned> {
        let middle = Length::Count(self.width);
        let tower = |down: &'static str, up: &'static str, outer: Length| {
            self.blocks.numbers().flat_map(move |block| [(down, block, middle, outer), (up, block, outer, middle)])
        };
        let shared = self.blocks.numbers().map(|block| (SHARED, block, middle, middle));
        let text = tower(TEXT_DOWN, TEXT_UP, Length::Text);
        let layers = text.chain(tower(VISION_DOWN, VISION_UP, Length::Vision)).chain(shared);
        let learned = layers.map(|(name, block, output, input)| Learned {
            name: numbered(name, block + 1),
            form: Form::AdapterLayer { output, input },
            wide: false,
        });
        learned.collect()
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<Mma> {
        let weight = format!("{SHARED}.weight");
        // The names count blocks from 1, as the option does.
        let blocks = shapes.blocks(&weight)?.one_less();
        let first = numbered(SHARED, blocks.numbers().next()? + 1);
        let width = shapes.get(&format!("{first}.weight"))?.first().copied()?;
        Some(Mma { blocks, width, scale: PUBLISHED_SCALE })
    }
}
