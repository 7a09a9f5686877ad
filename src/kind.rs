//! What a stage kind is. Each kind is one file of `stages`, which says here all that the rest of the program asks.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backbone::BackboneOptions;
use crate::data::Classes;
use crate::diagnostic::Diagnostic;
use crate::document::{Data, Entry, Table, Value};
use crate::error::Result;
use crate::method::{Method, Precision};
use crate::numerics::Numerics;
use crate::store::{ArtifactKind, Output};
use crate::task::Task;

/// What is known of a kind of stage before its parameters are.
pub struct Kind {
    /// What `kind` says in a `[stage.NAME]` table.
    pub name: &'static str,
    /// What a stage of this kind does, in one sentence.
    pub about: &'static str,
    /// Raised by hand when what a stage of this kind means changes. It is part of the key.
    pub version: u32,
    /// The keys of a stage table that name inputs, with what each takes; all others are parameters.
    pub inputs: &'static [(&'static str, &'static str)],
    /// The one key in `inputs` is a table, in which the user names the inputs; the outputs are the user's, too.
    pub is_open: bool,
    /// What a node leaves, where its parameters have no say.
    pub outputs: &'static [Output],
    /// The keys of a stage table that hold a table, or the path of a TOML file with one.
    pub table_parameters: &'static [&'static str],
    /// The input through which a node of this kind knows where its images lie. A location is not part of any key:
    /// the images themselves enter by their digests.
    pub location: Option<&'static str>,
    /// Whether a result says which nodes it was made from, so that their keys are in its own.
    pub names_origins: bool,
    /// Whether a pipeline that does not say what its results are means the stages of this kind.
    pub is_result: bool,
    /// What a report shows of its nodes.
    pub section: Option<Section>,
    /// What a report lists of its nodes with a digest: what it is called there, and the output; the key, where that is `None`.
    pub provenance: Option<(&'static str, Option<&'static str>)>,
    /// Makes the JSON Schema of the parameters.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads a node's parameters; fails with the first mistake in them.
    pub read: fn(&Value) -> Result<Arc<dyn Work>, Diagnostic>,
    /// Reads a node's parameters as [`Parameters`] wrote them.
    pub restore: fn(&serde_json::Value) -> serde_json::Result<Arc<dyn Work>>,
}

/// What a report shows of a kind's nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// The losses of its output `log`.
    Training,
    /// The classes and mistakes of its outputs `per-class` and `predictions`.
    Evaluation,
    /// The plane of its outputs `features` and `images`.
    Features,
    /// Images with its output `maps` over them.
    Attention,
}

impl Kind {
    /// A kind whose parameters are `T`, and of which nothing else is said yet.
    pub const fn of<T: Work + DeserializeOwned + JsonSchema>(
        name: &'static str,
        about: &'static str,
        version: u32,
    ) -> Kind {
        Kind {
            name,
            about,
            version,
            inputs: &[],
            is_open: false,
            outputs: &[],
            table_parameters: &[],
            location: None,
            names_origins: false,
            is_result: false,
            section: None,
            provenance: None,
            schema: T::json_schema,
            read: |parameters| Ok(Arc::new(parameters.read::<T>()?)),
            restore: |parameters| Ok(Arc::new(T::deserialize(parameters)?)),
        }
    }

    /// Takes the inputs out of a stage's table, by name; what is left are parameters.
    ///
    /// # Errors
    /// Inputs that the user names are no table, or a name is none.
    pub fn take_inputs(&self, table: &mut Table) -> Result<Vec<Entry>, Diagnostic> {
        let taken: Vec<Entry> = self.inputs.iter().filter_map(|(name, _)| table.take(name)).collect();
        if !self.is_open {
            return Ok(taken);
        }
        let Some(inputs) = taken.first() else { return Ok(taken) };
        let Data::Table(table) = &inputs.value.data else {
            let message = format!("`{}` must be a table, not {}", inputs.key, inputs.value.type_name());
            return Err(Diagnostic::at(&inputs.value.span, message)
                .hint("for example `inputs = { script = \"train.py\", data = \"@data.train\" }`"));
        };
        match table.entries().iter().find(|entry| Path::new(&entry.key).file_name() != Some(entry.key.as_ref())) {
            None => Ok(table.entries().to_vec()),
            Some(entry) => {
                let message = format!("`{}` cannot be the name of an input", entry.key);
                Err(Diagnostic::at(&entry.span, message).hint("the command finds it as `inputs/NAME`"))
            }
        }
    }

    /// Whether a node of this kind leaves an output of this name, or may.
    pub fn may_leave(&self, output: &str) -> bool {
        self.is_open || self.outputs.iter().any(|known| known.name == output)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// What a node does: the parameters of its kind, exactly those that it reads.
pub trait Work: Any + fmt::Debug + Parameters + Send + Sync {
    /// Which kind it is.
    fn kind(&self) -> &'static Kind;

    /// The inputs that these parameters ask for.
    ///
    /// # Errors
    /// Parameters that contradict each other or the inputs given.
    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>>;

    /// Where it runs.
    fn place(&self) -> Place<'_>;

    /// What a node leaves.
    fn outputs(&self) -> &[Output] {
        self.kind().outputs
    }

    /// The method of the prompt that it leaves.
    fn method(&self) -> Option<&Method> {
        None
    }

    /// The precision in which it computes, or in which its prompt is to be evaluated, and the keys of the stage's table that say
    /// so. An evaluation of a prompt says nothing itself: it computes as the stage does that the prompt is from.
    fn precision(&self) -> Option<(Precision, &'static str)> {
        None
    }

    /// What it says of the model in its input `weights`.
    fn backbone(&self) -> Option<&BackboneOptions> {
        None
    }

    /// The test images of these classes in the data set that it leaves, about, where that is known before it runs.
    fn test_images(&self, _classes: Classes) -> Option<u64> {
        None
    }

    /// Pixels per side of the images that the weights take which it leaves.
    fn image_size(&self) -> Option<u64> {
        None
    }

    /// The classes that it tells apart.
    fn classes(&self) -> Option<Classes> {
        None
    }

    /// The classes whose test images it decodes, in the data set of its input `dataset`, where it has the inputs that `has`
    /// says.
    fn decodes(&self, _has: &dyn Fn(&str) -> bool) -> Option<Classes> {
        None
    }
}

impl dyn Work {
    /// The parameters, where they are those of `T`'s kind.
    pub fn as_kind<T: Work>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }

    /// Whether it computes with libtorch, in a worker.
    pub fn uses_libtorch(&self) -> bool {
        matches!(self.place(), Place::Worker(_))
    }

    /// Whether it gets a device.
    pub fn needs_device(&self) -> bool {
        match self.place() {
            Place::Worker(_) => true,
            Place::Program(program) => program.needs_device(),
            Place::Here(_) => false,
        }
    }

    /// What a stage that computes with libtorch is held to.
    pub fn numerics(&self) -> Numerics {
        if let Place::Worker(numerics) = self.place() { numerics } else { Numerics::Native }
    }
}

/// Parameters as JSON: what a key holds of them, and what a worker reads.
pub trait Parameters {
    /// The JSON.
    fn parameters(&self) -> serde_json::Value;
}

impl<T: Serialize> Parameters for T {
    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("parameters are plain data")
    }
}

/// Where a node runs.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// In this process.
    Here(&'a dyn Here),
    /// As a program of the user's.
    Program(&'a dyn Program),
    /// On libtorch: in a worker process, on a device, held to these numerics.
    Worker(Numerics),
}

/// Work that needs no process of its own.
pub trait Here {
    /// Does it, and returns a note for the status line.
    ///
    /// # Errors
    /// What went wrong.
    fn run(&self, task: &Task) -> Result<String>;
}

/// The folder in which a program finds its inputs.
pub const INPUTS: &str = "inputs";
/// The file in which a program finds its parameters.
pub const PARAMETERS: &str = "parameters.json";

/// Work that a program of the user's does.
pub trait Program {
    /// The program, after all that it finds in its folder has been laid out. What it prints goes to the files.
    ///
    /// # Errors
    /// What could not be laid out.
    fn process(&self, task: &Task, output: File, errors: File) -> Result<Command>;

    /// Whether it gets a device of the run, as work on libtorch does.
    fn needs_device(&self) -> bool {
        false
    }

    /// Looks at what the program left.
    ///
    /// # Errors
    /// What is not as it was declared.
    fn check(&self, task: &Task) -> Result<()>;
}

/// The inputs that a stage table names, each with what the node does that it refers to, if it refers to one.
#[derive(Debug, Default)]
pub struct Given<'a>(pub Vec<(&'a str, Option<Arc<dyn Work>>)>);

impl Given<'_> {
    /// Whether the table names this input.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// What the node does that this input refers to.
    pub fn work(&self, name: &str) -> Option<&dyn Work> {
        self.0.iter().find(|(known, _)| *known == name)?.1.as_deref()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| *name)
    }
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
    /// An axis that the stage referred to must have, and this one must not: it takes the nodes of all its values.
    pub over: Option<String>,
    /// Also wants to know where the referenced node's images lie.
    pub location: bool,
    /// Inputs that the referenced node must have in common with this one.
    pub common: &'static [&'static str],
    /// What a path in place of a reference means.
    pub path: PathPort,
}

impl Port {
    /// A port that takes one reference to a node, and reads these outputs of it.
    pub fn one(name: &'static str, kind: &'static Kind, outputs: Vec<&'static str>) -> Port {
        Port {
            name: name.into(),
            from: Takes::Outputs(kind, outputs),
            many: false,
            axes: None,
            over: None,
            location: false,
            common: &[],
            path: PathPort::Refused,
        }
    }

    /// A port that takes whatever is named, and does not read it with these parameters.
    pub fn unread(name: &'static str) -> Port {
        Port { from: Takes::Nothing, ..Port::anything(name) }
    }

    /// The referenced node must have these inputs in common with this one.
    pub fn with_common(self, common: &'static [&'static str]) -> Port {
        Port { common, ..self }
    }

    /// It takes the nodes of all values of an axis.
    pub fn over(self, axis: &str) -> Port {
        Port { many: true, over: Some(axis.to_owned()), ..self }
    }

    /// It also wants to know where the referenced node's images lie.
    pub fn with_location(self) -> Port {
        Port { location: true, ..self }
    }

    /// A path in place of a reference means this.
    pub fn or_path(self, path: PathPort) -> Port {
        Port { path, ..self }
    }

    /// A port that takes any file, which a node leaves or which a path names.
    pub fn file(name: &'static str) -> Port {
        Port { from: Takes::File, path: PathPort::File, ..Port::anything(name) }
    }

    /// A port that takes any output, file or folder.
    pub fn anything(name: impl Into<Cow<'static, str>>) -> Port {
        Port {
            name: name.into(),
            from: Takes::Anything,
            many: false,
            axes: None,
            over: None,
            location: false,
            common: &[],
            path: PathPort::Any,
        }
    }
}

/// What a reference may name.
#[derive(Clone, Debug)]
pub enum Takes {
    /// A stage of this kind, of which these outputs are read. One output alone may also be a command's.
    Outputs(&'static Kind, Vec<&'static str>),
    /// A file that any one node leaves.
    File,
    /// With these parameters it is not read, whatever is named.
    Nothing,
    /// An output of any stage: of all matching nodes where it stands in a list, or where that stage has an axis more;
    /// else of one.
    Anything,
}

/// Finds the file that a name stands for, also below the data root; `None` where the name is none.
pub type Names = fn(name: &str, data_root: Option<&Path>) -> Option<Result<PathBuf>>;

/// What a path in place of a reference means for a port.
#[derive(Clone, Debug)]
pub enum PathPort {
    /// A reference is needed.
    Refused,
    /// A file; it is the referenced stage's one output.
    File,
    /// A file, or a name for which this function knows one.
    Named(Names),
    /// A file or a folder.
    Any,
    /// No other file than this one, which nothing in the stage table names.
    Program(PathBuf),
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

/// An output that is a file.
pub const fn file(name: &'static str, path: &'static str) -> Output {
    Output { name: Cow::Borrowed(name), path: Cow::Borrowed(path), kind: ArtifactKind::File }
}

/// An output that is a folder.
pub const fn folder(name: &'static str, path: &'static str) -> Output {
    Output { name: Cow::Borrowed(name), path: Cow::Borrowed(path), kind: ArtifactKind::Folder }
}
