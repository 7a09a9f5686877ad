//! Event files for TensorBoard.

use maple_pipe::task::Task;
use maple_pipe::tensorboard::EventFile;

/// An event file of a task, for the steps from `first` on; where none is wanted, it takes all and keeps nothing.
pub(super) fn events(task: &Task, first: usize) -> EventFile {
    task.tensorboard.as_ref().map(|folder| folder.begin(first)).unwrap_or_default()
}
