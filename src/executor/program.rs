//! Executes programs of the user's.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::interface::{Done, Executor, Order};
use super::log::{ended, log_file};
use super::process::Processes;
use crate::error::{Error, Result};
use crate::files::{is_new_folder, open_folders};
use crate::kind::Place;
use crate::task::Progress;

/// Processes of programs; what they print goes to the log.
#[derive(Debug)]
pub(super) struct Programs(pub Arc<Processes>);

impl Executor for Programs {
    fn takes(&self, place: &Place<'_>) -> bool {
        matches!(place, Place::Program(_))
    }

    fn keeps_log(&self) -> bool {
        true
    }

    fn execute(&self, &Order { place, task, log }: &Order<'_>, _progress: &dyn Fn(Progress)) -> Result<Done> {
        let Place::Program(program) = place else { unreachable!("it takes nothing else") };
        let (output, errors) = log_file(log)?;
        // One that an earlier program found empty and left so: to make a folder takes much longer than to move it.
        let spare = task.scratch.with_extension("partial");
        let _ = std::fs::rename(&spare, &task.partial);
        let mut command = program.process(task, output, errors)?;
        let process = self.0.start_program(&mut command);
        let status = process.map_err(|error| not_started(&command, error))?.wait()?;
        // Nothing could be moved out of read-only folders, nor could they be removed.
        let _ = open_folders(&task.scratch);
        // What a failed attempt did not use is nothing to go on from.
        let is_new = task.scratch.parent().is_some_and(|like| is_new_folder(&task.partial, like));
        if !is_new || !self.0.left_nothing() || std::fs::rename(&task.partial, &spare).is_err() {
            let _ = std::fs::remove_dir(&task.partial);
        }
        if !status.success() {
            let message = ended("its command", status, log);
            return Err(match status.signal() {
                Some(_) => Error::Killed { message, hint: None },
                None => Error::invalid(message),
            });
        }
        program.check(task)?;
        Ok(Done::here(String::new()))
    }
}

fn not_started(command: &Command, error: std::io::Error) -> Error {
    let (program, folder) = (command.get_program().to_string_lossy(), command.get_current_dir());
    let is_there = program.contains('/') && folder.unwrap_or(Path::new("")).join(&*program).exists();
    match error.kind() {
        ErrorKind::NotFound if is_there => Error::hinted(
            format!("the program `{program}` is there, but not what it is started with"),
            "that is the interpreter which its first line names, or the loader of the system that it was built for",
        ),
        ErrorKind::NotFound => Error::hinted(
            format!("there is no program `{program}`"),
            "it is looked for in PATH; one that is an input of the node is `inputs/NAME`",
        ),
        ErrorKind::PermissionDenied => Error::hinted(
            format!("the program `{program}` may not be executed"),
            "a stage's output keeps that right in a folder alone: leave `tools/` in place of `tools/run`; or name what \
             runs it, e.g. `run = [\"sh\", \"inputs/tool\"]`",
        ),
        _ => Error::io("start", &*program)(error),
    }
}
