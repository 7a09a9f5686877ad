//! What a job of a queue does: assignments from a file, one after another or some at the same time, each under its claim. The results go to the store;
//! beside the file it writes down how it goes.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::devices::DeviceChoice;
use super::interrupt::Interrupts;
use super::job::{End, Job};
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::executor::Executors;
use crate::files::{Claimed, read_json};
use crate::identity;
use crate::kind::Work;
use crate::stages;
use crate::store::{StatCache, Store};
use crate::tally::Tally;
use crate::task::Progress;

/// What a job is to do.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Batch {
    /// [`crate::identity::BUILD`] of the run that made it.
    pub build: String,
    /// The store's folder.
    pub store: PathBuf,
    /// So many are carried out at the same time.
    pub at_once: usize,
    pub assignments: Vec<Assignment>,
}

/// What a job says of an assignment.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Line {
    /// Its place in the batch.
    pub place: usize,
    pub word: Word,
}

/// How an assignment goes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    /// It has begun, on this device.
    Started(Option<Device>),
    /// It is so far.
    Progress(Progress),
    /// Its record is in the store; what was done for it with images and texts.
    Done(Tally),
    /// Somebody else computes it.
    Elsewhere(String),
    /// It has failed.
    Failed {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// How long it took, in seconds.
        seconds: f64,
        /// Something killed its process, of which the queue may know more.
        killed: bool,
    },
    /// It was asked to stop, and has kept what it goes on from.
    Stopped,
}

/// Carries out the batch in a file with so many threads.
///
/// # Errors
/// The batch is another build's, the store cannot be used, an assignment failed, or it was asked to stop.
pub fn work(file: &Path, threads: usize, interrupts: &Interrupts) -> Result<()> {
    let batch: Batch = read_json(file)?;
    let lines = Lines::open(&file.with_extension("lines"))?;
    if batch.build != identity::BUILD {
        let error = Error::hinted(
            format!(
                "it was submitted by build `{}`, and the program is of build `{}` now",
                batch.build,
                identity::BUILD
            ),
            "the same command submits it again",
        );
        (0..batch.assignments.len()).for_each(|place| lines.add(place, failed(&error)));
        return Err(error);
    }
    let store = Store::open(&batch.store)?;
    let _held = store.share(|| {})?;
    let cache = StatCache::open(store.stat_cache());
    let executors = Arc::<Executors>::default();
    let stop = executors.clone();
    let _listening = interrupts.listen(move || stop.stop());
    let at_once = batch.at_once.min(batch.assignments.len()).max(1);
    let devices = DeviceChoice::new(None, at_once);
    let threads = (threads / at_once).max(1);
    let job = Carried { store: &store, cache: &cache, executors: &executors, devices: &devices, threads };
    let rest = Mutex::new(batch.assignments.into_iter().enumerate());
    let take = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    // What the queue says of a process that was killed counts for the assignments that have begun: no other begins.
    let is_over = AtomicBool::new(false);
    let carry_out = || -> usize {
        let mut failures = 0;
        while !is_over.load(Ordering::Relaxed)
            && let Some((place, assignment)) = take()
        {
            let word = job.carry_out(assignment, &|word| lines.add(place, word)).unwrap_or_else(|error| failed(&error));
            failures += usize::from(matches!(word, Word::Failed { .. }));
            if matches!(word, Word::Stopped | Word::Failed { killed: true, .. }) {
                is_over.store(true, Ordering::Relaxed);
            }
            lines.add(place, word);
        }
        failures
    };
    let failures: usize = std::thread::scope(|scope| {
        let others: Vec<_> = (1..at_once).map(|_| scope.spawn(carry_out)).collect();
        carry_out() + others.into_iter().map(|other| other.join().expect("it does not panic")).sum::<usize>()
    });
    // A cache that cannot be kept costs the next one some reading.
    let _ = store.keep_digests(&cache);
    match failures {
        _ if executors.are_stopping() => Err(Error::Interrupted),
        0 => Ok(()),
        failed => Err(Error::NodesFailed { failed }),
    }
}

/// So long a run may have a key's claim without computing it.
const MOMENT: Duration = Duration::from_secs(10);
/// How often a job looks whether a claim is free.
const LOOK: Duration = Duration::from_millis(50);

/// What the assignments of a batch share.
struct Carried<'a> {
    store: &'a Store,
    cache: &'a StatCache,
    executors: &'a Arc<Executors>,
    devices: &'a DeviceChoice,
    threads: usize,
}

impl Carried<'_> {
    fn carry_out(&self, assignment: Assignment, say: &(dyn Fn(Word) + Sync)) -> Result<Word> {
        if self.executors.are_stopping() {
            return Ok(Word::Stopped);
        }
        let task = &assignment.task;
        let kind =
            stages::named(&task.kind).ok_or_else(|| Error::invalid(format!("there is no kind `{}`", task.kind)))?;
        let work: Arc<dyn Work> = (kind.restore)(&task.parameters)
            .map_err(|error| Error::invalid(format!("the parameters of `{}` cannot be read: {error}", task.node)))?;
        let claimed = self.claim(&assignment.key)?;
        // Looked at after claiming: from now on nobody else makes it.
        if self.store.look_up(&assignment.key, &task.outputs)?.is_some() {
            return Ok(Word::Done(Tally::default()));
        }
        let Claimed::Ours(claim) = claimed else {
            let Claimed::Elsewhere(owner) = claimed else { unreachable!("it is not ours") };
            return Ok(Word::Elsewhere(owner));
        };
        assignment.readings.iter().try_for_each(|reading| reading.check(self.store, self.cache))?;
        let device = work.uses_libtorch().then(|| self.device());
        say(Word::Started(device));
        let job = Job {
            work,
            store: self.store,
            cache: self.cache,
            scratch: self.store.scratch()?.node()?,
            threads: self.threads,
            device,
            executors: self.executors.clone(),
            claim: Some(claim),
            assignment,
        };
        Ok(match job.run(&|progress| say(Word::Progress(progress))) {
            Ok((_, tally)) => Word::Done(tally),
            Err(End::Stopped) => Word::Stopped,
            Err(End::Failed(failure) | End::Crowded(failure)) => Word::Failed {
                message: failure.message,
                hint: failure.hint,
                seconds: failure.seconds,
                killed: failure.killed,
            },
        })
    }

    /// Runs claim keys for a moment while they hand over jobs or look for them; whoever has one for longer computes it.
    fn claim(&self, key: &Digest) -> Result<Claimed> {
        let start = Instant::now();
        loop {
            match self.store.claim(key)? {
                Claimed::Elsewhere(_) if start.elapsed() < MOMENT && !self.executors.are_stopping() => {
                    std::thread::sleep(LOOK);
                }
                claimed => return Ok(claimed),
            }
        }
    }

    /// The job's one device: the first card that it may use, or else the processor.
    fn device(&self) -> Device {
        self.devices.ready().devices.slots().map(|(device, _)| device).next().unwrap_or_default()
    }
}

fn failed(error: &Error) -> Word {
    let hint = error.hint().map(Into::into);
    Word::Failed { message: error.to_string(), hint, seconds: 0.0, killed: false }
}

/// The file beside a batch in which its job says how it goes.
struct Lines(Mutex<File>);

impl Lines {
    fn open(path: &Path) -> Result<Lines> {
        let file = File::options().append(true).create(true).open(path).map_err(Error::io("open", path))?;
        Ok(Lines(Mutex::new(file)))
    }

    /// What nobody can be told can still be computed.
    fn add(&self, place: usize, word: Word) {
        let line = serde_json::to_string(&Line { place, word }).expect("plain data") + "\n";
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}
