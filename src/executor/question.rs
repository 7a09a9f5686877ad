//! A question to a worker, in the environment that tasks have.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::environment;
use super::worker::worker_program;
use crate::error::{Error, Result};
use crate::numerics::Numerics;

/// A worker that was asked something. The process is the question's own, and ends when this one does, or when it is dropped.
#[derive(Debug)]
pub(super) struct Question {
    child: Child,
    /// Its end is the worker's.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Question {
    /// Starts a worker with an argument, and writes a request to it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ask(argument: &str, numerics: Numerics, request: &impl Serialize) -> Result<Question> {
        let program = worker_program()?;
        let mut command = Command::new(&program);
        environment::choose(&mut command, numerics)?;
        command.arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(Error::io("start", &program))?;
        let mut input = child.stdin.take().expect("asked for a pipe");
        let output = BufReader::new(child.stdout.take().expect("asked for a pipe")).lines();
        let text = serde_json::to_string(request).expect("a request is plain data");
        // One that cannot be told has ended, and its status says why.
        let _ = writeln!(input, "{text}");
        Ok(Question { child, input: Some(input), output })
    }

    /// The next answer; none where it says no more.
    ///
    /// # Errors
    /// It cannot be heard.
    pub fn answer<A: DeserializeOwned>(&mut self) -> Result<Option<A>> {
        for line in &mut self.output {
            // What is no answer is a library's own words.
            if let Ok(answer) = serde_json::from_str(&line.map_err(Error::io("read from", "a worker"))?) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Waits until the worker has ended, which has said all.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn end(mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(Error::io("wait for", "a worker"))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A worker that ended without a last answer; `hint` is for one that was killed, as the system does where memory runs out.
pub(super) fn unanswered(status: ExitStatus, hint: &str) -> Error {
    let hint = (status.signal() == Some(9)).then(|| hint.to_owned());
    Error::Invalid { message: format!("the worker that was asked ended with {status}"), hint, key: None }
}
