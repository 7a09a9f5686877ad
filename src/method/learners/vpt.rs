//! Deep visual prompt tuning.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::Result;
use crate::method::check::{depth, in_vision, vision_context_length};
use crate::method::learnable::{Learned, TensorShapes, VISION, VISION_BLOCKS};
use crate::method::options::{CheckpointLayout, Options};

/// Deep visual prompt tuning, with a fixed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vpt {
    /// Learned tokens in the vision tower.
    pub vision_context_length: i64,
    /// Blocks of the vision tower that get learned tokens.
    pub vision_depth: i64,
}

impl Options for Vpt {
    const STEMS: &'static [&'static str] = &[VISION, VISION_BLOCKS];
    const TOLD: &'static [&'static str] = &["vision_context_length", "vision_depth"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::whole("prompt_learner"));

    fn validate(&self) -> Result<()> {
        vision_context_length(self.vision_context_length)?;
        depth("vision_depth", self.vision_depth)
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        in_vision("vision_depth", self.vision_depth, architecture)
    }

    fn has_plain_vision(&self) -> bool {
        false
    }

    fn learned(&self) -> Vec<Learned> {
        Learned::vision(self.vision_context_length, self.vision_depth).collect()
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<Vpt> {
        let vision_context_length = shapes.tokens(VISION)?;
        Some(Vpt { vision_context_length, vision_depth: shapes.count(VISION) + shapes.count(VISION_BLOCKS) })
    }
}
