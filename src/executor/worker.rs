//! Executes what computes with libtorch: in a worker process, which reads its task and tells how it goes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::environment;
use super::interface::{Done, Executor, Order};
use super::log::{ended, log_file};
use super::process::Processes;
use crate::error::{Error, Result};
use crate::files::write_json;
use crate::kind::Place;
use crate::numerics::Numerics;
use crate::task::{ABOUT, About, Line, OF_RUN, Progress, check_build};

/// Worker processes.
#[derive(Debug)]
pub(super) struct Workers(pub Arc<Processes>);

impl Executor for Workers {
    fn takes(&self, place: &Place<'_>) -> bool {
        matches!(place, Place::Worker(_))
    }

    fn keeps_log(&self) -> bool {
        true
    }

    fn execute(&self, &Order { task, log, .. }: &Order<'_>, progress: &dyn Fn(Progress)) -> Result<Done> {
        let (log_file, error_file) = log_file(log)?;
        let file = task.scratch.with_extension("task.json");
        write_json(&file, task)?;
        let program = worker_program()?;
        let mut command = Command::new(&program);
        environment::choose(&mut command, task.numerics);
        command.arg(OF_RUN).arg(&file).stdout(Stdio::piped()).stderr(error_file);
        let mut process = self.0.start_worker(&mut command)?;
        let mut hello = None;
        let mut end = None;
        for line in BufReader::new(process.child.stdout.take().expect("asked for a pipe")).split(b'\n') {
            let line = line.map_err(Error::io("read from", "a worker"))?;
            let line = String::from_utf8_lossy(&line);
            match serde_json::from_str(&line) {
                Ok(Line::Hello(made_by)) => {
                    let known = check_worker(&program, Some(&made_by.build));
                    if known.is_err() {
                        process.kill();
                        return known.map(|()| unreachable!("it is an error"));
                    }
                    hello = Some(*made_by);
                }
                Ok(Line::Progress(one)) => {
                    // For `logs`; who cannot keep it can still compute.
                    let _ = writeln!(&log_file, "{line}");
                    progress(one);
                }
                Ok(last) => end = Some(last),
                // A library's own words belong in the log.
                Err(_) => drop(writeln!(&log_file, "{line}")),
            }
        }
        let status = process.wait()?;
        match (end, hello) {
            (Some(Line::Done(note, memory)), Some(made_by)) if status.success() => Ok(Done { note, memory, made_by }),
            // Whatever it left, nobody knows what it is.
            (Some(Line::Done(..)), None) => Err(check_worker(&program, None).expect_err("it says of no build")),
            (Some(Line::Failed(message, hint)), _) => Err(Error::Invalid { message, hint, key: None }),
            (Some(Line::Stopped), _) => Err(Error::Interrupted),
            _ => {
                // Nobody else sends this signal as a rule.
                let out_of_memory = status.signal() == Some(9);
                let hint = "if memory ran out, fewer nodes at the same time may help: `--jobs 1`".to_owned();
                let hint = out_of_memory.then_some(hint);
                Err(Error::Invalid { message: ended("its worker", status, log), hint, key: None })
            }
        }
    }
}

/// Refuses a worker of another build.
fn check_worker(program: &Path, build: Option<&str>) -> Result<()> {
    check_build(&program.display().to_string(), build, "maple-pipe")
}

/// What the worker beside this program says of itself, of its libtorch, and of the cards that this can use.
///
/// # Errors
/// It cannot be started, is of another build, or says nothing.
pub fn ask_worker() -> Result<About> {
    let program = worker_program()?;
    let mut command = Command::new(&program);
    environment::choose(&mut command, Numerics::Native);
    let output = command.arg(ABOUT).stdin(Stdio::null()).output().map_err(Error::io("start", &program))?;
    let about: Option<About> = serde_json::from_slice(&output.stdout).ok();
    let errors = String::from_utf8_lossy(&output.stderr);
    if let (None, Some(line)) = (&about, errors.lines().find(|line| !line.trim().is_empty())) {
        return Err(Error::invalid(format!("`{}` does not run: {line}", program.display())));
    }
    check_build(&program.display().to_string(), about.as_ref().map(|about| about.build.as_str()), "maple-pipe")?;
    about.ok_or_else(|| Error::invalid(format!("`{}` says nothing", program.display())))
}

/// The worker is a program of its own beside this one, so that loading libtorch (a quarter of a second) is paid only
/// by nodes that compute.
fn worker_program() -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
    let program = this.with_file_name("maple-pipe-worker");
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::hinted(
            format!("there is no `{}`", program.display()),
            "`maple-pipe-worker` is built with `maple-pipe` and must stay beside it",
        ))
    }
}
