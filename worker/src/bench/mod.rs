//! Measures learners on models of random weights, as `maple-pipe bench` asks for it.

mod clock;
mod evaluation;
mod names;
mod peak;
mod pictures;
mod random;
mod step;

use std::process::ExitCode;
use std::time::Instant;

use maple_pipe::error::{Error, Result};
use maple_pipe::measurement::{Answer, Request, What};
use maple_pipe::task::check_build;
use maple_pipe::terminal;
use tch::Device;

use crate::clip::{Clip, Tokenizer};
use crate::device;
use crate::memory::Peak;
use crate::method::{Inputs, Model};

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
    // As nodes have it.
    tch::set_num_threads(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(request.threads)
        .build_global()
        .map_err(|error| Error::invalid(format!("could not start threads: {error}")))?;
    let (device, _) = device::open(request.device, request.numerics)?;
    say(&Answer::Ready);
    let subject = Subject::new(&request, device, &peak)?;
    match request.what {
        What::Step => Ok(Answer::Step(step::measure(&subject)?)),
        What::Evaluation => Ok(Answer::Evaluation(evaluation::measure(&subject)?)),
    }
}

/// What is measured.
struct Subject<'a> {
    request: &'a Request,
    clip: Clip,
    /// Seconds that the model took from weights in memory to its device.
    model_seconds: f64,
    class_names: Vec<String>,
    peak: &'a Peak,
}

impl Subject<'_> {
    fn new<'a>(request: &'a Request, device: Device, peak: &'a Peak) -> Result<Subject<'a>> {
        let weights = random::weights(&request.architecture);
        let backbone = random::backbone(request)?;
        clock::wait_for(device);
        let clock = Instant::now();
        let clip = Clip::from_weights(&weights, &backbone, device, request.method.precision)?;
        clock::wait_for(device);
        let model_seconds = clock.elapsed().as_secs_f64();
        Ok(Subject { request, clip, model_seconds, class_names: names::of_classes(request.classes), peak })
    }

    /// The learner, bound to the classes.
    fn model(&self) -> Result<Model<'_>> {
        let inputs = Inputs { template: "a photo of a {}.".to_owned() };
        Model::new(&self.clip, &Tokenizer::new(), &self.request.method, &self.class_names, &inputs, 1)
    }

    fn device(&self) -> Device {
        self.clip.device()
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.peak.bytes(self.request.device)
    }
}
