//! Executes what computes with libtorch: in worker processes, which take tasks and tell how they go.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::environment;
use super::interface::{Done, Executor, Order};
use super::log::{ended, log_file};
use super::process::{Process, Processes};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::write_json;
use crate::kind::Place;
use crate::made_by::MadeBy;
use crate::numerics::Numerics;
use crate::task::{ABOUT, About, Line, OF_RUN, Progress, Request, Task, check_build};

/// Worker processes. Starting one takes longer than many a node, so one that has done its task waits for the next node that
/// wants the same of it. One that has failed is never used again.
#[derive(Debug)]
pub(super) struct Workers {
    processes: Arc<Processes>,
    /// Those that wait, the one that waits longest first.
    idle: Mutex<Vec<Worker>>,
}

/// A worker process.
#[derive(Debug)]
struct Worker {
    nature: Nature,
    process: Process,
    output: BufReader<ChildStdout>,
}

/// What a worker has from its first task on, and cannot change: tasks that agree in it may share a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Nature {
    /// A process that has used a card holds memory there.
    device: Device,
    /// libtorch's libraries read their environment once.
    numerics: Numerics,
    threads: usize,
}

/// What a worker said of a task.
#[derive(Default)]
struct Answer {
    hello: Option<MadeBy>,
    end: Option<Line>,
}

impl Executor for Workers {
    fn takes(&self, place: &Place<'_>) -> bool {
        matches!(place, Place::Worker(_))
    }

    fn keeps_log(&self) -> bool {
        true
    }

    fn execute(&self, &Order { task, log, .. }: &Order<'_>, progress: &dyn Fn(Progress)) -> Result<Done> {
        let (log_file, error_file) = log_file(log)?;
        let file = task.scratch.with_extension("task.json");
        write_json(&file, task)?;
        let program = worker_program()?;
        let request = Request::Task { file, log: log.to_owned() };
        while let Some(worker) = self.take(Nature::of(task)) {
            if worker.process.request(&request).is_err() {
                worker.process.kill();
                continue;
            }
            match worker.answer(&program, &log_file, progress)? {
                // It ended while it waited, so it has not begun.
                (worker, Answer { hello: None, end: None }) => worker.process.kill(),
                (worker, answer) => return self.conclude(worker, answer, &program, log),
            }
        }
        let worker = Worker::start(&self.processes, &program, Nature::of(task), error_file)?;
        // One that has ended already says so in its answer.
        let _ = worker.process.request(&request);
        let (worker, answer) = worker.answer(&program, &log_file, progress)?;
        self.conclude(worker, answer, &program, log)
    }
}

impl Workers {
    /// None is started yet.
    pub fn new(processes: Arc<Processes>) -> Workers {
        Workers { processes, idle: Mutex::default() }
    }

    /// An idle worker of this nature. Where there is none, another one on the device ends, so that there are never more workers
    /// on a device than there were nodes at the same time.
    fn take(&self, nature: Nature) -> Option<Worker> {
        let mut idle = self.lock();
        if let Some(place) = idle.iter().rposition(|worker| worker.nature == nature) {
            return Some(idle.remove(place));
        }
        let other =
            idle.iter().position(|worker| worker.nature.device == nature.device).map(|place| idle.remove(place));
        drop(idle);
        if let Some(other) = other {
            other.process.kill();
        }
        None
    }

    /// What came of a task. A worker that has done it becomes idle.
    fn conclude(&self, worker: Worker, Answer { hello, end }: Answer, program: &Path, log: &Path) -> Result<Done> {
        match (end, hello) {
            (Some(Line::Done(note, memory, tally)), Some(made_by)) => {
                self.lock().push(worker);
                Ok(Done { note, memory, made_by, tally })
            }
            // Whatever it left, nobody knows what it is.
            (Some(Line::Done(..)), None) => {
                worker.process.kill();
                Err(check_worker(program, None).expect_err("it says of no build"))
            }
            (Some(Line::Failed(message, hint)), _) => {
                worker.process.wait()?;
                Err(Error::Invalid { message, hint, key: None })
            }
            (Some(Line::OutOfMemory(message)), _) => {
                worker.process.wait()?;
                Err(Error::OutOfMemory(message))
            }
            (Some(Line::CardFailed(message)), _) => {
                worker.process.wait()?;
                Err(Error::CardFailed(message))
            }
            (Some(Line::Stopped), _) => {
                worker.process.wait()?;
                Err(Error::Interrupted)
            }
            _ => Err(broken_off(worker.process.wait()?, log)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut *self.lock());
        Process::kill_all(idle.into_iter().map(|worker| worker.process).collect());
    }
}

impl Nature {
    fn of(task: &Task) -> Nature {
        Nature { device: task.device, numerics: task.numerics, threads: task.threads }
    }
}

impl Worker {
    /// Starts a worker, whose first words on standard error go to this log.
    fn start(processes: &Arc<Processes>, program: &Path, nature: Nature, errors: File) -> Result<Worker> {
        let mut command = Command::new(program);
        environment::choose(&mut command, nature.numerics)?;
        command.arg(OF_RUN).stdout(Stdio::piped()).stderr(errors);
        let mut process = processes.start_worker(&mut command)?;
        let output = BufReader::new(process.child.stdout.take().expect("asked for a pipe"));
        Ok(Worker { nature, process, output })
    }

    /// Listens until the task is done, or the worker has ended. One of another build is killed.
    fn answer(mut self, program: &Path, mut log: &File, progress: &dyn Fn(Progress)) -> Result<(Worker, Answer)> {
        let mut answer = Answer::default();
        let mut line = Vec::new();
        while !matches!(answer.end, Some(Line::Done(..))) {
            line.clear();
            if self.output.read_until(b'\n', &mut line).map_err(Error::io("read from", "a worker"))? == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\n');
            match serde_json::from_str(line) {
                Ok(Line::Hello(made_by)) => {
                    if let Err(error) = check_worker(program, Some(&made_by.build)) {
                        self.process.kill();
                        return Err(error);
                    }
                    answer.hello = Some(*made_by);
                }
                Ok(Line::Progress(one)) => {
                    // For `logs`; who cannot keep it can still compute.
                    let _ = writeln!(log, "{line}");
                    progress(one);
                }
                Ok(last) => answer.end = Some(last),
                // A library's own words belong in the log.
                Err(_) => drop(writeln!(log, "{line}")),
            }
        }
        Ok((self, answer))
    }
}

/// A worker that ended without a word about its task.
fn broken_off(status: ExitStatus, log: &Path) -> Error {
    let hint = match status.signal() {
        // Nobody else sends this signal as a rule.
        Some(9) => Some("if memory ran out, fewer nodes at the same time may help: `--jobs 1`"),
        Some(7) => Some("a file that it read became shorter, or its disk failed: run it again"),
        _ => None,
    };
    let (message, hint) = (ended("its worker", status, log), hint.map(str::to_owned));
    match status.signal() {
        Some(_) => Error::Killed { message, hint },
        None => Error::Invalid { message, hint, key: None },
    }
}

/// Refuses a worker of another build.
fn check_worker(program: &Path, build: Option<&str>) -> Result<()> {
    check_build(&program.display().to_string(), build, "maple-pipe")
}

/// What the worker beside this program says of itself, of its libtorch, and of the cards that this can use.
///
/// # Errors
/// It cannot be started, is of another build, or says nothing.
pub fn ask_worker() -> Result<About> {
    let program = worker_program()?;
    let mut command = Command::new(&program);
    environment::choose(&mut command, Numerics::Native)?;
    let output = command.arg(ABOUT).stdin(Stdio::null()).output().map_err(Error::io("start", &program))?;
    let about: Option<About> = serde_json::from_slice(&output.stdout).ok();
    let errors = String::from_utf8_lossy(&output.stderr);
    if let (None, Some(line)) = (&about, errors.lines().find(|line| !line.trim().is_empty())) {
        return Err(Error::invalid(format!("`{}` does not run: {line}", program.display())));
    }
    check_build(&program.display().to_string(), about.as_ref().map(|about| about.build.as_str()), "maple-pipe")?;
    about.ok_or_else(|| Error::invalid(format!("`{}` says nothing", program.display())))
}

/// The worker is a program of its own beside this one, so that loading libtorch (a quarter of a second) is paid only
/// by nodes that compute.
pub(super) fn worker_program() -> Result<PathBuf> {
    let this = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
    let program = this.with_file_name("maple-pipe-worker");
    if program.is_file() {
        Ok(program)
    } else {
        Err(Error::hinted(
            format!("there is no `{}`", program.display()),
            "`maple-pipe-worker` is built with `maple-pipe` and must stay beside it",
        ))
    }
}
