//! Zero-shot CLIP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::method::check::check_template;
use crate::method::learnable::{Learned, TensorShapes};
use crate::method::options::{Input, Options};

/// CLIP, untrained. With more than one template, each class has the mean of its normalised text features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// Texts with `{}` for the class name, beside the data set's own template.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Whether the data set's own template is among them.
    #[serde(default = "dataset_template")]
    pub dataset_template: bool,
}

const fn dataset_template() -> bool {
    true
}

impl Options for ZeroShot {
    const STEMS: &'static [&'static str] = &[];
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        if self.templates.is_empty() && !self.dataset_template {
            return Err(Error::hinted("there is no template", "give `templates`, or `dataset_template = true`"));
        }
        self.templates.iter().try_for_each(|template| check_template(template))
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn learned(&self) -> Vec<Learned> {
        Vec::new()
    }

    fn texts_per_class(&self) -> usize {
        self.templates.len() + usize::from(self.dataset_template)
    }

    fn inputs(&self) -> Vec<Input> {
        self.dataset_template.then_some(Input::Template).into_iter().collect()
    }

    fn of_tensors(_shapes: &TensorShapes) -> Option<ZeroShot> {
        None
    }
}
