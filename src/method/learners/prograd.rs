//! ProGrad.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::method::check::{check_template, context_length, initial_words, weight};
use crate::method::learnable::{CONTEXT, Learned, TensorShapes};
use crate::method::options::{CheckpointLayout, Options, Teacher};

/// ProGrad: CoOp whose steps do not go against what a frozen CLIP says of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prograd {
    /// Learned tokens per prompt.
    pub context_length: i64,
    /// Words whose embeddings the last tokens of the context start from, those before them at zero; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// The text, with `{}` for the class name, by which the frozen CLIP tells images apart.
    pub teacher_template: String,
    /// How much of what goes against the frozen CLIP is taken out of a gradient: 1 for all of it.
    #[serde(default = "projection")]
    pub projection: f64,
}

const fn projection() -> f64 {
    1.0
}

impl Options for Prograd {
    const STEMS: &'static [&'static str] = &[CONTEXT];
    const TOLD: &'static [&'static str] = &["context_length"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::PROMPT_LEARNER);

    fn validate(&self) -> Result<()> {
        context_length(self.context_length)?;
        initial_words(&self.context_initial_words)?;
        let words = self.context_initial_words.split_whitespace().count() as i64;
        if words > self.context_length {
            return Err(Error::hinted(
                format!("`context_length` is {}, but `context_initial_words` has {words} words", self.context_length),
                format!("set `context_length` to at least {words}"),
            )
            .about("context_length"));
        }
        check_template(&self.teacher_template).map_err(|error| error.about("teacher_template"))?;
        weight("projection", self.projection)
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

    /// The tensors of CoOp, which comes first.
    fn of_tensors(shapes: &TensorShapes) -> Option<Prograd> {
        Some(Prograd {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            teacher_template: "a photo of a {}.".to_owned(),
            projection: projection(),
        })
    }
}
