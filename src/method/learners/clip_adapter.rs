//! CLIP-Adapter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::{check_templates, plain_templates};
use crate::method::learnable::{Learned, Length, Start, TensorShapes};
use crate::method::options::Options;

/// The weights of the adapter's two layers.
pub const LAYERS: [&str; 2] = ["adapter.fc.0.weight", "adapter.fc.2.weight"];
/// Its hidden layer is the embedding's width divided by this.
const REDUCTION: i64 = 4;

/// CLIP-Adapter: a network of two layers that changes image features; it serves any classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClipAdapter {
    /// Texts with `{}` for the class name; a class has the mean of their features.
    #[serde(default = "plain_templates")]
    pub templates: Vec<String>,
    /// The share of the network's output in an image feature; the rest is CLIP's own.
    #[serde(default = "ratio")]
    pub ratio: f64,
}

const fn ratio() -> f64 {
    0.2
}

impl Options for ClipAdapter {
    const STEMS: &'static [&'static str] = &LAYERS;
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        check_templates(&self.templates)?;
        if (0.0..=1.0).contains(&self.ratio) {
            return Ok(());
        }
        Err(Error::hinted(format!("`ratio` is {}", self.ratio), "give a number from 0 to 1").about("ratio"))
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        if architecture.embedding >= REDUCTION {
            return Ok(());
        }
        Err(Error::hinted(
            format!("CLIP-Adapter's network has no width in a model with an embedding of {}", architecture.embedding),
            format!("use a model with an embedding of at least {REDUCTION}"),
        ))
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn works_on_features(&self) -> bool {
        true
    }

    fn texts_per_class(&self) -> usize {
        self.templates.len()
    }

    fn learned(&self) -> Vec<Learned> {
        let hidden = Length::Reduced(REDUCTION);
        let [first, second] = LAYERS;
        vec![
            Learned::free(first, &[hidden, Length::Embedding], Start::Uniform),
            Learned::free(second, &[Length::Embedding, hidden], Start::Uniform),
        ]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<ClipAdapter> {
        LAYERS.iter().find_map(|layer| shapes.get(layer))?;
        Some(ClipAdapter { templates: plain_templates(), ratio: ratio() })
    }
}
