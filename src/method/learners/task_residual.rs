//! TaskRes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::method::check::{check_templates, from_zero_up, plain_templates};
use crate::method::learnable::{Learned, Length, Start, TensorShapes};
use crate::method::options::Options;

/// What is added to the text features.
pub const RESIDUAL: &str = "prompt_learner.text_feature_residuals";

/// TaskRes: a residual for each class, which is added to its text feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskResidual {
    /// Texts with `{}` for the class name; a class has the mean of their features.
    #[serde(default = "plain_templates")]
    pub templates: Vec<String>,
    /// What the residuals are multiplied by.
    #[serde(default = "residual_scale")]
    pub residual_scale: f64,
}

const fn residual_scale() -> f64 {
    0.5
}

impl Options for TaskResidual {
    const STEMS: &'static [&'static str] = &[RESIDUAL];
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        check_templates(&self.templates)?;
        from_zero_up("residual_scale", self.residual_scale)
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
        vec![Learned::free(RESIDUAL, &[Length::Classes, Length::Embedding], Start::Given)]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<TaskResidual> {
        shapes.get(RESIDUAL)?;
        Some(TaskResidual { templates: plain_templates(), residual_scale: residual_scale() })
    }
}
