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

use maple_pipe::error::{Error, Result};
use maple_pipe::measurement::{Answer, Request, What};
use maple_pipe::task::check_build;
use maple_pipe::terminal;

use crate::device;
use crate::memory::Peak;
use crate::stages::start_threads;
use subject::Subject;

/// Reads a request from standard input and answers on standard output.
pub fn main() -> ExitCode {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).map_err(Error::io("read", "standard input"));
    std::thread::spawn(|| {
        // Nobody says more. The end of this stream is the end of who asked.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        crate::die();
    });
    match read.and_then(|_| measure(&line)) {
        Ok(answer) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&Answer::Failed(error.to_string(), error.hint().map(Into::into)));
            ExitCode::FAILURE
        }
    }
}

fn say(answer: &Answer) {
    let text = serde_json::to_string(answer).expect("an answer is plain data");
    let _ = terminal::print(&format!("{text}\n"));
}

fn measure(line: &str) -> Result<Answer> {
    let words: serde_json::Value =
        serde_json::from_str(line).map_err(|error| Error::format("standard input", "request", error))?;
    check_build("maple-pipe", words["build"].as_str(), "maple-pipe-worker")?;
    let request: Request =
        serde_json::from_value(words).map_err(|error| Error::format("standard input", "request", error))?;
    let peak = Peak::watch();
    start_threads(request.threads)?;
    let (device, _) = device::open(request.device, request.numerics)?;
    say(&Answer::Ready);
    let subject = Subject::new(&request, device, &peak)?;
    match request.what {
        What::Step => Ok(Answer::Step(step::measure(&subject)?)),
        What::Fit => Ok(Answer::Fit(fit::measure(&subject)?)),
        What::Evaluation => Ok(Answer::Evaluation(evaluation::measure(&subject)?)),
    }
}
