//! Measures learners on models of random weights, as `maple-pipe bench` asks for it.

mod clock;
mod evaluation;
mod fit;
mod names;
mod peak;
mod pictures;
mod random;
mod step;
mod subject;

use std::process::ExitCode;

use maple_pipe::error::Result;
use maple_pipe::measurement::{Answer, Request, What};

use crate::device;
use crate::memory::Peak;
use crate::question::{self, say};
use crate::stages::start_threads;
use subject::Subject;

/// Reads a request from standard input and answers on standard output.
pub fn main() -> ExitCode {
    question::main(measure, Answer::Failed)
}

fn measure(request: Request) -> Result<Answer> {
    let peak = Peak::watch();
    start_threads(request.threads)?;
    let (device, _) = device::open(request.device, request.numerics)?;
    say(&Answer::Ready);
    let subject = Subject::new(&request, device, &peak)?;
    match request.what {
        What::Step if request.keep_on => step::keep_on(&subject),
        What::Fit if request.keep_on => fit::keep_on(&subject),
        What::Evaluation if request.keep_on => evaluation::keep_on(&subject),
        What::Step => Ok(Answer::Step(step::measure(&subject)?)),
        What::Fit => Ok(Answer::Fit(fit::measure(&subject)?)),
        What::Evaluation => Ok(Answer::Evaluation(evaluation::measure(&subject)?)),
    }
}
