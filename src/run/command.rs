//! Runs the program of a `command` node.

use std::io::ErrorKind;
use std::path::Path;

use super::job::{ended, log_file};
use super::process::Processes;
use crate::error::{Error, Result};
use crate::stage::{CommandStage, Task};

/// Runs the program; what it prints goes to the log.
pub(super) fn run_command(stage: &CommandStage, task: &Task, log: &Path, processes: &Processes) -> Result<()> {
    let (output, errors) = log_file(log)?;
    let mut command = stage.process(task)?;
    command.stdout(output).stderr(errors);
    let process = processes.start_program(&mut command);
    let status = process.map_err(|error| not_started(&command.get_program().to_string_lossy(), error))?.wait()?;
    // What a failed attempt did not use is nothing to go on from.
    let _ = std::fs::remove_dir(&task.partial);
    if status.success() { stage.check(task) } else { Err(Error::invalid(ended("its command", status, log))) }
}

fn not_started(program: &str, error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::hinted(
            format!("there is no program `{program}`"),
            "it is looked for in PATH; one that is an input of the node is `inputs/NAME`",
        )
    } else {
        Error::io("start", program)(error)
    }
}
