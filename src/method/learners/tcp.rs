//! TCP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cocoop;
use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::{check_template, context_of_words, depth, weight};
use crate::method::learnable::{CONTEXT, Learned, Length, META_NET, TensorShapes};
use crate::method::options::{CheckpointLayout, Options, Teacher};

/// Tokens that each class has of its own.
pub const CLASS_TOKENS: i64 = 4;
/// The hidden layer of the network is the embedding's width divided by this.
const REDUCTION: i64 = 4;

/// TCP: CoOp, and tokens of each class in a later block of the text tower, which a small network makes of the class's features
/// in a frozen CLIP. The class features are held near those.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Learned tokens per prompt.
    pub context_length: i64,
    /// Words whose embeddings the context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// The text of a prompt, with `{}` for the class name; the context takes the place of its first tokens.
    pub prompt_template: String,
    /// The text, with `{}` for the class name, of which the frozen CLIP makes the class's features.
    pub teacher_template: String,
    /// What the distance from those features is multiplied by in the loss: 1 less the mean cosine of the classes.
    pub teacher_weight: f64,
    /// The block of the text tower, from 0, in front of which the class's own tokens take the place of the first four.
    #[serde(default = "class_token_block")]
    pub class_token_block: i64,
}

const fn class_token_block() -> i64 {
    8
}

impl Options for Tcp {
    const STEMS: &'static [&'static str] = &[CONTEXT, META_NET];
    const TOLD: &'static [&'static str] = &["context_length"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::PROMPT_LEARNER);

    fn validate(&self) -> Result<()> {
        context_of_words(self.context_length, &self.context_initial_words)?;
        if self.context_length < CLASS_TOKENS {
            return Err(Error::hinted(
                format!("`context_length` is {}, but {CLASS_TOKENS} tokens are replaced", self.context_length),
                format!("set `context_length` to at least {CLASS_TOKENS}"),
            )
            .about("context_length"));
        }
        check_template(&self.prompt_template).map_err(|error| error.about("prompt_template"))?;
        check_template(&self.teacher_template).map_err(|error| error.about("teacher_template"))?;
        weight("teacher_weight", self.teacher_weight)?;
        depth("class_token_block", self.class_token_block)
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        let blocks = architecture.text_layers;
        if self.class_token_block >= blocks {
            let message =
                format!("`class_token_block` is {}, but the text tower has {blocks} blocks", self.class_token_block);
            return Err(Error::hinted(message, format!("set `class_token_block` to at most {}", blocks - 1)));
        }
        cocoop::has_hidden_layer("TCP", REDUCTION, architecture)
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn teacher(&self) -> Teacher {
        Teacher { texts: 1, in_evaluations: true, ..Teacher::default() }
    }

    fn learned(&self) -> Vec<Learned> {
        let hidden = Length::Reduced(REDUCTION);
        vec![
            Learned::context(self.context_length, &self.context_initial_words),
            Learned::linear(cocoop::linear(1), hidden, Length::Embedding),
            Learned::linear(cocoop::linear(2), Length::Texts(CLASS_TOKENS), hidden),
        ]
    }

    /// CoCoOp's network has the same names, and leads to one token.
    fn of_tensors(shapes: &TensorShapes) -> Option<Tcp> {
        let width = shapes.get(CONTEXT)?.last()?;
        (shapes.outputs(&cocoop::linear(2))? == CLASS_TOKENS * width).then_some(())?;
        Some(Tcp {
            context_length: shapes.tokens(CONTEXT)?,
            context_initial_words: String::new(),
            prompt_template: "X X X X {}.".to_owned(),
            teacher_template: "a photo of a {}.".to_owned(),
            teacher_weight: 8.0,
            class_token_block: class_token_block(),
        })
    }
}
