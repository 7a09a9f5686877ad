//! What a learner does with the features of a sample before any step, or in place of steps.

use maple_pipe::error::Result;
use maple_pipe::measurement::FitFigures;

use super::clock;
use super::subject::Subject;

/// Measures it.
pub(super) fn measure(subject: &Subject<'_>) -> Result<FitFigures> {
    let fit = |_| {
        let sample = subject.sample();
        clock::seconds(subject.device(), || subject.fitted(sample).map(drop))
    };
    let times: Vec<f64> = (0..subject.request.runs).map(fit).collect::<Result<_>>()?;
    Ok(FitFigures {
        seconds: clock::median(times, |seconds| *seconds),
        images: subject.images(),
        model_seconds: subject.model_seconds,
    })
}
