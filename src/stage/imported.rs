//! `imported`: a checkpoint of the published code as a trained prompt, so that released models can be evaluated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, PathPort, Port, Takes, Task, output};
use crate::error::{Error, Result};
use crate::method::{Method, Prompt};
use crate::store::Output;

pub(super) const VERSION: u32 = 1;
pub(super) static OUTPUTS: [Output; 1] = [output("prompt", "prompt.safetensors")];

/// Parameters of an `imported` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// The method that the checkpoint was trained with; what its tensors tell is checked.
    pub method: Method,
    /// The names of the classes that a class-specific context belongs to, in the order of their labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

impl Imported {
    pub(super) fn ports(&self) -> Result<Vec<Port>> {
        self.method.validate()?;
        if self.method.training.is_none() {
            return Err(Error::hinted(
                "an `imported` stage has a method that is not trained",
                "leave it out with `exclude`, and give the `eval` stage the `method`",
            ));
        }
        Ok(vec![Port {
            name: "checkpoint".into(),
            from: Takes::Outputs(Kind::Train, vec!["prompt"]),
            many: false,
            axes: None,
            location: false,
            path: PathPort::File,
        }])
    }

    pub(super) fn run(&self, task: &Task) -> Result<String> {
        let prompt = Prompt::read(&task.one("checkpoint.prompt").path)?;
        let path = task.output("prompt");
        std::fs::write(&path, prompt.import(&self.method, &self.classes)?).map_err(Error::io("write", &path))?;
        let epoch = prompt.epoch().map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        Ok(format!("{} tensors{epoch}", prompt.tensors().len()))
    }
}
