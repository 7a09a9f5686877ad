//! The execution of an assignment: in this process, or in a worker process where it needs libtorch.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::assignment::Assignment;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::executor::{Executors, Order};
use crate::files::Claim;
use crate::kind::{INPUTS, PARAMETERS, Place, Work};
use crate::parallel;
use crate::store::{Record, StatCache, Store};
use crate::tally::Tally;
use crate::task::{Progress, Task};

/// An assignment, with what it gets here.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub assignment: Assignment,
    pub work: Arc<dyn Work>,
    pub store: &'a Store,
    /// The digests of input files.
    pub cache: &'a StatCache,
    /// An empty folder.
    pub scratch: PathBuf,
    pub threads: usize,
    pub device: Option<Device>,
    pub executors: Arc<Executors>,
    /// Absent where no record is left.
    pub claim: Option<Claim>,
}

/// How a job ended that left no record.
#[derive(Debug)]
pub(super) enum End {
    /// Something went wrong.
    Failed(Failure),
    /// The memory of its device did not suffice, or its card failed: what ran beside it may be why.
    Crowded(Failure),
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
    /// Something killed its process.
    pub killed: bool,
}

impl Failure {
    /// A failure with this error.
    pub(super) fn new(key: Option<Digest>, error: &Error) -> Failure {
        let hint = error.hint().map(Into::into);
        Failure {
            key,
            seconds: 0.0,
            message: error.to_string(),
            hint,
            log: None,
            killed: matches!(error, Error::Killed { .. }),
        }
    }
}

impl Job<'_> {
    /// Executes the node and commits what it leaves; also says what another process did for it with images and texts.
    pub fn run(mut self, progress: &dyn Fn(Progress)) -> Result<(Record, Tally), End> {
        let executors = self.executors.clone();
        // Given back when the record is written.
        let _claim = self.claim.take();
        attempt(self.assignment.key, &executors, |log| {
            let (store, folder) = (self.store, self.scratch.clone());
            let is_program = matches!(self.work.place(), Place::Program(_));
            let (record, outputs, tally) = self.execute(progress, log)?;
            let record = store.commit(record, &outputs)?;
            let scratch = store.scratch()?;
            if is_program && executors.left_nothing() {
                scratch.give_back(folder, &[INPUTS, PARAMETERS]);
            } else {
                scratch.throw_away(&folder);
            }
            Ok((record, tally))
        })
    }

    /// Executes the node and says where the outputs are, which stay in its scratch folder, and what computed them.
    pub fn try_out(self) -> Result<(Record, BTreeMap<String, PathBuf>), End> {
        let executors = self.executors.clone();
        attempt(self.assignment.key, &executors, |log| {
            self.execute(&drop, log).map(|(record, outputs, _)| (record, outputs))
        })
    }

    /// Executes the node; its record still lacks the outputs, which are where the map says.
    fn execute(
        self,
        progress: &dyn Fn(Progress),
        log: &mut Option<PathBuf>,
    ) -> Result<(Record, BTreeMap<String, PathBuf>, Tally)> {
        let (started, clock) = (jiff::Timestamp::now(), Instant::now());
        let Assignment { key, recipe, task, readings, log: log_file } = self.assignment;
        let device = self.device.unwrap_or_default();
        let task = Task { scratch: self.scratch, threads: self.threads, device, ..task };
        let order = Order { place: self.work.place(), task: &task, log: &log_file };
        let executor = self.executors.of(&order)?;
        if executor.keeps_log() {
            *log = Some(log_file.clone());
        }
        let done = executor.execute(&order, progress);
        let looked = parallel::map(&readings, |reading| reading.check(self.store, self.cache));
        let unchanged: Result<()> = looked.into_iter().collect();
        if unchanged.is_err() {
            // What it would resume from was made from something else than its key says.
            let _ = std::fs::remove_dir_all(&task.partial);
        }
        let done = done?;
        unchanged?;
        let outputs = task.outputs.iter().map(|output| (output.name.to_string(), task.output(&output.name))).collect();
        let record = Record {
            key,
            recipe,
            outputs: BTreeMap::new(),
            node: task.node.clone(),
            note: done.note,
            started,
            seconds: clock.elapsed().as_secs_f64(),
            device: self.device,
            memory: done.memory,
            made_by: Some(done.made_by),
            unsynced: None,
        };
        Ok((record, outputs, done.tally))
    }
}

/// Does the work on a key. An internal error in one node must not end the run.
fn attempt<T>(
    key: Digest,
    executors: &Executors,
    work: impl FnOnce(&mut Option<PathBuf>) -> Result<T>,
) -> Result<T, End> {
    let clock = Instant::now();
    let mut log = None;
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut log))).unwrap_or_else(|_| {
        Err(Error::hinted("a mistake of maple-pipe itself: the panic is reported above", "please report it"))
    });
    result.map_err(|error| {
        // Whatever it says, a process that we asked to stop ended because of that.
        if matches!(error, Error::Interrupted) || log.is_some() && executors.are_stopping() {
            return End::Stopped;
        }
        let seconds = clock.elapsed().as_secs_f64();
        let failure = Failure { seconds, log, ..Failure::new(Some(key), &error) };
        match error {
            Error::OutOfMemory(_) | Error::CardFailed(_) => End::Crowded(failure),
            _ => End::Failed(failure),
        }
    })
}
