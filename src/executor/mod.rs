//! Where tasks are executed. Each executor is one file: in this process, as a program of the user's, in a worker. The list of
//! them is [`Executors`]. A [`Queue`] takes jobs that execute tasks elsewhere.

mod environment;
mod here;
mod infer;
mod interface;
mod libtorch;
mod log;
mod measure;
pub mod mps;
mod process;
mod program;
mod question;
mod queue;
mod settings;
mod slurm;
mod worker;

use std::sync::Arc;

pub use infer::infer;
pub use interface::{Done, Executor, Order};
pub use log::tail;
pub use measure::{Measured, keep_busy, measure};
pub use process::reap;
pub use queue::{Ending, Jobs, Need, Packing, Queue, Seen, Standing};
pub use settings::{ExecutorName, ExecutorSettings};
pub use slurm::SlurmHere;
pub use worker::ask_worker;

use crate::error::{Error, Result};
use process::Processes;

/// Every executor.
#[derive(Debug)]
pub struct Executors {
    all: [Box<dyn Executor>; 3],
    processes: Arc<Processes>,
}

impl Default for Executors {
    /// The executors of one run.
    fn default() -> Executors {
        let processes = Arc::<Processes>::default();
        let all: [Box<dyn Executor>; 3] = [
            Box::new(here::Here),
            Box::new(program::Programs(processes.clone())),
            Box::new(worker::Workers::new(processes.clone())),
        ];
        Executors { all, processes }
    }
}

impl Executors {
    /// The executor of a task.
    ///
    /// # Errors
    /// None takes it.
    pub fn of(&self, order: &Order<'_>) -> Result<&dyn Executor> {
        let executor = self.all.iter().find(|one| one.takes(&order.place));
        let executor = executor.ok_or_else(|| Error::invalid(format!("nothing executes `{}`", order.task.node)))?;
        Ok(executor.as_ref())
    }

    /// Asks whatever is executed in processes to stop, also what is started later.
    pub fn stop(&self) {
        self.processes.stop();
    }

    /// Whether nothing runs on that a process which has ended left behind.
    pub fn left_nothing(&self) -> bool {
        self.processes.left_nothing()
    }

    /// Whether [`Executors::stop`] was called.
    pub fn are_stopping(&self) -> bool {
        self.processes.are_stopping()
    }

    /// Ends at once whatever is executed in processes.
    pub fn kill(&self) {
        self.processes.kill();
    }
}
