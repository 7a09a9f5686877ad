//! Asks a worker one question, in the environment that tasks have.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::environment;
use super::worker::worker_program;
use crate::error::{Error, Result};
use crate::numerics::Numerics;

/// Starts a worker with an argument, writes a request to it, and hears its answers, one per line. The process is the question's
/// own, and ends when this one does.
///
/// # Errors
/// It cannot be started or heard.
pub(super) fn ask<A: DeserializeOwned>(
    argument: &str,
    numerics: Numerics,
    request: &impl Serialize,
    mut hear: impl FnMut(A),
) -> Result<ExitStatus> {
    let program = worker_program()?;
    let mut command = Command::new(&program);
    environment::choose(&mut command, numerics)?;
    command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io("start", &program))?;
    // It stays open: its end is the worker's.
    let mut input = child.stdin.take().expect("asked for a pipe");
    let text = serde_json::to_string(request).expect("a request is plain data");
    // One that cannot be told has ended, and its status says why.
    let _ = writeln!(input, "{text}");
    for line in BufReader::new(child.stdout.take().expect("asked for a pipe")).lines() {
        // What is no answer is a library's own words.
        if let Ok(answer) = serde_json::from_str(&line.map_err(Error::io("read from", "a worker"))?) {
            hear(answer);
        }
    }
    drop(input);
    child.wait().map_err(Error::io("wait for", &program))
}

/// A worker that ended without a last answer; `hint` is for one that was killed, as the system does where memory runs out.
pub(super) fn unanswered(status: ExitStatus, hint: &str) -> Error {
    let hint = (status.signal() == Some(9)).then(|| hint.to_owned());
    Error::Invalid { message: format!("the worker that was asked ended with {status}"), hint, key: None }
}
