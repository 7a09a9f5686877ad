//! Has a worker measure a learner on random weights, in the environment that tasks have.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::environment;
use super::worker::worker_program;
use crate::error::{Error, Result};
use crate::measurement::{Answer, MEASURE, Request};

/// What a worker measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The figures.
    pub answer: Answer,
    /// Seconds from the start of its process until libtorch was loaded and the device ready.
    pub start_seconds: f64,
}

/// Measures in a process of its own, which ends when this one does.
///
/// # Errors
/// It cannot be started, or nothing can be measured there.
pub fn measure(request: &Request) -> Result<Measured> {
    let program = worker_program()?;
    let mut command = Command::new(&program);
    environment::choose(&mut command, request.numerics);
    command.arg(MEASURE).stdin(Stdio::piped()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().map_err(Error::io("start", &program))?;
    // It stays open: its end is the worker's.
    let mut input = child.stdin.take().expect("asked for a pipe");
    let text = serde_json::to_string(request).expect("a request is plain data");
    // One that cannot be told has ended, and is asked below why.
    let _ = writeln!(input, "{text}");
    let (mut start_seconds, mut answer) = (0.0, None);
    for line in BufReader::new(child.stdout.take().expect("asked for a pipe")).lines() {
        match serde_json::from_str(&line.map_err(Error::io("read from", "a worker"))?) {
            Ok(Answer::Ready) => start_seconds = started.elapsed().as_secs_f64(),
            Ok(last) => answer = Some(last),
            // A library's own words.
            Err(_) => {}
        }
    }
    drop(input);
    let status = child.wait().map_err(Error::io("wait for", &program))?;
    match answer {
        Some(Answer::Failed(message, hint)) => Err(Error::Invalid { message, hint, key: None }),
        Some(answer) if status.success() => Ok(Measured { answer, start_seconds }),
        _ => {
            let out_of_memory = status.signal() == Some(9);
            let hint = out_of_memory.then(|| "if memory ran out, measure fewer classes or smaller batches".to_owned());
            Err(Error::Invalid { message: format!("the worker that measured ended with {status}"), hint, key: None })
        }
    }
}
