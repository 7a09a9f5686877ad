//! `maple-pipe quickstart`: from nothing to a first table.

use std::path::PathBuf;

use clap::Args;

use super::init::{say_next, write_shipped};
use super::project::{PipelineArguments, WorkArguments};
use super::run::Run;
use crate::error::Result;

/// Write what ships to a folder, as `init` does, and run its quickstart: a table in two minutes, without data or weights
#[derive(Args, Debug)]
pub(super) struct Quickstart {
    /// The folder, which is made if it is not there
    #[arg(default_value = "maple-pipe-quickstart")]
    folder: PathBuf,
    #[command(flatten)]
    work: WorkArguments,
    /// Where results are kept [default: `.maple` in the folder]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    store: Option<PathBuf>,
}

impl Quickstart {
    pub(super) fn run(self) -> Result<()> {
        write_shipped(&self.folder)?;
        let pipeline = self.folder.join("pipelines/quickstart.toml");
        let pipeline = PipelineArguments { pipeline, overrides: Vec::new(), data_root: None, store: self.store };
        Run::whole(pipeline, self.work).run()?;
        say_next(
            &self.folder,
            &[
                ("maple-pipe report pipelines/quickstart.toml -o report.html", "a page with curves and mistakes"),
                (
                    "maple-pipe run pipelines/quickstart.toml --set stage.shots.shots=8 --dry-run",
                    "what 8 shots make stale",
                ),
                ("maple-pipe doctor pipelines/base2novel.toml", "what this computer lacks for the papers' tables"),
            ],
        );
        Ok(())
    }
}
