//! Has a worker look at pictures.

use super::question::{ask, unanswered};
use crate::error::{Error, Result};
use crate::inference::{Answer, INFER, Request};

/// Hears what a worker says of each picture, in a process of its own, which ends when this one does.
///
/// # Errors
/// It cannot be started, or nothing can be computed there.
pub fn infer(request: &Request, mut hear: impl FnMut(Answer)) -> Result<()> {
    let mut end = None;
    let status = ask(INFER, request.numerics, request, |answer| match answer {
        Answer::Done | Answer::Failed(..) => end = Some(answer),
        other => hear(other),
    })?;
    match end {
        Some(Answer::Failed(message, hint)) => Err(Error::Invalid { message, hint, key: None }),
        Some(_) if status.success() => Ok(()),
        _ => Err(unanswered(status, "if memory ran out, ask for fewer classes")),
    }
}
