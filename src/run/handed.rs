//! The nodes of a run that are jobs of a queue: handed over, picked up from earlier runs, watched until their records are there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use super::assignment::Assignment;
use super::batch::{Line, Word};
use super::job::Failure;
use super::submission::{Submission, Unsent};
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::executor::{Ending, ExecutorSettings, Queue, Seen, Standing, tail};
use crate::files::Claim;
use crate::store::{CanonicalJson, Record, Store};
use crate::tally::Tally;
use crate::task::Progress;

/// The jobs of a queue, as far as this run has to do with them.
#[derive(Debug)]
pub(super) struct Handed<'a> {
    pub queue: &'a dyn Queue,
    store: &'a Store,
    submissions: BTreeMap<String, Watched>,
    /// Where the nodes of this run are that wait for a job's end.
    nodes: BTreeMap<NodeIndex, Node>,
    /// What came of earlier jobs of a node.
    attempts: HashMap<NodeIndex, Attempts>,
    /// When the queue was last asked, when it last said something new, and when the files of jobs were last read.
    asked: Option<Instant>,
    changed: Instant,
    read: Option<Instant>,
    /// The last question had no answer.
    is_silent: bool,
    /// What was said in place of the first answer that did not come, until somebody is told.
    pub silence: Option<Error>,
}

/// Jobs that were handed over together.
#[derive(Debug)]
struct Watched {
    submission: Submission,
    /// Where this run is the one to forget them.
    claim: Option<Claim>,
    jobs: Vec<Job>,
    /// Something is left to look at.
    has_failed: bool,
}

#[derive(Debug, Default)]
struct Job {
    /// What the queue calls it.
    id: Option<String>,
    standing: Option<Standing>,
    /// Since when it is known to have ended.
    ended: Option<Instant>,
    /// How much has been read of what it says.
    offset: u64,
    /// By place in its batch.
    said: Vec<Said>,
}

/// What a job has said of an assignment.
#[derive(Clone, Debug, Default)]
struct Said {
    started: Option<Option<Device>>,
    progress: Option<Progress>,
    last: Option<Word>,
}

/// A node that waits for its job.
#[derive(Debug)]
struct Node {
    key: Digest,
    recipe: CanonicalJson,
    stage: String,
    name: String,
    job: usize,
    place: usize,
    /// What has been told of it.
    told_start: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    lost: u32,
    short_of_memory: u32,
}

/// What became of a node since it was last looked at.
pub(super) enum News {
    Started {
        job: String,
        device: Option<Device>,
    },
    Progress(Progress),
    Done(Arc<Record>, Tally),
    /// Its job found that somebody else computes it.
    Elsewhere(Digest, CanonicalJson, String),
    /// Its job ended without it: it is to be submitted again.
    Again(Digest, CanonicalJson, String),
    Failed(Failure),
}

/// The jobs that queues have now for runs of a store, by the keys that they are to compute, e.g. `Slurm job 17_0`. No queue is
/// asked of which the store knows no jobs.
pub fn live_jobs(store: &Store, settings: &ExecutorSettings) -> HashMap<Digest, String> {
    let submissions = Submission::all(store, |_| false);
    let mut jobs = HashMap::new();
    for queue in settings.queues() {
        let own = || submissions.iter().filter(|submission| submission.queue == queue.word());
        if own().next().is_none() {
            continue;
        }
        for seen in queue.look().unwrap_or_default() {
            let members = own().find(|submission| submission.name == seen.name);
            let members = members.and_then(|submission| submission.jobs.get(seen.number));
            for member in members.into_iter().flatten().filter(|_| !matches!(seen.standing, Standing::Ended(_))) {
                jobs.insert(member.key, format!("{} job {}", queue.name(), seen.id));
            }
        }
    }
    jobs
}

/// How often the files of jobs are read.
const READ: Duration = Duration::from_millis(500);
/// How often the queue is asked: at the most, and at the least.
const ASK: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];
/// How long what a job that has ended wrote may take to be seen here.
const GRACE: Duration = Duration::from_secs(2);
/// The same where it said that the record is written: network file systems remember for up to a minute that a file was absent.
const LONG_GRACE: Duration = Duration::from_secs(90);

impl<'a> Handed<'a> {
    /// What earlier runs have handed over and what still waits or runs. What has ended is forgotten: its results are in the
    /// store.
    pub fn open(queue: &'a dyn Queue, store: &'a Store) -> Handed<'a> {
        let (submissions, nodes, attempts) = Default::default();
        let (asked, changed, read, is_silent, silence) = (None, Instant::now(), None, false, None);
        let mut handed =
            Handed { queue, store, submissions, nodes, attempts, asked, changed, read, is_silent, silence };
        handed.find_new();
        handed.ask();
        handed.forget();
        handed
    }

    /// Whether the queue answers; where it did not, it is asked again, if it has not been asked for a while.
    pub fn answers(&mut self) -> bool {
        if self.is_silent {
            self.ask_now_and_then();
        }
        !self.is_silent
    }

    /// How many nodes of this run wait for jobs.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many jobs nodes of this run wait for.
    pub fn jobs(&self) -> usize {
        self.nodes.values().map(|node| (node.name.as_str(), node.job)).collect::<HashSet<_>>().len()
    }

    /// What the queue calls the jobs that nodes of this run wait for: jobs that were handed over together by their common name,
    /// unless some of them are not this run's.
    pub fn ids(&self) -> Vec<String> {
        let jobs: BTreeSet<(&str, usize)> = self.nodes.values().map(|node| (node.name.as_str(), node.job)).collect();
        let id = |&(name, job): &(&str, usize)| {
            let watched = &self.submissions[name];
            let is_ours = |(other, one): (usize, &Job)| one.ended.is_some() || jobs.contains(&(name, other));
            let common = watched.submission.id.clone().filter(|_| watched.jobs.iter().enumerate().all(is_ours));
            common.unwrap_or_else(|| self.id(name, job))
        };
        jobs.iter().map(id).collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// How often the memory of a node's job has not sufficed.
    pub fn short_of_memory(&self, index: NodeIndex) -> u32 {
        self.attempts.get(&index).map_or(0, |attempts| attempts.short_of_memory)
    }

    /// Looks for a job that somebody has handed over and that computes this key. From now on the node waits for it. Returns what
    /// the queue calls it.
    pub fn pick_up(
        &mut self,
        index: NodeIndex,
        stage: &str,
        (key, recipe): &(Digest, CanonicalJson),
    ) -> Option<String> {
        let store = self.store;
        let found = self.submissions.iter_mut().find_map(|(name, watched)| {
            (0..watched.jobs.len()).find_map(|job| Some((name.clone(), job, watched.open_place(store, job, key)?)))
        });
        let (name, job, place) = found?;
        let id = self.job(&self.id(&name, job));
        let (stage, recipe) = (stage.to_owned(), recipe.clone());
        self.nodes.insert(index, Node { key: *key, recipe, stage, name, job, place, told_start: false });
        Some(id)
    }

    /// Hands over jobs that are alike, and returns what the queue calls them; nothing where it does not answer.
    ///
    /// # Errors
    /// The queue does not take them, or the store cannot be written.
    pub fn submit(
        &mut self,
        pipeline: &str,
        options: &[String],
        batches: Vec<Vec<(NodeIndex, String, Assignment)>>,
    ) -> Result<Option<String>> {
        let of = |(index, stage, assignment): &(NodeIndex, String, Assignment)| {
            (*index, stage.clone(), assignment.key, assignment.recipe.clone())
        };
        let members: Vec<Vec<_>> = batches.iter().map(|batch| batch.iter().map(of).collect()).collect();
        let assignments =
            batches.into_iter().map(|batch| batch.into_iter().map(|(_, _, assignment)| assignment).collect()).collect();
        let submitted = Submission::submit(self.store, self.queue, pipeline, options, assignments);
        let (submission, claim) = match submitted {
            Ok(submitted) => submitted,
            Err(Unsent { error, is_silent: true }) => {
                self.fall_silent(error);
                return Ok(None);
            }
            Err(Unsent { error, .. }) => return Err(error),
        };
        let name = submission.name.clone();
        let id = submission.id.clone().unwrap_or_else(|| name.clone());
        for (job, batch) in members.into_iter().enumerate() {
            for (place, (index, stage, key, recipe)) in batch.into_iter().enumerate() {
                let node = Node { key, recipe, stage, name: name.clone(), job, place, told_start: false };
                self.nodes.insert(index, node);
            }
        }
        self.submissions.insert(name, Watched::new(submission, Some(claim)));
        self.changed = Instant::now();
        Ok(Some(self.job(&id)))
    }

    /// What has become of the nodes. `record` finds the record of a node's key.
    pub fn watch(&mut self, record: &dyn Fn(NodeIndex, &Digest) -> Option<Arc<Record>>) -> Vec<(NodeIndex, News)> {
        if self.nodes.is_empty() || self.read.is_some_and(|last| last.elapsed() < READ) {
            return Vec::new();
        }
        self.read = Some(Instant::now());
        self.ask_now_and_then();
        self.read_lines();
        let mut news = Vec::new();
        for index in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.look_at(index, record, &mut news);
        }
        self.forget();
        news
    }

    /// Adds what is new of a node. One that waits no longer is taken out.
    fn look_at(
        &mut self,
        index: NodeIndex,
        record: &dyn Fn(NodeIndex, &Digest) -> Option<Arc<Record>>,
        news: &mut Vec<(NodeIndex, News)>,
    ) {
        let node = &self.nodes[&index];
        let (key, recipe) = (node.key, node.recipe.clone());
        let job_id = self.job(&self.id(&node.name, node.job));
        let job = &mut self.submissions.get_mut(&node.name).expect("a node waits for what is watched").jobs[node.job];
        let said = &mut job.said[node.place];
        let ended = job.ended.map(|since| since.elapsed());
        if let (Some(device), false) = (said.started, node.told_start) {
            news.push((index, News::Started { job: job_id.clone(), device }));
            self.nodes.get_mut(&index).expect("it is there").told_start = true;
        }
        if let Some(progress) = said.progress.take() {
            news.push((index, News::Progress(progress)));
        }
        let last = said.last.clone();
        let is_done = matches!(last, Some(Word::Done(_)));
        let end = match last {
            Some(Word::Elsewhere(owner)) => Some(News::Elsewhere(key, recipe, owner)),
            Some(Word::Failed { killed, .. }) if killed && ended.is_none() => None,
            Some(Word::Failed { message, hint, seconds, killed }) => {
                let ending = if killed { self.ending(index) } else { None };
                match ending {
                    // What ended the job killed the process.
                    Some(ending) if !matches!(ending, Ending::Done | Ending::Failed) => {
                        Some(self.lost(index, ending, &job_id))
                    }
                    _ => {
                        let log = Some(self.member_log(index));
                        Some(News::Failed(Failure { key: Some(key), seconds, message, hint, log, killed }))
                    }
                }
            }
            last if is_done || ended.is_some() => match record(index, &key) {
                Some(record) => {
                    let tally = if let Some(Word::Done(tally)) = last { tally } else { Tally::default() };
                    Some(News::Done(record, tally))
                }
                None => {
                    let grace = if is_done { LONG_GRACE } else { GRACE };
                    let is_over = ended.is_some_and(|since| since > grace);
                    is_over.then(|| {
                        let ending = self.ending(index).unwrap_or(Ending::Unknown);
                        self.lost(index, ending, &job_id)
                    })
                }
            },
            _ => None,
        };
        if let Some(end) = end {
            let node = self.nodes.remove(&index).expect("it is there");
            if let News::Failed(_) = end {
                self.submissions.get_mut(&node.name).expect("it is watched").has_failed = true;
            }
            news.push((index, end));
        }
    }

    /// What to do about a node whose job ended without it.
    fn lost(&mut self, index: NodeIndex, ending: Ending, job_id: &str) -> News {
        let node = &self.nodes[&index];
        let job = &self.submissions[&node.name].jobs[node.job];
        let has_begun = job.said[node.place].started.is_some();
        // What a job did not come to is not to blame, unless it came to nothing.
        let is_to_blame = has_begun || job.said.iter().all(|said| said.started.is_none());
        let attempts = self.attempts.entry(index).or_default();
        attempts.lost += u32::from(is_to_blame);
        attempts.short_of_memory += u32::from(is_to_blame && ending == Ending::OutOfMemory);
        let may_go_on = ending != Ending::Cancelled && attempts.lost <= self.queue.packing().retries;
        let message = format!("{job_id} {ending}");
        if may_go_on {
            return News::Again(node.key, node.recipe.clone(), message);
        }
        let of_node = Some(self.member_log(index)).filter(|log| has_begun && log.exists());
        let log = of_node.unwrap_or_else(|| self.submissions[&node.name].submission.log(self.store, node.job));
        let hint = self.queue.advice(ending, &node.stage);
        let message = format!("{message}{}", tail(&log));
        News::Failed(Failure { key: Some(node.key), seconds: 0.0, message, hint, log: Some(log), killed: false })
    }

    fn member_log(&self, index: NodeIndex) -> PathBuf {
        let node = &self.nodes[&index];
        self.submissions[&node.name].submission.jobs[node.job][node.place].log.clone()
    }

    fn ending(&self, index: NodeIndex) -> Option<Ending> {
        let node = &self.nodes[&index];
        match self.submissions[&node.name].jobs[node.job].standing {
            Some(Standing::Ended(ending)) => Some(ending),
            _ => None,
        }
    }

    /// What people call a job.
    fn job(&self, id: &str) -> String {
        format!("{} job {id}", self.queue.name())
    }

    fn id(&self, name: &str, job: usize) -> String {
        let watched = &self.submissions[name];
        let whole = || watched.submission.id.clone().unwrap_or_else(|| name.to_owned());
        watched.jobs[job].id.clone().unwrap_or_else(whole)
    }

    /// Takes note of what others have handed over meanwhile.
    pub fn find_new(&mut self) {
        for submission in Submission::all(self.store, |name| self.submissions.contains_key(name)) {
            if submission.queue == self.queue.word() {
                self.submissions.insert(submission.name.clone(), Watched::new(submission, None));
            }
        }
    }

    /// Asks the queue, the less often the longer nothing has changed there.
    fn ask_now_and_then(&mut self) {
        let pause = (self.changed.elapsed() / 10).clamp(ASK[0], ASK[1]);
        if self.asked.is_none_or(|last| last.elapsed() >= pause) {
            self.ask();
        }
    }

    fn fall_silent(&mut self, error: Error) {
        if !std::mem::replace(&mut self.is_silent, true) {
            self.silence = Some(error);
        }
    }

    /// Asks the queue how the jobs stand.
    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        let seen = match self.queue.look() {
            Ok(seen) => seen,
            Err(error) => return self.fall_silent(error),
        };
        self.is_silent = false;
        let seen: HashMap<(&str, usize), &Seen> = seen.iter().map(|one| ((&*one.name, one.number), one)).collect();
        let now = Instant::now();
        for (name, watched) in &mut self.submissions {
            for number in 0..watched.jobs.len() {
                let standing = match seen.get(&(name.as_str(), number)) {
                    Some(one) => {
                        watched.jobs[number].id = Some(one.id.clone());
                        one.standing
                    }
                    None if watched.is_being_submitted(self.store) => continue,
                    None => Standing::Ended(Ending::Unknown),
                };
                let job = &mut watched.jobs[number];
                match (job.standing, standing) {
                    // How it ended is known better.
                    (Some(Standing::Ended(_)), Standing::Ended(Ending::Unknown)) => {}
                    (before, now) if before == Some(now) => {}
                    _ => (job.standing, self.changed) = (Some(standing), now),
                }
                job.ended = if let Standing::Ended(_) = standing { job.ended.or(Some(now)) } else { None };
            }
        }
    }

    /// Reads what jobs say that may have begun.
    fn read_lines(&mut self) {
        let jobs: BTreeSet<(&str, usize)> = self.nodes.values().map(|node| (node.name.as_str(), node.job)).collect();
        for (name, number) in jobs {
            let watched = self.submissions.get_mut(name).expect("a node waits for what is watched");
            watched.read_lines(self.store, number);
        }
    }

    /// The run is over: forgets the jobs of which nothing more is to come.
    pub fn close(mut self) {
        self.forget();
    }

    /// Forgets jobs that have ended and that nobody waits for, where it is for this run to do so.
    fn forget(&mut self) {
        let waited_for: HashSet<&str> = self.nodes.values().map(|node| node.name.as_str()).collect();
        let store = self.store;
        self.submissions.retain(|name, watched| {
            if waited_for.contains(name.as_str()) || watched.has_failed || !watched.jobs.iter().all(Job::is_over) {
                return true;
            }
            let is_ours = watched.is_ours(store);
            if is_ours {
                watched.submission.remove(store);
            }
            !is_ours
        });
    }
}

impl Job {
    /// Nothing more comes of it.
    fn is_over(&self) -> bool {
        let is_done = |said: &Said| matches!(said.last, Some(Word::Done(_)));
        self.ended.is_some() || self.said.iter().all(is_done)
    }
}

impl Watched {
    fn new(submission: Submission, claim: Option<Claim>) -> Watched {
        let job = |members: &Vec<_>| Job { said: vec![Said::default(); members.len()], ..Job::default() };
        let jobs = submission.jobs.iter().map(job).collect();
        Watched { submission, claim, jobs, has_failed: false }
    }

    /// Reads what a job says, if it may have begun.
    fn read_lines(&mut self, store: &Store, number: usize) {
        let job = &mut self.jobs[number];
        if job.standing == Some(Standing::Queued) {
            return;
        }
        for Line { place, word } in self.submission.lines(store, number, &mut job.offset) {
            let Some(said) = job.said.get_mut(place) else { continue };
            match word {
                // It may have been begun before, in a job that the queue started again.
                Word::Started(device) => (said.started, said.last) = (Some(device), None),
                Word::Progress(progress) => said.progress = Some(progress),
                last => said.last = Some(last),
            }
        }
    }

    /// The place of a key in a job that is yet to compute it.
    fn open_place(&mut self, store: &Store, number: usize, key: &Digest) -> Option<usize> {
        if self.jobs[number].ended.is_some() {
            return None;
        }
        let place = self.submission.jobs[number].iter().position(|member| member.key == *key)?;
        self.read_lines(store, number);
        // A job that has told the end of one node may still have others to compute.
        matches!(self.jobs[number].said[place].last, None | Some(Word::Stopped)).then_some(place)
    }

    /// Whether this run is the one to forget the jobs: it has handed them over, or who did is gone.
    fn is_ours(&mut self, store: &Store) -> bool {
        if self.claim.is_none() {
            self.claim = self.submission.claim(store);
        }
        self.claim.is_some()
    }

    /// Another run is just handing them over.
    fn is_being_submitted(&mut self, store: &Store) -> bool {
        if self.submission.id.is_none() {
            self.submission.id = self.submission.id_now(store);
        }
        self.submission.id.is_none() && !self.is_ours(store)
    }
}
