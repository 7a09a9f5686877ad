//! What a system is that takes jobs and runs them elsewhere, such as a cluster's.

use std::fmt::{self, Debug};
use std::path::Path;

use crate::error::Result;

/// Takes jobs, which go on when this process ends. What is to be done lies in files, and what comes of it in the store, so
/// that a queue needs to know neither.
pub trait Queue: Debug + Send + Sync {
    /// By what settings name it, e.g. `slurm`.
    fn word(&self) -> &'static str;

    /// What people call it, e.g. `Slurm`.
    fn name(&self) -> &'static str;

    /// Whether its programs are on this computer.
    ///
    /// # Errors
    /// They are not.
    fn check(&self) -> Result<()>;

    /// What is asked for a job. Jobs for which the same is asked are alike.
    fn options(&self, need: &Need<'_>) -> Vec<String>;

    /// How nodes are packed into jobs, and how often a job is tried.
    fn packing(&self) -> Packing;

    /// Hands over jobs that are alike, and returns what they are called together.
    ///
    /// # Errors
    /// They are not taken.
    fn submit(&self, jobs: &Jobs<'_>) -> Result<String>;

    /// How the user's jobs stand, as far as the queue still knows of them.
    ///
    /// # Errors
    /// It does not answer.
    fn look(&self) -> Result<Vec<Seen>>;

    /// Ends jobs by what they are called.
    ///
    /// # Errors
    /// It does not answer.
    fn cancel(&self, jobs: &[String]) -> Result<()>;

    /// The command that ends them.
    fn how_to_cancel(&self, jobs: &[String]) -> String;

    /// What to do about a job that ended so.
    fn advice(&self, ending: Ending, stage: &str) -> Option<String>;
}

/// What a node needs of its job.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// Its stage.
    pub stage: &'a str,
    /// It computes on a device.
    pub device: bool,
    /// How often its memory has not sufficed.
    pub short_of_memory: u32,
}

/// How nodes are packed into jobs, and how often a job is tried.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// So many nodes in a job, where that is set.
    pub nodes: Option<usize>,
    /// Else as many as about take so many seconds.
    pub seconds: f64,
    /// So many nodes of a job compute at the same time.
    pub at_once: usize,
    /// So many jobs wait or run at the same time at most.
    pub jobs: usize,
    /// So many of them are submitted together at most.
    pub together: usize,
    /// How often a node is tried again whose job ended without it.
    pub retries: u32,
}

/// Jobs that are alike.
#[derive(Debug)]
pub struct Jobs<'a> {
    /// What tells them from all others.
    pub name: &'a str,
    /// Job number `N` does what the file `N.json` in this folder says, and prints into `N.log`.
    pub folder: &'a Path,
    /// How many there are.
    pub count: usize,
    /// What [`Queue::options`] said.
    pub options: &'a [String],
}

/// What a queue says of a job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The name with which it was submitted.
    pub name: String,
    /// Its number among the jobs of this name.
    pub number: usize,
    /// What the queue calls it, e.g. `17_0`.
    pub id: String,
    /// How it stands.
    pub standing: Standing,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Ending),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// By itself.
    Done,
    /// By itself, with an error.
    Failed,
    /// Its time was over.
    TimedOut,
    /// Its memory did not suffice.
    OutOfMemory,
    /// It had to make room for others.
    Preempted,
    /// Somebody cancelled it.
    Cancelled,
    /// Its computer failed.
    Crashed,
    /// The queue no longer knows it.
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Ending::Done => "ended without its result",
            Ending::Failed => "failed",
            Ending::TimedOut => "ran out of time",
            Ending::OutOfMemory => "ran out of memory",
            Ending::Preempted => "was preempted",
            Ending::Cancelled => "was cancelled",
            Ending::Crashed => "ended with its computer",
            Ending::Unknown => "is not known any more",
        })
    }
}
