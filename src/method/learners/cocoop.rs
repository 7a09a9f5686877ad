//! CoCoOp.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::context_of_words;
use crate::method::learnable::{CONTEXT, Learned, Length, META_NET, TensorShapes};
use crate::method::options::{CheckpointLayout, Options};

/// Its hidden layer is the embedding's width divided by this.
const REDUCTION: i64 = 16;

/// CoCoOp: CoOp with a context that a small network shifts for each image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cocoop {
    /// Learned tokens per prompt.
    pub context_length: i64,
    /// Words whose embeddings the context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
}

/// The published name of a layer of the network, the first or the second.
pub fn linear(number: i64) -> String {
    format!("{META_NET}.linear{number}")
}

/// Checks that the network's hidden layer has a width.
pub(super) fn has_hidden_layer(whose: &str, reduction: i64, architecture: &Architecture) -> Result<()> {
    if architecture.embedding >= reduction {
        return Ok(());
    }
    Err(Error::hinted(
        format!("{whose}'s network has no width in a model with an embedding of {}", architecture.embedding),
        format!("use a model with an embedding of at least {reduction}"),
    ))
}

impl Options for Cocoop {
    const STEMS: &'static [&'static str] = &[CONTEXT, META_NET];
    const TOLD: &'static [&'static str] = &["context_length"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::PROMPT_LEARNER);

    fn validate(&self) -> Result<()> {
        context_of_words(self.context_length, &self.context_initial_words)
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        has_hidden_layer("CoCoOp", REDUCTION, architecture)
    }

    fn has_texts_per_image(&self) -> bool {
        true
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn learned(&self) -> Vec<Learned> {
        let hidden = Length::Reduced(REDUCTION);
        vec![
            Learned::context(self.context_length, &self.context_initial_words),
            Learned::linear(linear(1), hidden, Length::Embedding),
            Learned::linear(linear(2), Length::Text, hidden),
        ]
    }

    /// TCP's network has the same names, and leads to several tokens.
    fn of_tensors(shapes: &TensorShapes) -> Option<Cocoop> {
        if let Some(outputs) = shapes.outputs(&linear(2)) {
            (Some(&outputs) == shapes.get(CONTEXT)?.last()).then_some(())?;
        }
        Some(Cocoop { context_length: shapes.tokens(CONTEXT)?, context_initial_words: String::new() })
    }
}
