//! Runs the stages that need libtorch.

mod eval;
mod pretrain;
mod train;

use maple_pipe::data::Loader;
use maple_pipe::error::{Error, Result};
use maple_pipe::made_by::MadeBy;
use maple_pipe::method::Precision;
use maple_pipe::stage::{Stage, Task};
use maple_pipe::tensorboard::EventFile;
use tch::Device;

use crate::clip::{Clip, Weights};
use crate::{Control, device};

/// Runs a task and returns its note for the status line; `hello` hears what computes, once that is known.
///
/// # Errors
/// What the stage stumbled over, or that it is none of those that run here.
pub fn run(task: &Task, control: Control<'_>, hello: &dyn Fn(MadeBy)) -> Result<String> {
    // With more threads libtorch sums in another order, so results would depend on their number. Parallel work is cut into
    // fixed parts instead, which rayon's threads share.
    tch::set_num_threads(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(task.threads)
        .build_global()
        .map_err(|error| Error::invalid(format!("could not start threads: {error}")))?;
    let (device, made_by) = device::open(task.device, task.stage.numerics())?;
    hello(made_by);
    match &task.stage {
        Stage::Pretrain(stage) => pretrain::run(task, stage, device, control),
        Stage::Train(stage) => train::run(task, stage, device, control),
        Stage::Eval(stage) => eval::run(task, stage, device, control),
        _ => Err(Error::invalid(format!("`{}` is not for a worker", task.node))),
    }
}

/// An event file of a task, for the steps from `first` on; where none is wanted, it takes all and keeps nothing.
fn events(task: &Task, first: usize) -> EventFile {
    task.tensorboard.as_ref().map(|folder| folder.begin(first)).unwrap_or_default()
}

/// What to add to a note about images that were left out; they are named in the log.
fn skipped(loader: &Loader) -> String {
    let skipped = loader.skipped();
    skipped.iter().for_each(|(_, message)| eprintln!("warning: left out: {message}"));
    match skipped.len() {
        0 => String::new(),
        1 => ", 1 image skipped".to_owned(),
        count => format!(", {count} images skipped"),
    }
}

/// The CLIP model that a task works with.
fn clip(task: &Task, device: Device, precision: Precision) -> Result<Clip> {
    Clip::from_weights(&Weights::read_clip(&task.one("weights.weights").path)?, device, precision)
}
