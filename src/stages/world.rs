//! `world`: draws a data set of the embedded world as image files.

use schemars::JsonSchema;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::data::world::{Dataset, Parameters, World};
use crate::error::Result;
use crate::kind::{Given, Here, Kind, Place, Port, Work, folder};
use crate::task::Task;

/// Draws a data set of the embedded world.
pub static KIND: Kind = Kind {
    outputs: &[folder("files", "world")],
    ..Kind::of::<WorldStage>("world", "Draws a data set of the embedded world, or captioned pictures of it.", 1)
};

/// Parameters of a `world` stage: those of [`World`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WorldStage(Parameters);

impl Serialize for WorldStage {
    /// What this data set reads, and nothing else: it is part of the key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parameters = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        let unread: &[&str] = match self.0.dataset {
            Dataset::Captioned => &["classes", "train", "val", "test"],
            Dataset::Shapes | Dataset::Textures | Dataset::Arrangements => &["captioned"],
        };
        if let serde_json::Value::Object(map) = &mut parameters {
            map.retain(|name, _| !unread.contains(&name.as_str()));
        }
        parameters.serialize(serializer)
    }
}

impl Work for WorldStage {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        self.0.check()?;
        Ok(Vec::new())
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

impl Here for WorldStage {
    fn run(&self, task: &Task) -> Result<String> {
        World { parameters: self.0.clone() }.write(&task.output("files"))?;
        Ok(String::new())
    }
}
