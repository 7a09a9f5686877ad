//! `imported`: a checkpoint of the published code as a trained prompt, so that released models can be evaluated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::train;
use crate::error::{Error, Result};
use crate::kind::{Given, Here, Kind, PathPort, Place, Port, Work, file};
use crate::method::{Method, Precision, Prompt};
use crate::task::Task;

/// Makes a trained prompt of a published checkpoint.
pub static KIND: Kind = Kind {
    inputs: &[("checkpoint", "A file such as `model.pth.tar-5`, or a stage that leaves a prompt.")],
    outputs: &[file("prompt", "prompt.safetensors")],
    table_parameters: &["method"],
    ..Kind::of::<Imported>("imported", "Makes a trained prompt of a checkpoint of the published code.", 2)
};

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

impl Work for Imported {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        self.method.validate()?;
        if !self.method.is_trained() {
            return Err(Error::hinted(
                "an `imported` stage has a method that is not trained",
                "leave it out with `exclude`, and give the `eval` stage the `method`",
            ));
        }
        Ok(vec![Port::one("checkpoint", &train::KIND, vec!["prompt"]).or_path(PathPort::File)])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }

    fn method(&self) -> Option<&Method> {
        Some(&self.method)
    }

    fn precision(&self) -> Option<(Precision, &'static str)> {
        Some((self.method.precision, "method.precision"))
    }
}

impl Here for Imported {
    fn run(&self, task: &Task) -> Result<String> {
        let prompt = Prompt::read(&task.one("checkpoint.prompt").path)?;
        let path = task.output("prompt");
        std::fs::write(&path, prompt.import(&self.method, &self.classes)?).map_err(Error::io("write", &path))?;
        let epoch = prompt.epoch().map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
        Ok(format!("{} tensors{epoch}", prompt.tensors().len()))
    }
}
