//! What a user may set of where nodes run.

use std::num::NonZeroUsize;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Deserialize;

use super::queue::Queue;
use super::slurm::{Slurm, SlurmSettings};

/// `[executor]`: what commands that execute nodes do where their options say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorSettings {
    /// As `--executor`.
    pub name: ExecutorName,
    /// As `--jobs`.
    pub jobs: Option<NonZeroUsize>,
    /// As `--threads`.
    pub threads: Option<NonZeroUsize>,
    /// As `--devices`.
    pub devices: Option<String>,
    /// What jobs of a cluster ask for.
    pub slurm: SlurmSettings,
}

/// Where nodes run that compute with libtorch or run a program of the user's. All others run where the command runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorName {
    /// Where the command runs
    #[default]
    Here,
    /// As jobs of the Slurm cluster that this computer belongs to
    Slurm,
}

impl ExecutorSettings {
    /// The queue that this executor hands jobs to; nothing where it runs them itself.
    pub fn queue(&self, name: ExecutorName) -> Option<Arc<dyn Queue>> {
        match name {
            ExecutorName::Here => None,
            ExecutorName::Slurm => Some(Arc::new(Slurm(self.slurm.clone()))),
        }
    }

    /// Every queue that there is.
    pub fn queues(&self) -> Vec<Arc<dyn Queue>> {
        ExecutorName::value_variants().iter().filter_map(|&name| self.queue(name)).collect()
    }
}
