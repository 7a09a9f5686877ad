//! `chosen`: of the prompts that were trained with each value of an axis, the one with the value that a `select` stage chose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::select::{Choice, Select};
use super::{select, train};
use crate::error::{Error, Result};
use crate::kind::{Given, Here, Kind, Place, Port, Work, file};
use crate::task::Task;

/// Takes the prompt of the chosen value.
pub static KIND: Kind = Kind {
    inputs: &[
        ("choice", "A `select` stage."),
        ("prompts", "The `train` stage with the axis of which a value was chosen."),
    ],
    outputs: &[file("prompt", "prompt.safetensors")],
    ..Kind::of::<Chosen>("chosen", "Takes the prompt that was trained with the value that was chosen.", 1)
};

/// A `chosen` stage has no parameters: what is chosen stands in its input.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {}

impl Work for Chosen {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let Some(select) = given.work("choice").and_then(<dyn Work>::as_kind::<Select>) else {
            return Err(Error::hinted("a `chosen` stage needs a `select` stage", "for example `choice = \"@select\"`")
                .about("choice"));
        };
        let prompts = Port::one("prompts", &train::KIND, vec!["prompt"]).over(&select.over);
        Ok(vec![Port::one("choice", &select::KIND, vec!["choice"]), prompts])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

impl Here for Chosen {
    fn run(&self, task: &Task) -> Result<String> {
        let Choice { axis, value, .. } = task.json("choice.choice")?;
        let fitting: Vec<_> =
            task.all("prompts.prompt").iter().filter(|prompt| prompt.coordinates.get(&axis) == Some(&value)).collect();
        let [prompt] = fitting[..] else {
            return Err(Error::hinted(
                format!("`{axis}` {value} was chosen, and {} of the `prompts` have it, not one", fitting.len()),
                "this stage needs every axis of the `train` stage but the one of which a value is chosen",
            ));
        };
        let path = task.output("prompt");
        std::fs::copy(&prompt.path, &path).map_err(Error::io("write", &path))?;
        Ok(format!("{axis} {value}"))
    }
}
