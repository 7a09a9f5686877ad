//! What a learner does with the features of a sample before any step, or in place of steps.

use maple_pipe::error::Result;
use maple_pipe::measurement::{Answer, FitFigures};

use super::clock;
use super::subject::Subject;
use crate::question::{go_on, say};

/// Measures it.
pub(super) fn measure(subject: &Subject<'_>) -> Result<FitFigures> {
    let times: Vec<f64> = (0..subject.request.runs).map(|_| fit(subject)).collect::<Result<_>>()?;
    Ok(FitFigures {
        seconds: clock::median(times, |seconds| *seconds),
        images: subject.images(),
        model_seconds: subject.model_seconds,
    })
}

/// Seconds of one.
fn fit(subject: &Subject<'_>) -> Result<f64> {
    let sample = subject.sample();
    clock::seconds(subject.device(), || subject.fitted(sample).map(drop))
}

/// Does it until nobody listens.
pub(super) fn keep_on(subject: &Subject<'_>) -> Result<Answer> {
    say(&Answer::Busy);
    loop {
        go_on()?;
        fit(subject)?;
    }
}
