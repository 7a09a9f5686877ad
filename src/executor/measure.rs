//! Has a worker measure a learner on random weights.

use std::process::ExitStatus;
use std::time::Instant;

use super::question::{Question, unanswered};
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
    let started = Instant::now();
    let mut question = Question::ask(MEASURE, request.numerics, request)?;
    let (mut start_seconds, mut last) = (0.0, None);
    while let Some(answer) = question.answer()? {
        match answer {
            Answer::Ready => start_seconds = started.elapsed().as_secs_f64(),
            answer => last = Some(answer),
        }
    }
    match (last, question.end()?) {
        (Some(answer), status) if status.success() => Ok(Measured { answer, start_seconds }),
        (last, status) => Err(not_measured(last, status)),
    }
}

/// A worker that does what others measure, until it is dropped.
#[derive(Debug)]
pub struct Busy(#[expect(dead_code, reason = "it works for as long as it is there")] Question);

/// Has so many workers do what `request` would measure, and comes back when all are at full speed.
///
/// # Errors
/// One cannot be started, or cannot do so.
pub fn keep_busy(count: usize, request: &Request) -> Result<Vec<Busy>> {
    let request = Request { keep_on: true, ..request.clone() };
    let asked: Vec<_> =
        (0..count).map(|_| Question::ask(MEASURE, request.numerics, &request)).collect::<Result<_>>()?;
    asked.into_iter().map(at_full_speed).collect()
}

fn at_full_speed(mut question: Question) -> Result<Busy> {
    let mut last = None;
    while let Some(answer) = question.answer()? {
        match answer {
            Answer::Busy => return Ok(Busy(question)),
            answer => last = Some(answer),
        }
    }
    Err(not_measured(last, question.end()?))
}

fn not_measured(last: Option<Answer>, status: ExitStatus) -> Error {
    match last {
        Some(Answer::Failed(message, hint)) => Error::Invalid { message, hint, key: None },
        _ => unanswered(status, "if memory ran out, measure fewer classes or smaller batches"),
    }
}
