//! The kinds of node. Each declares its parameters, inputs, outputs and a version; those that need libtorch run in
//! `worker`, the others here.

mod command;
mod dataset;
mod eval;
mod fewshot;
mod imported;
mod metrics;
mod prediction;
mod pretrain;
mod table;
mod train;
mod world;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

pub use command::CommandStage;
pub use dataset::{Dataset, Index, Template, test_output};
pub use eval::Eval;
pub use fewshot::FewShot;
pub use imported::Imported;
pub use metrics::{ClassMetrics, Metrics};
pub use prediction::{Prediction, PredictionRow};
pub use pretrain::Pretrain;
pub use table::{Evaluation, TableStage};
pub use train::Train;
pub use world::WorldStage;

use crate::coordinates::Coordinates;
use crate::data::PixelCache;
use crate::device::Device;
use crate::diagnostic::Diagnostic;
use crate::document::{Data, Entry, Table, Value};
use crate::error::{Error, Result};
use crate::numerics::Numerics;
use crate::store::{ArtifactKind, Listing, Output};
use crate::tensorboard::EventFolder;

/// What an input with the weights of a CLIP model takes.
const WEIGHTS: &str = "A file, the name of published weights such as `openai/ViT-B-16`, or a `pretrain` stage.";

/// What a `[stage.NAME]` table's `kind` may say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Draws a data set of the embedded world.
    World,
    /// Indexes a data set: classes, splits, image digests.
    Dataset,
    /// Trains a small CLIP on captioned images.
    Pretrain,
    /// Draws the few-shot sample.
    FewShot,
    /// Trains a prompt.
    Train,
    /// Makes a trained prompt of a published checkpoint.
    Imported,
    /// Measures a trained prompt, or zero-shot CLIP, on test images.
    Eval,
    /// Collects evaluations into tables.
    Table,
    /// Runs any program.
    Command,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::World,
        Kind::Dataset,
        Kind::Pretrain,
        Kind::FewShot,
        Kind::Train,
        Kind::Imported,
        Kind::Eval,
        Kind::Table,
        Kind::Command,
    ];

    /// The word in the pipeline file.
    pub fn name(self) -> &'static str {
        match self {
            Kind::World => "world",
            Kind::Dataset => "dataset",
            Kind::Pretrain => "pretrain",
            Kind::FewShot => "fewshot",
            Kind::Train => "train",
            Kind::Imported => "imported",
            Kind::Eval => "eval",
            Kind::Table => "table",
            Kind::Command => "command",
        }
    }

    /// All the words.
    pub fn names() -> Vec<&'static str> {
        Kind::ALL.map(Kind::name).to_vec()
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a stage of this kind does, in one sentence.
    pub fn about(self) -> &'static str {
        match self {
            Kind::World => "Draws a data set of the embedded world, or captioned pictures of it.",
            Kind::Dataset => "Indexes a data set: class names, splits, and the digest of every image.",
            Kind::Pretrain => "Trains a small CLIP on captioned pictures of the embedded world.",
            Kind::FewShot => "Draws the few-shot sample of a data set, as the published code draws it.",
            Kind::Train => "Trains a prompt on a few-shot sample.",
            Kind::Imported => "Makes a trained prompt of a checkpoint of the published code.",
            Kind::Eval => "Measures a trained prompt, or zero-shot CLIP, on test images.",
            Kind::Table => "Collects evaluations into CSV, LaTeX, Markdown and a plot.",
            Kind::Command => "Runs any program.",
        }
    }

    /// The keys of a stage table that name inputs, with what each takes; all others are parameters.
    pub fn inputs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::World => &[],
            Kind::Dataset => &[(
                "root",
                "The data set's folder, or a `world` stage; without it, the manifest's folder below the data root.",
            )],
            Kind::Pretrain => &[("captioned", "A `world` stage that draws captioned pictures.")],
            Kind::FewShot => &[("dataset", "A `dataset` stage.")],
            Kind::Train => &[("shots", "A `fewshot` stage."), ("weights", WEIGHTS)],
            Kind::Imported => &[("checkpoint", "A file such as `model.pth.tar-5`, or a stage that leaves a prompt.")],
            Kind::Eval => &[
                ("dataset", "A `dataset` stage."),
                ("prompt", "A `train` or `imported` stage, or the file of a trained prompt."),
                ("weights", WEIGHTS),
            ],
            Kind::Table => &[
                ("evals", "One or several `eval` stages; every node of them is collected."),
                ("published", "CSV files with the columns method, dataset, metric and value, to compare with."),
            ],
            Kind::Command => &[("inputs", "What the command finds as `inputs/NAME`.")],
        }
    }

    /// Takes the inputs out of a stage's table, by name; what is left are parameters.
    pub fn take_inputs(self, table: &mut Table) -> Result<Vec<Entry>, Diagnostic> {
        let mut taken: Vec<Entry> = self.inputs().iter().filter_map(|(name, _)| table.take(name)).collect();
        let (Kind::Command, Some(inputs)) = (self, taken.first()) else { return Ok(taken) };
        // A command names its inputs itself.
        match &inputs.value.data {
            Data::Table(table) => taken = table.entries().to_vec(),
            _ => {
                let message = format!("`inputs` must be a table, not {}", inputs.value.type_name());
                return Err(Diagnostic::at(&inputs.value.span, message)
                    .hint("for example `inputs = { script = \"train.py\", data = \"@data.train\" }`"));
            }
        }
        match taken.iter().find(|entry| Path::new(&entry.key).file_name() != Some(entry.key.as_ref())) {
            None => Ok(taken),
            Some(entry) => {
                let message = format!("`{}` cannot be the name of an input", entry.key);
                Err(Diagnostic::at(&entry.span, message).hint("the command finds it as `inputs/NAME`"))
            }
        }
    }

    /// What a node of this kind leaves, where its parameters have no say.
    pub fn outputs(self) -> &'static [Output] {
        match self {
            Kind::World => &world::OUTPUTS,
            Kind::Dataset => &dataset::OUTPUTS,
            Kind::Pretrain => &pretrain::OUTPUTS,
            Kind::FewShot => &fewshot::OUTPUTS,
            Kind::Train => &train::OUTPUTS,
            Kind::Imported => &imported::OUTPUTS,
            Kind::Eval => &eval::OUTPUTS,
            Kind::Table => &table::OUTPUTS,
            Kind::Command => &[],
        }
    }

    /// The keys of a stage table that hold a table, or the path of a TOML file with one.
    pub fn table_parameters(self) -> &'static [&'static str] {
        match self {
            Kind::Dataset => &["manifest"],
            Kind::Train | Kind::Imported | Kind::Eval => &["method"],
            Kind::Command => &["parameters"],
            _ => &[],
        }
    }

    /// The input through which a node of this kind knows where its images lie. A location is not part of any key:
    /// the images themselves enter by their digests.
    pub fn location(self) -> Option<&'static str> {
        match self {
            Kind::Dataset => Some("root"),
            Kind::FewShot => Some("dataset"),
            _ => None,
        }
    }

    /// The JSON Schema of the parameters.
    pub fn schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Kind::World => WorldStage::json_schema(generator),
            Kind::Dataset => Dataset::json_schema(generator),
            Kind::Pretrain => Pretrain::json_schema(generator),
            Kind::FewShot => FewShot::json_schema(generator),
            Kind::Train => Train::json_schema(generator),
            Kind::Imported => Imported::json_schema(generator),
            Kind::Eval => Eval::json_schema(generator),
            Kind::Table => TableStage::json_schema(generator),
            Kind::Command => CommandStage::json_schema(generator),
        }
    }

    /// Reads a node's parameters.
    pub fn read(self, parameters: &Value) -> Result<Stage, Diagnostic> {
        Ok(match self {
            Kind::World => Stage::World(parameters.read()?),
            Kind::Dataset => Stage::Dataset(parameters.read()?),
            Kind::Pretrain => Stage::Pretrain(parameters.read()?),
            Kind::FewShot => Stage::FewShot(parameters.read()?),
            Kind::Train => Stage::Train(parameters.read()?),
            Kind::Imported => Stage::Imported(parameters.read()?),
            Kind::Eval => Stage::Eval(parameters.read()?),
            Kind::Table => Stage::Table(parameters.read()?),
            Kind::Command => Stage::Command(parameters.read()?),
        })
    }
}

/// A node's kind with its parameters: exactly those that it reads, so that they are what its key holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", content = "parameters", rename_all = "lowercase")]
pub enum Stage {
    /// See [`WorldStage`].
    World(WorldStage),
    /// See [`Dataset`].
    Dataset(Box<Dataset>),
    /// See [`Pretrain`].
    Pretrain(Pretrain),
    /// See [`FewShot`].
    FewShot(FewShot),
    /// See [`Train`].
    Train(Train),
    /// See [`Imported`].
    Imported(Imported),
    /// See [`Eval`].
    Eval(Eval),
    /// See [`TableStage`].
    Table(TableStage),
    /// See [`CommandStage`].
    Command(Box<CommandStage>),
}

/// An input that a stage takes.
#[derive(Clone, Debug)]
pub struct Port {
    /// The key in the stage table.
    pub name: Cow<'static, str>,
    /// What a reference may name.
    pub from: Takes,
    /// Takes every matching node, not one.
    pub many: bool,
    /// The axes that the stage referred to must have, and those that it may have.
    pub axes: Option<(&'static [&'static str], &'static [&'static str])>,
    /// Also wants to know where the referenced node's images lie.
    pub location: bool,
    /// What a path in place of a reference means.
    pub path: PathPort,
}

/// What a reference may name.
#[derive(Clone, Debug)]
pub enum Takes {
    /// A stage of this kind, of which these outputs are read. One output alone may also be a command's.
    Outputs(Kind, Vec<&'static str>),
    /// An output of any stage: of all matching nodes where it stands in a list, or where that stage has an axis more;
    /// else of one.
    Anything,
}

/// What a path in place of a reference means for a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathPort {
    /// A reference is needed.
    Refused,
    /// A file; it is the referenced stage's one output.
    File,
    /// A file or a folder.
    Any,
    /// A folder of which only these files and folders are read. When the stage table is silent, it is looked for
    /// under the data root at `default`.
    Folder {
        /// What is read, relative to the folder.
        within: Vec<String>,
        /// The place under the data root.
        default: String,
        /// Where what is read can be had, as far as that is known.
        sources: BTreeMap<String, String>,
        /// The name under which `maple-pipe data fetch` gets it, where it knows it.
        known_as: Option<&'static str>,
    },
}

const fn output(name: &'static str, path: &'static str) -> Output {
    Output { name: Cow::Borrowed(name), path: Cow::Borrowed(path), kind: ArtifactKind::File }
}

const fn folder(name: &'static str, path: &'static str) -> Output {
    Output { name: Cow::Borrowed(name), path: Cow::Borrowed(path), kind: ArtifactKind::Folder }
}

impl Stage {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Stage::World(_) => Kind::World,
            Stage::Dataset(_) => Kind::Dataset,
            Stage::Pretrain(_) => Kind::Pretrain,
            Stage::FewShot(_) => Kind::FewShot,
            Stage::Train(_) => Kind::Train,
            Stage::Imported(_) => Kind::Imported,
            Stage::Eval(_) => Kind::Eval,
            Stage::Table(_) => Kind::Table,
            Stage::Command(_) => Kind::Command,
        }
    }

    /// Raised by hand when a stage's meaning changes.
    pub fn version(&self) -> u32 {
        match self {
            Stage::World(_) => world::VERSION,
            Stage::Dataset(_) => dataset::VERSION,
            Stage::Pretrain(_) => pretrain::VERSION,
            Stage::FewShot(_) => fewshot::VERSION,
            Stage::Train(_) => train::VERSION,
            Stage::Imported(_) => imported::VERSION,
            Stage::Eval(_) => eval::VERSION,
            Stage::Table(_) => table::VERSION,
            Stage::Command(_) => command::VERSION,
        }
    }

    /// The inputs that these parameters ask for.
    ///
    /// # Errors
    /// Parameters that contradict each other or the inputs given.
    pub fn ports(&self, given: &[&str]) -> Result<Vec<Port>> {
        Ok(match self {
            Stage::World(stage) => stage.ports()?,
            Stage::Dataset(stage) => stage.ports()?,
            Stage::Pretrain(stage) => stage.ports()?,
            Stage::FewShot(_) => fewshot::ports(),
            Stage::Train(stage) => stage.ports()?,
            Stage::Imported(stage) => stage.ports()?,
            Stage::Eval(stage) => stage.ports(given)?,
            Stage::Table(_) => table::ports(given),
            Stage::Command(stage) => stage.ports(given)?,
        })
    }

    /// What a node leaves.
    pub fn outputs(&self) -> &[Output] {
        if let Stage::Command(stage) = self { stage.outputs() } else { self.kind().outputs() }
    }

    /// Whether the result says which nodes it was made from, so that their keys are in its own.
    pub fn names_origins(&self) -> bool {
        matches!(self, Stage::Table(_))
    }

    /// Whether the stage computes with libtorch, on a device, in a worker.
    pub fn needs_device(&self) -> bool {
        matches!(self, Stage::Pretrain(_) | Stage::Train(_) | Stage::Eval(_))
    }

    /// What a stage that computes with libtorch is held to.
    pub fn numerics(&self) -> Numerics {
        match self {
            Stage::Pretrain(stage) => stage.0.numerics,
            Stage::Train(stage) => stage.numerics,
            Stage::Eval(stage) => stage.numerics,
            _ => Numerics::Native,
        }
    }

    /// Runs a stage that needs no process of its own and returns a note for the status line; `None` for one that does:
    /// a command, and what needs libtorch, which `worker` runs.
    pub fn run_here(&self, task: &Task) -> Option<Result<String>> {
        match self {
            Stage::World(stage) => Some(stage.run(task)),
            Stage::Dataset(stage) => Some(stage.run(task)),
            Stage::FewShot(stage) => Some(stage.run(task)),
            Stage::Imported(stage) => Some(stage.run(task)),
            Stage::Table(stage) => Some(stage.run(task)),
            Stage::Pretrain(_) | Stage::Train(_) | Stage::Eval(_) | Stage::Command(_) => None,
        }
    }
}

/// Everything a stage needs to run; a worker process reads it from its standard input as JSON.
#[derive(Debug, Deserialize, Serialize)]
pub struct Task {
    /// [`crate::identity::BUILD`] of the run.
    pub build: String,
    /// The node's name, for messages.
    pub node: String,
    /// What to do.
    pub stage: Stage,
    /// By `port.output`, e.g. `shots.train`; a location by `port.location`.
    pub inputs: BTreeMap<String, Vec<TaskInput>>,
    /// An empty folder for the outputs.
    pub scratch: PathBuf,
    /// A folder kept from run to run until the node is done, for resuming.
    pub partial: PathBuf,
    /// Where event files for TensorBoard go while the node runs; they are no part of its result. Nothing where none are
    /// wanted.
    pub tensorboard: Option<EventFolder>,
    /// Where prepared pixels are kept, if they are; the result does not depend on it.
    pub pixels: Option<PixelCache>,
    /// Threads for decoding images and for the fixed parts of a batch; the result does not depend on it.
    pub threads: usize,
    /// Where libtorch computes.
    pub device: Device,
}

/// One artifact or folder that a task reads.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TaskInput {
    /// Where it lies.
    pub path: PathBuf,
    /// The axis values of the node that made it.
    pub coordinates: Coordinates,
    /// The key of the node that made it, if a node did.
    pub key: Option<String>,
    /// The digests of a folder's files.
    #[serde(skip)]
    pub listing: Option<Arc<Listing>>,
}

impl Task {
    /// All inputs of this name.
    pub fn all(&self, name: &str) -> &[TaskInput] {
        self.inputs.get(name).map_or(&[], Vec::as_slice)
    }

    /// The one input of this name.
    pub fn one(&self, name: &str) -> &TaskInput {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "the graph gives `{}` exactly one `{name}`", self.node);
        &all[0]
    }

    /// Reads the JSON artifact of this name.
    pub fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        read_json(&self.one(name).path)
    }

    /// Where the declared output of this name goes.
    pub fn output(&self, name: &str) -> PathBuf {
        let output = self.stage.outputs().iter().find(|output| output.name == name);
        self.scratch.join(output.expect("a stage writes what it declares").path.as_ref())
    }

    /// Writes a JSON output.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.output(name);
        let text = serde_json::to_string(value).map_err(|error| Error::format(&path, "JSON value", error))?;
        std::fs::write(&path, text + "\n").map_err(Error::io("write", &path))
    }

    /// Writes a CSV output with a header.
    pub fn write_csv(&self, name: &str, rows: impl IntoIterator<Item: Serialize>) -> Result<()> {
        let path = self.output(name);
        std::fs::write(&path, csv(rows)).map_err(Error::io("write", &path))
    }
}

/// Plain structs as CSV, their fields' names as its header.
fn csv(rows: impl IntoIterator<Item: Serialize>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.into_iter().for_each(|row| writer.serialize(row).expect("a vector takes all writes"));
    String::from_utf8(writer.into_inner().expect("a vector takes all writes")).expect("only text was written")
}

/// Reads a JSON file.
pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| Error::format(path, "artifact", error))
}
