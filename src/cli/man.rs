//! `maple-pipe man`: a man page a command.

use std::path::PathBuf;

use clap::Args;
use clap_mangen::generate_to;

use super::{display, say};
use crate::error::{Error, Result};

/// Write a man page for each command
#[derive(Args, Debug)]
pub(super) struct Man {
    /// The folder to write them to
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        generate_to(super::command(), &self.folder).map_err(Error::io("write man pages to", &self.folder))?;
        say(&format!("wrote man pages to {}", display(&self.folder)));
        Ok(())
    }
}
