//! CoOp.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::method::check::context_of_words;
use crate::method::learnable::{CONTEXT, Learned, TensorShapes};
use crate::method::options::{CheckpointLayout, Options};

/// CoOp: context in front of, around or behind the class name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coop {
    /// Learned tokens per prompt.
    pub context_length: i64,
    /// Words whose embeddings the context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// Where the class name stands.
    #[serde(default)]
    pub class_token_position: ClassTokenPosition,
    /// Whether each class learns a context of its own.
    #[serde(default)]
    pub class_specific_context: bool,
}

/// Where the class name stands in a prompt of CoOp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassTokenPosition {
    /// Behind the context.
    #[default]
    End,
    /// Between its halves.
    Middle,
    /// In front of it.
    Front,
}

impl Options for Coop {
    const STEMS: &'static [&'static str] = &[CONTEXT];
    const TOLD: &'static [&'static str] = &["context_length", "class_specific_context"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::PROMPT_LEARNER);

    fn validate(&self) -> Result<()> {
        if self.class_specific_context && !self.context_initial_words.is_empty() {
            return Err(Error::hinted(
                "`class_specific_context` starts at random, so `context_initial_words` has no use",
                "remove one of the two",
            )
            .about("class_specific_context"));
        }
        context_of_words(self.context_length, &self.context_initial_words)
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn learned(&self) -> Vec<Learned> {
        vec![if self.class_specific_context {
            Learned::context_per_class(self.context_length)
        } else {
            Learned::context(self.context_length, &self.context_initial_words)
        }]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<Coop> {
        Some(Coop {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            class_token_position: ClassTokenPosition::default(),
            class_specific_context: shapes.get(CONTEXT)?.len() == 3,
        })
    }
}
