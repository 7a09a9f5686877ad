//! Where a vision transformer looks in one image.

use serde::{Deserialize, Serialize};

/// Where the class token looks in one image: its attention in the last block, the mean over the heads.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AttentionMap {
    /// Where the image lies below the data set's folder.
    pub path: String,
    /// Its class's name.
    pub class: String,
    /// The share of each patch, row by row, in a square. What is missing to 1 goes to the class token itself and to `prompts`.
    pub patches: Vec<f32>,
    /// The share of the learned prompts among the tokens.
    pub prompts: f32,
}

impl AttentionMap {
    /// Patches per side.
    pub fn side(&self) -> usize {
        self.patches.len().isqrt()
    }
}
