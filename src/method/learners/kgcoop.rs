//! KgCoOp.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::method::check::{check_template, context_of_words, weight};
use crate::method::learnable::{CONTEXT, Learned, TensorShapes};
use crate::method::options::{CheckpointLayout, Options, Teacher};

/// What published checkpoints hold beside the context: layers that nothing uses.
const BIAS_VECTORS: &str = "prompt_learner.bias_vectors";
const UNUSED_LAYER: &str = "prompt_learner.meta_net.linear1";

/// KgCoOp: CoOp whose class features are held near those of a hand-written text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kgcoop {
    /// Learned tokens per prompt.
    pub context_length: i64,
    /// Words whose embeddings the context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// The text, with `{}` for the class name, whose features the learned ones are compared with.
    pub teacher_template: String,
    /// What the distance from those features is multiplied by in the loss: 1 less the mean cosine of the classes.
    pub teacher_weight: f64,
}

impl Options for Kgcoop {
    const STEMS: &'static [&'static str] = &[CONTEXT];
    const LEFT_OVER: &'static [&'static str] = &[BIAS_VECTORS, UNUSED_LAYER];
    const TOLD: &'static [&'static str] = &["context_length"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::PROMPT_LEARNER);

    fn validate(&self) -> Result<()> {
        context_of_words(self.context_length, &self.context_initial_words)?;
        check_template(&self.teacher_template).map_err(|error| error.about("teacher_template"))?;
        weight("teacher_weight", self.teacher_weight)
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn teacher(&self) -> Teacher {
        Teacher { texts: 1, ..Teacher::default() }
    }

    fn learned(&self) -> Vec<Learned> {
        vec![Learned::context(self.context_length, &self.context_initial_words)]
    }

    /// The tensors of CoOp, and so of this learner only where something is left over that CoOp's checkpoints do not have.
    fn of_tensors(shapes: &TensorShapes) -> Option<Kgcoop> {
        Some(Kgcoop {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            teacher_template: "a photo of a {}.".to_owned(),
            teacher_weight: 8.0,
        })
    }
}
