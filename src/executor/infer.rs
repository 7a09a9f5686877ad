//! Has a worker look at pictures.

use super::question::{Question, unanswered};
use crate::error::{Error, Result};
use crate::inference::{Answer, INFER, Request};

/// Hears what a worker says of each picture, in a process of its own, which ends when this one does.
///
/// # Errors
/// It cannot be started, or nothing can be computed there.
pub fn infer(request: &Request, mut hear: impl FnMut(Answer)) -> Result<()> {
    let mut question = Question::ask(INFER, request.numerics, request)?;
    let mut end = None;
    while let Some(answer) = question.answer()? {
        match answer {
            Answer::Done | Answer::Failed(..) => end = Some(answer),
            other => hear(other),
        }
    }
    let status = question.end()?;
    match end {
        Some(Answer::Failed(message, hint)) => Err(Error::Invalid { message, hint, key: None }),
        Some(_) if status.success() => Ok(()),
        _ => Err(unanswered(status, "if memory ran out, ask for fewer classes")),
    }
}
