//! One node's execution: in this process, or in a worker process where it needs libtorch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

use petgraph::graph::NodeIndex;

use super::command::run_command;
use super::environment;
use super::process::{Processes, worker_program};
use crate::data::PixelCache;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::Claim;
use crate::graph::{Graph, Inspector};
use crate::identity;
use crate::made_by::MadeBy;
use crate::stage::{Stage, Task, TaskInput};
use crate::store::{CanonicalJson, Record, Store};
use crate::task::{Line, Progress, check_build};
use crate::tensorboard::EventFolder;

/// A node ready to run.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub graph: &'a Graph,
    pub node: NodeIndex,
    pub store: &'a Store,
    pub inspector: &'a Inspector<'a>,
    pub key: Digest,
    pub manifest: CanonicalJson,
    pub inputs: BTreeMap<String, Vec<TaskInput>>,
    pub scratch: PathBuf,
    pub partial: PathBuf,
    pub tensorboard: Option<PathBuf>,
    pub pixels: Option<PixelCache>,
    pub log: PathBuf,
    pub threads: usize,
    pub device: Option<Device>,
    pub processes: Arc<Processes>,
    /// Absent for a node that leaves no record.
    pub claim: Option<Claim>,
}

/// How a job ended that left no record.
#[derive(Debug)]
pub(super) enum End {
    /// Something went wrong.
    Failed(Failure),
    /// It was asked to stop, and did.
    Stopped,
}

/// Why a node failed.
#[derive(Debug)]
pub struct Failure {
    /// The key it worked on, where it got so far.
    pub key: Option<Digest>,
    /// How long it worked.
    pub seconds: f64,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where its worker's standard error is, if it had a worker.
    pub log: Option<PathBuf>,
}

impl Failure {
    /// A failure with this error.
    pub(super) fn new(key: Option<Digest>, error: &Error) -> Failure {
        let hint = error.hint().map(str::to_owned);
        Failure { key, seconds: 0.0, message: error.to_string(), hint, log: None }
    }
}

impl Job<'_> {
    pub fn index(&self) -> NodeIndex {
        self.node
    }

    /// Executes the node and commits what it leaves.
    pub fn run(mut self, progress: &dyn Fn(Progress)) -> Result<Record, End> {
        let processes = self.processes.clone();
        // Given back when the record is written.
        let _claim = self.claim.take();
        attempt(self.key, &processes, |log| {
            let (store, scratch) = (self.store, self.scratch.clone());
            let (record, outputs) = self.execute(progress, log)?;
            let record = store.commit(record, &outputs)?;
            let _ = std::fs::remove_dir_all(scratch);
            Ok(record)
        })
    }

    /// Executes the node and says where the outputs are, which stay in its scratch folder, and what computed them.
    pub fn try_out(self) -> Result<(Record, BTreeMap<String, PathBuf>), End> {
        let processes = self.processes.clone();
        attempt(self.key, &processes, |log| self.execute(&drop, log))
    }

    /// Executes the node; its record still lacks the outputs, which are where the map says.
    fn execute(
        self,
        progress: &dyn Fn(Progress),
        log: &mut Option<PathBuf>,
    ) -> Result<(Record, BTreeMap<String, PathBuf>)> {
        let (started, clock) = (jiff::Timestamp::now(), Instant::now());
        let node = self.graph.node(self.node);
        let task = Task {
            build: identity::BUILD.to_owned(),
            node: node.name.clone(),
            stage: node.stage.clone(),
            inputs: self.inputs,
            scratch: self.scratch,
            partial: self.partial,
            tensorboard: self.tensorboard.map(|path| EventFolder { path, key: self.key }),
            pixels: self.pixels,
            threads: self.threads,
            device: self.device.unwrap_or_default(),
        };
        let done = if let Some(result) = task.stage.run_here(&task) {
            Done { note: result?, memory: None, made_by: MadeBy::here() }
        } else {
            *log = Some(self.log.clone());
            match &task.stage {
                Stage::Command(stage) => {
                    run_command(stage, &task, &self.log, &self.processes)?;
                    Done { note: String::new(), memory: None, made_by: MadeBy::here() }
                }
                _ => run_worker(&task, &self.log, &self.processes, progress)?,
            }
        };
        if let Some(path) = self.inspector.changed_inputs(self.node)?.first() {
            return Err(Error::hinted(
                format!("`{}` changed while the node read it", path.display()),
                "run again when it no longer changes",
            ));
        }
        let outputs = node.stage.outputs().iter();
        let outputs = outputs.map(|output| (output.name.to_string(), task.output(&output.name))).collect();
        let record = Record {
            key: self.key,
            manifest: self.manifest,
            outputs: BTreeMap::new(),
            node: node.name.clone(),
            note: done.note,
            started,
            seconds: clock.elapsed().as_secs_f64(),
            device: self.device,
            memory: done.memory,
            made_by: Some(done.made_by),
            unsynced: None,
        };
        Ok((record, outputs))
    }
}

/// Does the work on a key; a mistake of ours in one node must not take the run with it.
fn attempt<T>(
    key: Digest,
    processes: &Processes,
    work: impl FnOnce(&mut Option<PathBuf>) -> Result<T>,
) -> Result<T, End> {
    let clock = Instant::now();
    let mut log = None;
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut log))).unwrap_or_else(|_| {
        Err(Error::hinted("a mistake of maple-pipe itself: the panic is reported above", "please report it"))
    });
    result.map_err(|error| {
        // Whatever it says, a process that we asked to stop ended because of that.
        if matches!(error, Error::Interrupted) || log.is_some() && processes.are_stopping() {
            return End::Stopped;
        }
        let seconds = clock.elapsed().as_secs_f64();
        End::Failed(Failure { seconds, log, ..Failure::new(Some(key), &error) })
    })
}

/// What a node says when it is done.
struct Done {
    /// For the status line.
    note: String,
    /// The most memory that it used on its device, in bytes, where that is known.
    memory: Option<u64>,
    made_by: MadeBy,
}

/// Runs a task in a worker process.
fn run_worker(task: &Task, log: &Path, processes: &Processes, progress: &dyn Fn(Progress)) -> Result<Done> {
    let (log_file, error_file) = log_file(log)?;
    let text = serde_json::to_string(task).map_err(|error| Error::format(log, "task", error))?;
    let program = worker_program()?;
    let mut command = Command::new(&program);
    environment::choose(&mut command, task.stage.numerics());
    command.stdout(Stdio::piped()).stderr(error_file);
    let mut process = processes.start_worker(&mut command, &text)?;
    let mut hello = None;
    let mut end = None;
    for line in BufReader::new(process.child.stdout.take().expect("asked for a pipe")).split(b'\n') {
        let line = line.map_err(Error::io("read from", "a worker"))?;
        let line = String::from_utf8_lossy(&line);
        match serde_json::from_str(&line) {
            Ok(Line::Hello(made_by)) => {
                let known = check_worker(&program, Some(&made_by.build));
                if known.is_err() {
                    process.kill();
                    return known.map(|()| unreachable!("it is an error"));
                }
                hello = Some(*made_by);
            }
            Ok(Line::Progress(one)) => progress(one),
            Ok(last) => end = Some(last),
            // A library's own words belong in the log.
            Err(_) => drop(writeln!(&log_file, "{line}")),
        }
    }
    let status = process.wait()?;
    match (end, hello) {
        (Some(Line::Done(note, memory)), Some(made_by)) if status.success() => Ok(Done { note, memory, made_by }),
        // Whatever it left, nobody knows what it is.
        (Some(Line::Done(..)), None) => Err(check_worker(&program, None).expect_err("it says of no build")),
        (Some(Line::Failed(message, hint)), _) => Err(Error::Invalid { message, hint }),
        (Some(Line::Stopped), _) => Err(Error::Interrupted),
        _ => {
            // Nobody else sends this signal as a rule.
            let out_of_memory = status.signal() == Some(9);
            let hint = "if memory ran out, fewer nodes at the same time may help: `--jobs 1`".to_owned();
            Err(Error::Invalid { message: ended("its worker", status, log), hint: out_of_memory.then_some(hint) })
        }
    }
}

/// Refuses a worker of another build.
fn check_worker(program: &Path, build: Option<&str>) -> Result<()> {
    check_build(&program.display().to_string(), build, "maple-pipe")
}

/// An empty log, opened twice: for what a process prints, and for its errors.
pub(super) fn log_file(path: &Path) -> Result<(File, File)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let file = File::create(path).map_err(Error::io("create", path))?;
    let again = file.try_clone().map_err(Error::io("open", path))?;
    Ok((file, again))
}

/// How a process ended that did not do its work.
pub(super) fn ended(what: &str, status: ExitStatus, log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(10)..];
    let tail: String = tail.iter().map(|line| format!("\n  | {line}")).collect();
    format!("{what} ended with {status}{tail}")
}
