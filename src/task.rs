//! What a run and a worker process say to each other, line by line.
//!
//! A worker takes a task from a JSON file, and answers with [`Line`]s on its standard output: first who it is, last how it
//! ended. With [`OF_RUN`] its standard input comes from a run, which writes a [`Request`] per line: tasks, one after the other,
//! and the wish to stop. Both must be of one build, because a task's key means what that build computes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::coordinates::Coordinates;
use crate::data::PixelCache;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{csv, read_json, write_json};
use crate::identity;
use crate::made_by::{Card, MadeBy};
use crate::numerics::Numerics;
use crate::store::{Listing, Output};
use crate::tally::Tally;
use crate::tensorboard::EventFolder;

/// The argument that says: a run is at the other end of standard input, its requests come there, and its end is the worker's.
/// With the file of a task in its place, a worker is on its own, as on another machine: it does this task, and stops at SIGTERM
/// or SIGINT.
pub const OF_RUN: &str = "--run";

/// A line, in JSON, that a run writes to the standard input of a worker.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The next task. The worker does it and waits for another one, if this one is done; if it fails, the worker ends, because
    /// nobody knows in which state it is.
    Task {
        /// The file of the [`Task`].
        file: PathBuf,
        /// The node's log, to which the worker's standard error is added.
        log: PathBuf,
    },
    /// The task that the worker is at should keep what it goes on from, and end.
    Stop,
}

/// The argument with which a worker prints its [`About`] and ends.
pub const ABOUT: &str = "--about";

/// Everything a stage needs to run; a worker process reads it from a JSON file.
#[derive(Debug, Deserialize, Serialize)]
pub struct Task {
    /// [`crate::identity::BUILD`] of the run.
    pub build: String,
    /// The node's name, for messages.
    pub node: String,
    /// The kind of the node's stage.
    pub kind: String,
    /// Its parameters, as [`crate::kind::Parameters`] has them.
    pub parameters: Value,
    /// What the node is to leave.
    pub outputs: Vec<Output>,
    /// What libtorch is held to.
    pub numerics: Numerics,
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
    /// The kind of that node.
    pub kind: Option<String>,
    /// That node and its output, as `node:output`.
    pub output: Option<String>,
    /// The digests of a folder's files.
    #[serde(skip)]
    pub listing: Option<Arc<Listing>>,
}

impl Task {
    /// The parameters, read as those of the task's kind.
    ///
    /// # Errors
    /// They are another kind's.
    pub fn parameters<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        T::deserialize(&self.parameters)
            .map_err(|error| Error::invalid(format!("the parameters of `{}` cannot be read: {error}", self.node)))
    }

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
        let output = self.outputs.iter().find(|output| output.name == name);
        self.scratch.join(output.expect("a stage writes what it declares").path.as_ref())
    }

    /// Writes a JSON output.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.output(name);
        write_json(&path, value)
    }

    /// Writes a CSV output with a header.
    pub fn write_csv(&self, name: &str, rows: impl IntoIterator<Item: Serialize>) -> Result<()> {
        let path = self.output(name);
        std::fs::write(&path, csv(rows)).map_err(Error::io("write", &path))
    }
}

/// A line that a worker prints on its standard output.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Its first word: what it is, and what it computes on.
    Hello(Box<MadeBy>),
    /// Where it is.
    Progress(Progress),
    /// It is done: a note for the status line, the most memory it used on its device, in bytes, where that is known, and what
    /// it did with images and texts.
    Done(String, Option<u64>, #[serde(default)] Tally),
    /// It failed: message and hint.
    Failed(String, Option<String>),
    /// It failed, because the memory of its device did not suffice: what libtorch says.
    OutOfMemory(String),
    /// It failed, because its card did: what libtorch says.
    CardFailed(String),
    /// It was asked to stop and has kept what it goes on from.
    Stopped,
}

/// How far a task is; a worker prints it as a JSON line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Progress {
    /// A training, after an epoch.
    Epoch {
        /// The epoch that ended, from 1.
        epoch: usize,
        /// Of how many.
        epochs: usize,
        /// Mean loss of the epoch.
        loss: f64,
        /// The learning rate of its steps.
        learning_rate: f64,
        /// Training images per second.
        images_per_second: f64,
    },
    /// What looks at each image once.
    Images {
        /// Images that are done.
        done: usize,
        /// Of how many.
        of: usize,
        /// Images per second.
        images_per_second: f64,
    },
}

impl Progress {
    /// Epochs or images that are done.
    pub fn done(&self) -> usize {
        match self {
            Progress::Epoch { epoch, .. } => *epoch,
            Progress::Images { done, .. } => *done,
        }
    }

    /// All that is known, one thing each: `epoch 3/12`, `loss 0.7481`, ...
    pub fn words(&self) -> Vec<String> {
        match self {
            Progress::Epoch { epoch, epochs, loss, learning_rate, images_per_second } => vec![
                format!("epoch {epoch}/{epochs}"),
                format!("loss {loss:.4}"),
                format!("learning rate {learning_rate:.2e}"),
                format!("{images_per_second:.0} images/s"),
            ],
            Progress::Images { done, of, images_per_second } => {
                vec![format!("{done}/{of} images"), format!("{images_per_second:.0} images/s")]
            }
        }
    }

    /// The progress that a line of a worker's tells, if it does.
    pub fn of_line(line: &str) -> Option<Progress> {
        match serde_json::from_str(line) {
            Ok(Line::Progress(progress)) => Some(progress),
            _ => None,
        }
    }

    /// All epochs or images.
    pub fn of(&self) -> usize {
        match self {
            Progress::Epoch { epochs, .. } => *epochs,
            Progress::Images { of, .. } => *of,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words().join(", "))
    }
}

/// Refuses a program of another build, or one that does not say of which it is.
///
/// # Errors
/// Names both builds.
pub fn check_build(other: &str, build: Option<&str>, this: &str) -> Result<()> {
    if build == Some(identity::BUILD) {
        return Ok(());
    }
    let what = build.map_or("says of no build".to_owned(), |build| format!("is of build `{}`", build));
    Err(Error::hinted(
        format!("`{other}` {what}, and `{this}` is of build `{}`", identity::BUILD),
        "build both programs together: `cargo build --release`",
    ))
}

/// What a worker says of itself and of its libtorch when it is asked, without a task.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
    /// [`crate::identity::BUILD`] of the worker.
    pub build: String,
    /// The version of the libtorch that was loaded.
    pub libtorch: String,
    /// The file of it.
    pub path: Option<String>,
    /// The instructions that libtorch uses on this processor, e.g. `AVX512`.
    pub instructions: String,
    /// The cards that libtorch can use, in CUDA's order, so that the first is `cuda:0`; or why it can use none.
    pub cuda: std::result::Result<Vec<CudaCard>, CudaProblem>,
}

/// A card that libtorch can use.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CudaCard {
    /// Which one.
    #[serde(flatten)]
    pub card: Card,
    /// Bytes of memory.
    pub memory_total: u64,
}

/// Why libtorch cannot use a card.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CudaProblem {
    /// Its part for CUDA cannot be loaded.
    #[error("libtorch's part for CUDA cannot be loaded: {0}")]
    Library(String),
    /// There is no driver.
    #[error("there is no NVIDIA driver: {0}")]
    NoDriver(String),
    /// The driver refuses.
    #[error("the NVIDIA driver does not work: {0}")]
    Driver(String),
    /// The driver works and lists no card.
    #[error("the NVIDIA driver finds no card")]
    NoCard,
    /// The driver lists cards, and libtorch uses none of them.
    #[error("the NVIDIA driver is of CUDA {driver}, and libtorch finds no card through it")]
    Unusable {
        /// The version of CUDA that the driver is for.
        driver: String,
    },
}

impl CudaProblem {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            CudaProblem::Library(_) => {
                "`CUDA=1 make libtorch` installs what it lacks; with a libtorch of your own, install one for CUDA"
            }
            CudaProblem::NoDriver(_) => {
                "install NVIDIA's driver; start a container with `--gpus all` and NVIDIA's container toolkit"
            }
            CudaProblem::Driver(_) => "look at what `nvidia-smi` says; a new driver works after a reboot",
            CudaProblem::NoCard => "look at `CUDA_VISIBLE_DEVICES` and at what `nvidia-smi` lists",
            CudaProblem::Unusable { .. } => {
                "install a driver that is as new as libtorch's CUDA asks for (CUDA 13: 580)"
            }
        }
    }
}
