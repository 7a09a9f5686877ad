//! `maple-pipe man`: a man page a command.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::generate_to;

use super::terminal::{display, say};
use crate::error::{Error, Result};

/// Write a man page for each command
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The folder to write them to
    folder: PathBuf,
}

impl Man {
    /// Writes those of `whole`, the command line.
    pub(super) fn run(self, whole: clap::Command) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        generate_to(whole, &self.folder).map_err(Error::io("write man pages to", &self.folder))?;
        say(&format!("wrote man pages to {}", display(&self.folder)));
        Ok(())
    }
}
