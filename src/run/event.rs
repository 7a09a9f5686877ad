//! What happens in a run. The scheduler emits events, the reporter renders them.

use serde::{Deserialize, Serialize};

use super::job::Failure;
use crate::store::Record;

/// One thing that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A node began to run.
    Started {
        /// Its name.
        node: &'a str,
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
        /// How many nodes have ended, this one included.
        position: usize,
        /// How many there are.
        of: usize,
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
    /// It was not started, because something it needs failed.
    Blocked,
}

/// How far a training node is; a worker prints it as a JSON line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Progress {
    /// The epoch that ended, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// Mean loss of the epoch.
    pub loss: f64,
    /// The learning rate of its steps.
    pub learning_rate: f64,
    /// Training images per second.
    pub images_per_second: f64,
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
    /// Wall time.
    pub seconds: f64,
}
