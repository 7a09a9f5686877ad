//! CLIP-LoRA.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::{at_least_one, blocks, check_template, in_text, in_vision};
use crate::method::learnable::{Blocks, Form, Learned, TensorShapes, Tower, numbered};
use crate::method::options::Options;

/// What the attention of a block is called in the published code; `*` is the number of the block, from 0. The tensors of
/// an update, `w_lora_A` and `w_lora_B`, have the names of the published model's state; the `.pt` files that the published
/// code writes number them through both towers, and tell neither tower nor block.
const ATTENTION: [(Tower, &str); 2] =
    [(Tower::Text, "transformer.resblocks.*.attn"), (Tower::Vision, "visual.transformer.resblocks.*.attn")];

/// CLIP-LoRA: low-rank updates of the products of attention in both towers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClipLora {
    /// The text of a class, with `{}` for its name; the published code reads the template of the data set.
    #[serde(default = "template")]
    pub template: String,
    /// The rank of every update.
    pub rank: i64,
    /// Every update is multiplied by this over the root of its rank.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// The share of the numbers that an update reads which every step of a training leaves out, drawn anew.
    #[serde(default)]
    pub dropout: f64,
    /// Which products of attention are updated.
    #[serde(default = "products")]
    pub products: Vec<Product>,
    /// The first and the last block of the text tower that is updated, from 1; none without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_blocks: Option<Blocks>,
    /// The first and the last block of the vision tower that is updated, from 1; none without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_blocks: Option<Blocks>,
}

/// A product of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Product {
    Query,
    Key,
    Value,
    Output,
}

impl Product {
    /// All of them, in the published order.
    const ALL: [Product; 4] = [Product::Query, Product::Key, Product::Value, Product::Output];

    /// Its published name.
    fn name(self) -> &'static str {
        match self {
            Product::Query => "q_proj",
            Product::Key => "k_proj",
            Product::Value => "v_proj",
            Product::Output => "proj",
        }
    }
}

fn template() -> String {
    "a photo of a {}.".to_owned()
}

const fn alpha() -> f64 {
    1.0
}

fn products() -> Vec<Product> {
    vec![Product::Query, Product::Key, Product::Value]
}

/// The published name of the update of a product, in front of `w_lora_A` and `w_lora_B`; blocks count from 0.
pub fn update_name(tower: Tower, block: i64, product: Product) -> String {
    let (_, attention) = ATTENTION.iter().find(|(known, _)| *known == tower).expect("both towers are there");
    format!("{}.{}", numbered(attention, block), product.name())
}

impl ClipLora {
    /// The updated blocks of a tower, from 0.
    pub fn blocks(&self, tower: Tower) -> impl Iterator<Item = i64> + use<> {
        let blocks = match tower {
            Tower::Text => self.text_blocks,
            Tower::Vision => self.vision_blocks,
        };
        blocks.into_iter().flat_map(Blocks::numbers)
    }
}

impl Options for ClipLora {
    const STEMS: &'static [&'static str] = &[
        "transformer.resblocks.*.attn.*.w_lora_A",
        "transformer.resblocks.*.attn.*.w_lora_B",
        "visual.transformer.resblocks.*.attn.*.w_lora_A",
        "visual.transformer.resblocks.*.attn.*.w_lora_B",
    ];
    const TOLD: &'static [&'static str] = &["rank", "products", "text_blocks", "vision_blocks"];

    fn validate(&self) -> Result<()> {
        check_template(&self.template)?;
        at_least_one("rank", self.rank)?;
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(Error::hinted(format!("`alpha` is {}", self.alpha), "give a number above 0").about("alpha"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let message = format!("`dropout` is {}", self.dropout);
            return Err(Error::hinted(message, "give a number from 0 up and below 1").about("dropout"));
        }
        let repeated = Product::ALL.iter().any(|one| self.products.iter().filter(|other| *other == one).count() > 1);
        if self.products.is_empty() || repeated {
            return Err(Error::hinted(
                "`products` names nothing, or something twice",
                "give some of `query`, `key`, `value` and `output`, each once",
            )
            .about("products"));
        }
        if self.text_blocks.is_none() && self.vision_blocks.is_none() {
            return Err(Error::hinted(
                "no block is updated",
                "give `text_blocks` or `vision_blocks`, such as `[1, 12]`",
            ));
        }
        self.text_blocks.map_or(Ok(()), |text| blocks("text_blocks", text))?;
        self.vision_blocks.map_or(Ok(()), |vision| blocks("vision_blocks", vision))
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        in_text("text_blocks", self.text_blocks.map_or(0, Blocks::last), architecture)?;
        in_vision("vision_blocks", self.vision_blocks.map_or(0, Blocks::last), architecture)?;
        let width = match (self.text_blocks, self.vision_blocks) {
            (Some(_), Some(_)) => architecture.text_width.min(architecture.vision_width),
            (Some(_), None) => architecture.text_width,
            (None, _) => architecture.vision_width,
        };
        if self.rank <= width {
            return Ok(());
        }
        let message = format!("`rank` is {}, but a tower is {width} wide", self.rank);
        Err(Error::hinted(message, format!("set `rank` to at most {width}")).about("rank"))
    }

    fn has_plain_vision(&self) -> bool {
        self.vision_blocks.is_none()
    }

    fn learned(&self) -> Vec<Learned> {
        let of_tower = |tower: Tower| {
            let products = Product::ALL.into_iter().filter(|product| self.products.contains(product));
            self.blocks(tower).flat_map(move |block| products.clone().map(move |product| (tower, block, product)))
        };
        let all = [Tower::Text, Tower::Vision].into_iter().flat_map(of_tower);
        let learned = all.map(|(tower, block, product)| Learned {
            name: update_name(tower, block, product),
            form: Form::LowRank { tower, rank: self.rank },
            wide: true,
        });
        learned.collect()
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<ClipLora> {
        let named = |attention: &str, product: Product| format!("{attention}.{}.w_lora_A", product.name());
        let of_tower = |(_, attention): (Tower, &str)| {
            Product::ALL
                .into_iter()
                .filter_map(|product| shapes.blocks(&named(attention, product)))
                .reduce(Blocks::with)
        };
        let has = |product: Product| ATTENTION.iter().any(|(_, name)| shapes.count(&named(name, product)) > 0);
        let [text_blocks, vision_blocks] = ATTENTION.map(of_tower);
        let any = shapes.0.iter().find(|(name, _)| name.ends_with(".w_lora_A"))?;
        (text_blocks.is_some() || vision_blocks.is_some()).then_some(ClipLora {
            template: template(),
            rank: any.1.first().copied()?,
            alpha: alpha(),
            dropout: 0.0,
            products: Product::ALL.into_iter().filter(|product| has(*product)).collect(),
            text_blocks,
            vision_blocks,
        })
    }
}
