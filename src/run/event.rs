//! What happens in a run. The scheduler emits events; reporters render them for a person, as JSON, or into the run's record.

use serde::Serialize;

use super::devices::Warning;
use super::job::Failure;
use crate::device::{Device, Devices};
use crate::error::Error;
use crate::remote::Traffic;
use crate::store::Record;
use crate::tally::Tally;
use crate::task::Progress;

/// One thing that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// Nodes are about to run.
    Devices {
        /// Those that compute with libtorch run there.
        devices: &'a Devices,
        /// What is amiss with that.
        warning: Option<&'a Warning>,
    },
    /// Nodes are about to run in a way that the user may not want.
    Warning(&'a Warning),
    /// Input files are being hashed, which takes long; told now and then.
    Hashing {
        /// Files that have been read.
        read: usize,
        /// Files that are to be read, as far as is known.
        of: usize,
    },
    /// A remote gives or takes results, which takes long; told now and then.
    Sharing(&'a Traffic),
    /// A node began to run.
    Started {
        /// Its name.
        node: &'a str,
        /// Where it computes; nothing for a node that needs no libtorch.
        device: Option<Device>,
        /// The job that computes it, where it is none of this run's own processes.
        job: Option<&'a str>,
    },
    /// Nodes were handed to a queue.
    Submitted {
        /// Their names.
        nodes: &'a [&'a str],
        /// How many jobs they were packed into.
        jobs: usize,
        /// What the queue calls the jobs together, or the one job.
        job: &'a str,
        /// By an earlier run, or another one.
        before: bool,
    },
    /// A job ended without a node; the node is submitted again.
    Again {
        /// Its name.
        node: &'a str,
        /// How the job ended.
        message: &'a str,
    },
    /// A queue does not answer; the run goes on trying.
    Silent {
        /// What people call it.
        queue: &'a str,
        /// What its programs say.
        error: &'a Error,
    },
    /// A node is being computed by another run, for which this one waits.
    Elsewhere {
        /// Its name.
        node: &'a str,
        /// Who computes it.
        owner: &'a str,
    },
    /// A result in the store is damaged; the nodes that left it run again.
    Damaged {
        /// The name of such a node.
        node: &'a str,
        /// What is damaged.
        error: &'a Error,
    },
    /// The memory of its device did not suffice for a node, or its card failed; it runs again when it has the device for itself.
    Crowded {
        /// Its name.
        node: &'a str,
        /// What happened.
        message: &'a str,
    },
    /// A running node got somewhere.
    Progress {
        /// Its name.
        node: &'a str,
        /// Where to.
        progress: &'a Progress,
    },
    /// A node reached its end.
    Settled {
        /// Its name.
        node: &'a str,
        /// How it ended.
        outcome: Outcome<'a>,
        /// The time from its start until everything about it was settled, its outputs stored; nothing where it did not run.
        seconds: Option<f64>,
        /// How many nodes have ended, this one included.
        position: usize,
        /// How many there are.
        of: usize,
        /// About how many seconds the run will still take, once enough is known.
        remaining: Option<f64>,
    },
    /// The run was interrupted: no node is started any more, and so many still end.
    Stopping {
        /// Nodes that are running.
        running: usize,
    },
    /// The run is over.
    Finished(&'a Summary),
}

/// How a node ended.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It ran.
    Done {
        /// What it left.
        record: &'a Record,
    },
    /// It had nothing to do.
    Cached {
        /// What it left when it ran.
        record: &'a Record,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: &'a Failure,
    },
    /// It was interrupted; the next run goes on from where it stopped.
    Stopped,
    /// It was not started, because something it needs failed.
    Blocked,
}

/// The counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Selected.
    pub nodes: usize,
    /// Executed.
    pub ran: usize,
    /// Found in the store.
    pub cached: usize,
    /// Failed.
    pub failed: usize,
    /// Not started, because something they need failed.
    pub blocked: usize,
    /// Interrupted while they ran.
    pub stopped: usize,
    /// In jobs that go on after an interrupted run.
    pub in_jobs: usize,
    /// The run was interrupted.
    pub interrupted: bool,
    /// The jobs that go on after an interrupted run, as their queue calls them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs_left: Vec<String>,
    /// Wall time.
    pub seconds: f64,
    /// What went to a remote and came from it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<Traffic>,
    /// What was done with images and texts for nodes that ran to their end.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Summary {
    /// Nodes that were never reached.
    pub fn unreached(&self) -> usize {
        self.nodes - self.ran - self.cached - self.failed - self.blocked - self.stopped - self.in_jobs
    }
}
