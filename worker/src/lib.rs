//! CLIP and its learners on libtorch, and the process that runs a node with them.
//!
//! The worker process: reads a task from a file, computes with libtorch, tells its progress on standard output. Started by a
//! run, it takes tasks from its standard input until one is not done or none comes for a while; it keeps its state and ends when
//! it is asked to stop, and ends at once when its standard input does, so that it never outlives the run. Started by anybody
//! else, such as a cluster's scheduler, it does one task, and keeps its state and ends at SIGTERM, SIGINT or SIGHUP.

// The modules stand in the order of their layers, as in `maple_pipe`.
mod context;
mod control;
mod counting;
mod cuda;
mod driver;
mod fused;
mod memory;
mod rows;

pub mod device;

pub mod clip;

pub mod method;

mod stages;

mod question;

mod bench;
mod inference;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use control::Control;
use maple_pipe::error::{Error, Result};
use maple_pipe::files::read_json;
use maple_pipe::identity;
use maple_pipe::inference::INFER;
use maple_pipe::measurement::MEASURE;
use maple_pipe::signals;
use maple_pipe::tally::Tally;
use maple_pipe::task::{ABOUT, Line, OF_RUN, Request, Task, check_build};
use maple_pipe::terminal;

/// Set when the run asks to stop.
static STOPPING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// How long a worker waits for its next task. Where there is one, the run hands it over at once; memory should not lie idle for
/// longer than it takes to start another worker a few times.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does the tasks of a run, or the one in a file; the exit code is 0 where all were done. With `--about` it prints what it is and which cards libtorch
/// can use, as JSON; with `--count-cards`, how many.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [ABOUT] => answer(&serde_json::to_string(&device::about()).expect("plain data")),
        ["--count-cards"] => answer(&device::cards().map_or(0, |cards| cards.len()).to_string()),
        [MEASURE] => bench::main(),
        [INFER] => inference::main(),
        [OF_RUN] => serve(),
        [file] if !file.starts_with('-') => {
            for signal in signals::of_the_end() {
                signal_hook::flag::register(signal, STOPPING.clone()).expect("these signals may be handled");
            }
            end(&work(Path::new(file), &memory::Peak::watch()))
        }
        _ => {
            terminal::say(&format!(
                "{}: this program is started by `maple-pipe run`, which names the file of a task",
                terminal::error_word()
            ));
            ExitCode::from(2)
        }
    }
}

/// Prints a line for whoever asks.
fn answer(line: &str) -> ExitCode {
    match terminal::print(&format!("{line}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&format!("{}: {error}", terminal::error_word()));
            ExitCode::FAILURE
        }
    }
}

/// Does the tasks that a run hands over, one after the other. Only a worker that has done its task is as good as a new one, so
/// it ends with the first one that it has not.
fn serve() -> ExitCode {
    let (sender, tasks) = mpsc::channel();
    std::thread::spawn(move || listen(&sender));
    let peak = memory::Peak::watch();
    let mut next = tasks.recv().ok();
    while let Some((file, log)) = next {
        write_errors_to(&log);
        let line = work(&file, &peak);
        if !matches!(line, Line::Done(..)) {
            return end(&line);
        }
        say(&line);
        next = tasks.recv_timeout(PATIENCE).ok();
    }
    ExitCode::SUCCESS
}

/// Does what the run says.
fn listen(tasks: &Sender<(PathBuf, PathBuf)>) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Request::Task { file, log }) => drop(tasks.send((file, log))),
            Ok(Request::Stop) => STOPPING.store(true, Ordering::Relaxed),
            Err(error) => terminal::warn(&format!("the run asks for something unknown: {error}")),
        }
    }
    // The end of this stream is the end of the run.
    die();
}

/// From now on, standard error is added to this file. Where that is not possible, it goes where it went.
fn write_errors_to(log: &Path) {
    let Ok(log) = File::options().append(true).open(log) else { return };
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: both numbers are those of open files.
    unsafe {
        libc::dup2(log.as_raw_fd(), libc::STDERR_FILENO);
    }
}

/// Runs the task in a file; returns the last line about it.
fn work(file: &Path, peak: &memory::Peak) -> Line {
    let worked = catch_unwind(AssertUnwindSafe(|| attempt(file, peak)));
    match worked {
        Ok(Ok((note, memory, tally))) => Line::Done(note, memory, tally),
        Ok(Err(Error::Interrupted)) => Line::Stopped,
        Ok(Err(error)) => match (fault_of_the_device(&error.to_string()), error.hint()) {
            // Who says what to do about a card knows more of it.
            (None, hint) | (Some(Line::CardFailed(_)), hint @ Some(_)) => {
                Line::Failed(error.to_string(), hint.map(Into::into))
            }
            (Some(fault), _) => fault,
        },
        // tch panics with what libtorch says.
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            fault_of_the_device(text).unwrap_or_else(|| resume_unwind(panic))
        }
    }
}

/// The line about a failure, if it is one for want of memory, or one of a card.
fn fault_of_the_device(text: &str) -> Option<Line> {
    /// What libtorch, CUDA and cuBLAS call a lack of memory.
    const OUT_OF_MEMORY: [&str; 4] =
        ["CUDA out of memory", "CUDA error: out of memory", "ALLOC_FAILED", "can't allocate memory"];
    /// What begins the message of any other failure of a card.
    const CARD_FAILED: [&str; 2] = ["CUDA error", "CUDA driver error"];
    let message = |words: &[&str]| {
        let start = words.iter().filter_map(|words| text.find(words)).min()?;
        // Behind it stands where in its code libtorch was; a panic quotes it.
        Some(text[start..].split(['\n', '\\', '"']).next()?.to_owned())
    };
    message(&OUT_OF_MEMORY).map(Line::OutOfMemory).or_else(|| message(&CARD_FAILED).map(Line::CardFailed))
}

/// Does the task in a file; returns its note, how much memory it needed, and what it did with images and texts.
fn attempt(file: &Path, peak: &memory::Peak) -> Result<(String, Option<u64>, Tally)> {
    let before = Tally::so_far();
    accept(file).and_then(|task| {
        stages::begin(&task);
        memory::give_back(task.device);
        peak.begin(task.device);
        std::fs::create_dir_all(&task.scratch).map_err(Error::io("create", &task.scratch))?;
        let progress = |progress| say(&Line::Progress(progress));
        let control = Control::new(&progress, &|| STOPPING.load(Ordering::Relaxed));
        let note = stages::run(&task, control, &|made_by| say(&Line::Hello(Box::new(made_by))))?;
        let memory = peak.bytes(task.device);
        memory::give_back(task.device);
        Ok((note, memory, Tally::so_far() - before))
    })
}

/// Ends with the last line about a task.
fn end(line: &Line) -> ExitCode {
    say(line);
    if let Line::Failed(..) | Line::OutOfMemory(_) | Line::CardFailed(_) = line {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The task, if it is one for this build and for the libtorch that is loaded.
fn accept(file: &Path) -> Result<Task> {
    let words: serde_json::Value = read_json(file)?;
    check_build("maple-pipe", words["build"].as_str(), "maple-pipe-worker")?;
    let loaded = context::libtorch_version();
    if loaded != identity::LIBTORCH {
        let path = context::libtorch_path().map_or_else(String::new, |path| format!(" from `{path}`"));
        return Err(Error::hinted(
            format!("libtorch {loaded} is loaded{path}, and this build is for libtorch {}", identity::LIBTORCH),
            "unset `LD_LIBRARY_PATH`, or build again with `LIBTORCH` naming the libtorch that you want",
        ));
    }
    serde_json::from_value(words).map_err(|error| Error::format(file, "task", error))
}

/// Prints a line for the run; if the run is gone there is nobody to tell.
fn say(line: &Line) {
    let text = serde_json::to_string(line).expect("a line is plain data");
    let _ = terminal::print(&format!("{text}\n"));
}

/// Ends the process at once. libtorch may be at work in the main thread, so nothing of what it has built is taken down.
fn die() -> ! {
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: the function takes a number and does not return.
    unsafe {
        libc::_exit(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_devices_are_told_from_others() {
        let of = |text: &str| match fault_of_the_device(text) {
            Some(Line::OutOfMemory(message)) => format!("memory: {message}"),
            Some(Line::CardFailed(message)) => format!("card: {message}"),
            _ => "neither".to_owned(),
        };
        let panic = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA error: an illegal memory access was \
            encountered\\nSearch for `cudaErrorIllegalAddress'\")";
        assert_eq!(of(panic), "card: CUDA error: an illegal memory access was encountered");
        assert_eq!(of("CUDA error: out of memory\nCUDA kernel errors"), "memory: CUDA error: out of memory");
        let blas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`";
        assert_eq!(of(blas), "memory: ALLOC_FAILED when calling `cublasCreate(handle)`");
        assert_eq!(of("the loss is not finite"), "neither");
    }
}
