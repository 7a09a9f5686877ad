//! Has a worker measure a learner on random weights.

use std::time::Instant;

use super::question::{ask, unanswered};
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
    let (mut start_seconds, mut answer) = (0.0, None);
    let status = ask(MEASURE, request.numerics, request, |heard| match heard {
        Answer::Ready => start_seconds = started.elapsed().as_secs_f64(),
        last => answer = Some(last),
    })?;
    match answer {
        Some(Answer::Failed(message, hint)) => Err(Error::Invalid { message, hint, key: None }),
        Some(answer) if status.success() => Ok(Measured { answer, start_seconds }),
        _ => Err(unanswered(status, "if memory ran out, measure fewer classes or smaller batches")),
    }
}
