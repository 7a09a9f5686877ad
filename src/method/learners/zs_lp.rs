//! The linear probe that starts from zero-shot CLIP, also with CLAP's penalty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::method::check::{check_templates, plain_templates};
use crate::method::learnable::{Learned, Length, Start, TensorShapes};
use crate::method::options::Options;

/// The weights of the classes, as CLAP's code names them.
pub const CLASS_WEIGHTS: &str = "adapter.prototypes";

/// A weight for each class that starts from its text feature (ZS-LP); with a penalty on how far it moves, CLAP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZsLp {
    /// Texts with `{}` for the class name; a class has the mean of their features.
    #[serde(default = "plain_templates")]
    pub templates: Vec<String>,
    /// Whether a weight is held to its text feature, the more, the surer zero-shot CLIP is of the images of its class (CLAP).
    #[serde(default)]
    pub class_adaptive_penalty: bool,
}

impl Options for ZsLp {
    const STEMS: &'static [&'static str] = &[CLASS_WEIGHTS];
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        check_templates(&self.templates)
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
        vec![Learned::free(CLASS_WEIGHTS, &[Length::Classes, Length::Embedding], Start::Given)]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<ZsLp> {
        shapes.get(CLASS_WEIGHTS)?;
        Some(ZsLp { templates: plain_templates(), class_adaptive_penalty: false })
    }
}
