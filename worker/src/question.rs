//! One question of somebody who is no run: a request on standard input, and answers on standard output, one per line.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use maple_pipe::error::{Error, Result};
use maple_pipe::task::check_build;
use maple_pipe::terminal;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long the work may go on for nobody. What a card has begun should end before the process does: NVIDIA's service that lets
/// kernels of several processes run side by side does not bear less.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads a request, does the work that it asks for, and says the last answer; `failed` makes one of a message and a hint. When
/// standard input ends, the work is asked to stop, and the process ends soon.
pub fn main<R: DeserializeOwned, A: Serialize>(
    work: impl FnOnce(R) -> Result<A>,
    failed: impl FnOnce(String, Option<String>) -> A,
) -> ExitCode {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).map_err(Error::io("read", "standard input"));
    std::thread::spawn(|| {
        // Nobody says more. The end of this stream is the end of who asked.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        crate::STOPPING.store(true, Ordering::Relaxed);
        std::thread::sleep(PATIENCE);
        crate::die();
    });
    match read.and_then(|_| request(&line)).and_then(work) {
        Ok(answer) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&failed(error.to_string(), error.hint().map(Into::into)));
            ExitCode::FAILURE
        }
    }
}

/// Says an answer; if nobody hears it, the end of standard input says so, too.
pub fn say(answer: &impl Serialize) {
    let text = serde_json::to_string(answer).expect("an answer is plain data");
    let _ = terminal::print(&format!("{text}\n"));
}

/// Goes on unless nobody waits for an answer any more.
///
/// # Errors
/// Nobody does.
pub fn go_on() -> Result<()> {
    if crate::STOPPING.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The request in a line, if it is of this build.
fn request<R: DeserializeOwned>(line: &str) -> Result<R> {
    let wrong = |error| Error::format("standard input", "request", error);
    let words: serde_json::Value = serde_json::from_str(line).map_err(wrong)?;
    check_build("maple-pipe", words["build"].as_str(), "maple-pipe-worker")?;
    serde_json::from_value(words).map_err(wrong)
}
