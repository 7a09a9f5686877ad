//! MaPLe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::Result;
use crate::method::check::{context_from_words, depth, in_text, in_vision};
use crate::method::learnable::{CONTEXT, Form, Learned, Length, TensorShapes, Tower, numbered};
use crate::method::options::{CheckpointLayout, Options};

/// The projection of the context to the vision tower.
pub const PROJECTION: &str = "prompt_learner.proj";
/// The deep prompts; `*` is a number, from 0.
pub const DEEP: &str = "prompt_learner.compound_prompts_text.*";
/// The projections of these.
pub const DEEP_PROJECTION: &str = "prompt_learner.compound_prompt_projections.*";
/// The published code copies one layer, so all of them start alike.
const DRAWN_AS: &str = "prompt_learner.compound_prompt_projections";

/// MaPLe: prompts in the text tower, from which linear layers make those of the vision tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maple {
    /// Learned tokens in each tower.
    pub context_length: i64,
    /// Words whose embeddings the first context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// Blocks of each tower that get learned tokens.
    pub depth: i64,
}

impl Options for Maple {
    const STEMS: &'static [&'static str] = &[CONTEXT, PROJECTION, DEEP, DEEP_PROJECTION];
    const TOLD: &'static [&'static str] = &["context_length", "depth"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::whole("MultiModalPromptLearner"));

    fn validate(&self) -> Result<()> {
        context_from_words(self.context_length, &self.context_initial_words)?;
        depth("depth", self.depth)
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        in_text("depth", self.depth, architecture)?;
        in_vision("depth", self.depth, architecture)
    }

    fn has_plain_vision(&self) -> bool {
        false
    }

    fn learned(&self) -> Vec<Learned> {
        let (output, input) = (Length::Vision, Length::Text);
        let first = [
            Learned::context(self.context_length, &self.context_initial_words),
            Learned::linear(PROJECTION.to_owned(), output, input),
        ];
        let deep = 0..self.depth - 1;
        let tokens = deep
            .clone()
            .map(|number| Learned::tokens(numbered(DEEP, number), Tower::Text, number + 1, self.context_length));
        let projections = deep.map(|number| Learned {
            name: numbered(DEEP_PROJECTION, number),
            form: Form::Linear { output, input, drawn_as: DRAWN_AS.to_owned() },
            wide: true,
        });
        first.into_iter().chain(tokens).chain(projections).collect()
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<Maple> {
        Some(Maple {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            depth: 1 + shapes.count(DEEP),
        })
    }
}
