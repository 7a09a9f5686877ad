//! Runs the stages that need libtorch.

mod attention;
pub(crate) mod eval;
mod events;
mod features;
pub(crate) mod inputs;
pub(crate) mod models;
mod pretrain;
pub(crate) mod prompted;
mod train;
pub(crate) mod unread;

use maple_pipe::error::{Error, Result};
use maple_pipe::kind::Kind;
use maple_pipe::made_by::MadeBy;
use maple_pipe::stages;
use maple_pipe::task::Task;
use tch::Device;

use crate::{Control, device};

/// Runs the tasks of a kind, and returns a note for the status line.
type Run = fn(&Task, Device, Control<'_>) -> Result<String>;

/// The kinds that run here.
static RUNNERS: [(&Kind, Run); 5] = [
    (&stages::pretrain::KIND, pretrain::run),
    (&stages::train::KIND, train::run),
    (&stages::features::KIND, features::run),
    (&stages::eval::KIND, eval::run),
    (&stages::attention::KIND, attention::run),
];

/// Lets go of what a task will not need of what the tasks before it left.
pub fn begin(task: &Task) {
    models::keep_for(task);
}

/// Starts so many threads, once; later tasks of the process have as many.
///
/// # Errors
/// They cannot be started, or there are others already.
pub(crate) fn start_threads(count: usize) -> Result<()> {
    // With more threads libtorch sums in another order, so results would depend on their number. Parallel work is cut into
    // fixed parts instead, which rayon's threads share.
    tch::set_num_threads(1);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    if rayon::current_num_threads() != count {
        threads.map_err(|error| Error::invalid(format!("could not start {count} threads: {error}")))?;
    }
    Ok(())
}

/// Runs a task and returns its note for the status line; `hello` hears what computes, once that is known.
///
/// # Errors
/// What the stage stumbled over, or that it is none of those that run here.
pub fn run(task: &Task, control: Control<'_>, hello: &dyn Fn(MadeBy)) -> Result<String> {
    start_threads(task.threads)?;
    let runner = RUNNERS.iter().find(|(kind, _)| kind.name == task.kind);
    let (_, run) = runner.ok_or_else(|| Error::invalid(format!("`{}` is not for a worker", task.node)))?;
    let (device, made_by) = device::open(task.device, task.numerics)?;
    hello(made_by);
    run(task, device, control)
}
