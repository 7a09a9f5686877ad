//! `maple-pipe work`: what a job of a queue does; `run` hands it over.

use std::path::PathBuf;

use clap::Args;

use super::project::{AT_ONCE, number};
use crate::error::Result;
use crate::run::{Interrupts, work};

/// Carry out what a run has handed to a queue
#[derive(Args, Debug)]
pub(super) struct Work {
    /// What is to be done
    file: PathBuf,
    /// Threads that it may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number(AT_ONCE))]
    threads: u32,
}

impl Work {
    pub(super) fn run(self) -> Result<()> {
        work(&self.file, self.threads as usize, &Interrupts::install()?)
    }
}
