//! What an executor is.

use std::fmt::Debug;
use std::path::Path;

use crate::error::Result;
use crate::kind::Place;
use crate::made_by::MadeBy;
use crate::tally::Tally;
use crate::task::{Progress, Task};

/// Executes tasks of some kinds. The next ones, such as one that hands tasks to a cluster, are files beside its own.
pub trait Executor: Debug + Send + Sync {
    /// Whether what runs in this place is its business.
    fn takes(&self, place: &Place<'_>) -> bool;

    /// Whether it keeps a log of what the task prints.
    fn keeps_log(&self) -> bool;

    /// Executes a task and comes back when the task has ended.
    ///
    /// # Errors
    /// What went wrong; [`crate::error::Error::Interrupted`] where the task was asked to stop and has.
    fn execute(&self, order: &Order<'_>, progress: &dyn Fn(Progress)) -> Result<Done>;
}

/// What an executor is to do.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The work, and where it runs.
    pub place: Place<'a>,
    /// What the work needs.
    pub task: &'a Task,
    /// Where the log goes.
    pub log: &'a Path,
}

/// What is known of a task that is done.
#[derive(Debug)]
pub struct Done {
    /// For the status line.
    pub note: String,
    /// The most memory that it used on its device, in bytes, where that is known.
    pub memory: Option<u64>,
    /// What computed it.
    pub made_by: MadeBy,
    /// What another process did for it with images and texts.
    pub tally: Tally,
}

impl Done {
    /// Done by this very program.
    pub fn here(note: String) -> Done {
        Done { note, memory: None, made_by: MadeBy::here(), tally: Tally::default() }
    }
}
