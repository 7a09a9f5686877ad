//! Independent vision-language prompting.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::{context_from_words, depth, in_text, in_vision, vision_context_length};
use crate::method::learnable::{CONTEXT, Learned, TensorShapes, Tower, VISION, VISION_BLOCKS, numbered};
use crate::method::options::{CheckpointLayout, Options};

/// The tokens of the text tower's blocks behind the first; `*` is the number of the block, from 1.
pub const TEXT_BLOCKS: &str = "text_encoder.transformer.resblocks.*.VPT_shallow";

/// Independent prompts in both towers; with `vision_depth = 0`, language prompts alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ivlp {
    /// Learned tokens in the text tower.
    pub context_length: i64,
    /// Words whose embeddings the first context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// Blocks of the text tower that get learned tokens.
    pub depth: i64,
    /// Learned tokens in the vision tower.
    pub vision_context_length: i64,
    /// Blocks of the vision tower that get learned tokens.
    pub vision_depth: i64,
}

impl Options for Ivlp {
    const STEMS: &'static [&'static str] = &[CONTEXT, VISION, VISION_BLOCKS, TEXT_BLOCKS];
    const TOLD: &'static [&'static str] = &["context_length", "depth", "vision_context_length", "vision_depth"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::whole("VLPromptLearner"));

    fn validate(&self) -> Result<()> {
        context_from_words(self.context_length, &self.context_initial_words)?;
        depth("depth", self.depth)?;
        match (self.vision_context_length, self.vision_depth) {
            (0, 0) => Ok(()),
            (1.., 1..) => {
                vision_context_length(self.vision_context_length)?;
                depth("vision_depth", self.vision_depth)
            }
            (length, depth) => Err(Error::hinted(
                format!("`vision_context_length` is {length}, but `vision_depth` is {depth}"),
                "make both 0 for language prompts alone, or both at least 1",
            )
            .about("vision_context_length")),
        }
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        in_text("depth", self.depth, architecture)?;
        in_vision("vision_depth", self.vision_depth, architecture)
    }

    fn has_plain_vision(&self) -> bool {
        self.vision_depth == 0
    }

    fn learned(&self) -> Vec<Learned> {
        let context = Learned::context(self.context_length, &self.context_initial_words);
        let text = (1..self.depth)
            .map(|block| Learned::tokens(numbered(TEXT_BLOCKS, block), Tower::Text, block, self.context_length));
        let vision = Learned::vision(self.vision_context_length, self.vision_depth);
        [context].into_iter().chain(vision).chain(text).collect()
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<Ivlp> {
        Some(Ivlp {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            depth: 1 + shapes.count(TEXT_BLOCKS),
            vision_context_length: shapes.tokens(VISION).unwrap_or(0),
            vision_depth: shapes.count(VISION) + shapes.count(VISION_BLOCKS),
        })
    }
}
