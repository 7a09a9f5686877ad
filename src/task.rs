//! What a run and a worker process say to each other, line by line.
//!
//! The run gives the worker its task as one line of JSON, and later perhaps [`STOP`]. The worker answers with [`Line`]s: first
//! who it is, last how it ended. Both must be of one build, because a task's key means what that build computes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::identity;
use crate::made_by::{Card, MadeBy};

/// What a worker is told on its standard input when it should stop.
pub const STOP: &str = "stop";

/// The argument with which a worker prints its [`About`] and ends.
pub const ABOUT: &str = "--about";

/// A line that a worker prints on its standard output.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Its first word: what it is, and what it computes on.
    Hello(Box<MadeBy>),
    /// Where it is.
    Progress(Progress),
    /// It is done: a note for the status line, and the most memory it used on its device, in bytes, where that is known.
    Done(String, Option<u64>),
    /// It failed: message and hint.
    Failed(String, Option<String>),
    /// It was asked to stop and has kept what it goes on from.
    Stopped,
}

/// How far a training node is; a worker prints it as a JSON line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Progress {
    /// The epoch that ended, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// Mean loss of the epoch.
    pub loss: f64,
    /// The learning rate of its steps.
    pub learning_rate: f64,
    /// Training images per second.
    pub images_per_second: f64,
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
