//! Runs the program of a `command` node.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use super::job::{ended, log_file};
use crate::error::{Error, Result};
use crate::stage::{CommandStage, Task};

/// Runs the program; what it prints goes to the log.
pub(super) fn run_command(stage: &CommandStage, task: &Task, log: &Path) -> Result<()> {
    let (output, errors) = log_file(log)?;
    let mut process = stage.process(task)?;
    let mut child = process
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| not_started(&process.get_program().to_string_lossy(), error))?;
    let status = child.wait().map_err(Error::io("wait for", process.get_program()))?;
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
