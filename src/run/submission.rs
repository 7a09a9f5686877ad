//! Jobs that runs have handed to a queue. They outlive the run, and so does what is known of them: a folder of the store each time.
//!
//! ```text
//! jobs/<name>/submission.json  what was handed over
//! jobs/<name>/claim            held by the run that watches the jobs
//! jobs/<name>/0.json           what job 0 is to do
//! jobs/<name>/0.lines          how that goes, one JSON object a line
//! jobs/<name>/0.log            what the job printed
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::batch::{Batch, Line};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::executor::{Jobs, Queue};
use crate::files::{Claim, Claimed, create_folder, remove_folder, write_atomically};
use crate::identity;
use crate::made_by::host;
use crate::store::{RunRecord, Store};

/// Jobs that were handed over together.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Submission {
    /// What tells the jobs from all others.
    pub name: String,
    /// The word for the queue.
    pub queue: String,
    /// Whose nodes they compute.
    pub pipeline: String,
    /// When, UTC.
    pub submitted: jiff::Timestamp,
    /// What the queue calls them together, once it has answered.
    pub id: Option<String>,
    /// The nodes of each job.
    pub jobs: Vec<Vec<Member>>,
}

/// A node of a job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Member {
    pub node: String,
    pub key: Digest,
    /// Where its log goes.
    pub log: PathBuf,
}

/// Why jobs were not handed over.
#[derive(Debug)]
pub(super) struct Unsent {
    pub error: Error,
    /// The queue does not answer; it may do so later.
    pub is_silent: bool,
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Unsent {
        Unsent { error, is_silent: false }
    }
}

const SUBMISSION: &str = "submission.json";

impl Submission {
    /// Writes down what each job is to do, then hands them over. Whoever dies in between leaves what can be found by the name.
    ///
    /// # Errors
    /// The store cannot be written, or the queue does not take them.
    pub fn submit(
        store: &Store,
        queue: &dyn Queue,
        pipeline: &str,
        options: &[String],
        batches: Vec<Vec<Assignment>>,
    ) -> Result<(Submission, Claim), Unsent> {
        let submitted = jiff::Timestamp::now();
        let name = format!("maple-{}", RunRecord::new_id(submitted, &host()));
        let folder = store.jobs().join(&name);
        create_folder(&folder)?;
        let Claimed::Ours(claim) = Claim::take(folder.join("claim"))? else { unreachable!("the name is new") };
        let member = |one: &Assignment| Member { node: one.task.node.clone(), key: one.key, log: one.log.clone() };
        let jobs: Vec<Vec<Member>> = batches.iter().map(|batch| batch.iter().map(member).collect()).collect();
        let count = jobs.len();
        let (word, pipeline) = (queue.word().to_owned(), pipeline.to_owned());
        let mut submission = Submission { name, queue: word, pipeline, submitted, id: None, jobs };
        let write = |name: &str, text: serde_json::Result<String>| {
            let path = folder.join(name);
            write_atomically(&path, text.map_err(|error| Error::format(&path, "JSON", error))?.as_bytes())
        };
        let send = || -> Result<Option<String>, Unsent> {
            for (number, assignments) in batches.into_iter().enumerate() {
                let (build, store) = (identity::BUILD.into(), store.root().to_owned());
                let batch = Batch { build, store, at_once: queue.packing().at_once, assignments };
                write(&format!("{number}.json"), serde_json::to_string(&batch))?;
            }
            write(SUBMISSION, serde_json::to_string(&submission))?;
            hand_over(queue, &Jobs { name: &submission.name, folder: &folder, count, options })
        };
        submission.id = send().inspect_err(|_| drop(remove_folder(&folder)))?;
        // Without the number, the jobs are found by their name.
        let _ = write(SUBMISSION, serde_json::to_string(&submission));
        Ok((submission, claim))
    }

    /// Those that the store has and that `is_known` does not, in order.
    pub fn all(store: &Store, is_known: impl Fn(&str) -> bool) -> Vec<Submission> {
        let entries = fs::read_dir(store.jobs()).into_iter().flatten().flatten();
        let new = entries.filter(|entry| !entry.file_name().to_str().is_none_or(&is_known));
        let text = new.filter_map(|entry| fs::read_to_string(entry.path().join(SUBMISSION)).ok());
        let mut all: Vec<Submission> = text.filter_map(|text| serde_json::from_str(&text).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The right to watch the jobs and to forget them, unless a run that goes on has it.
    pub fn claim(&self, store: &Store) -> Option<Claim> {
        match Claim::take(self.folder(store).join("claim")) {
            Ok(Claimed::Ours(claim)) => Some(claim),
            _ => None,
        }
    }

    /// What the queue calls the jobs, as far as the run has written it down that hands them over.
    pub fn id_now(&self, store: &Store) -> Option<String> {
        let text = fs::read_to_string(self.folder(store).join(SUBMISSION)).ok()?;
        serde_json::from_str::<Submission>(&text).ok()?.id
    }

    /// What a job has said behind `offset`, which moves on. A line that is not whole is left for the next time.
    pub fn lines(&self, store: &Store, job: usize, offset: &mut u64) -> Vec<Line> {
        let read = |path: &Path| -> std::io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(*offset))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read(&self.folder(store).join(format!("{job}.lines"))).unwrap_or_default();
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        *offset += whole as u64;
        bytes[..whole].split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// What a job printed.
    pub fn log(&self, store: &Store, job: usize) -> PathBuf {
        self.folder(store).join(format!("{job}.log"))
    }

    /// Forgets the jobs.
    pub fn remove(&self, store: &Store) {
        let _ = remove_folder(&self.folder(store));
    }

    fn folder(&self, store: &Store) -> PathBuf {
        store.jobs().join(&self.name)
    }
}

/// Hands over jobs, and returns what the queue calls them, where it has said so. One that fails to answer may have taken them
/// all the same, or may answer again.
fn hand_over(queue: &dyn Queue, jobs: &Jobs<'_>) -> Result<Option<String>, Unsent> {
    let error = match queue.submit(jobs) {
        Ok(id) => return Ok(Some(id)),
        Err(error) => error,
    };
    match queue.look() {
        Err(_) => Err(Unsent { error, is_silent: true }),
        Ok(seen) if seen.iter().any(|one| one.name == jobs.name) => Ok(None),
        Ok(_) => Ok(Some(queue.submit(jobs)?)),
    }
}
