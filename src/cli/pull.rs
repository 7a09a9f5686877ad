//! `maple-pipe pull`: brings results of others into the store.

use clap::Args;
use petgraph::graph::NodeIndex;

use super::project::{PipelineArguments, Selection};
use super::remote::{RemoteArguments, sharing};
use super::terminal::{say, say_waiting};
use crate::error::Result;
use crate::graph::{Elsewhere, Standing};
use crate::text::nodes;

/// Bring the results of a pipeline that a remote has into the store; nothing is executed
#[derive(Args, Debug)]
pub(super) struct Pull {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl Pull {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let remote = self.remote.must_open(&project.settings.remote)?;
        let selection = self.selection.of(&project)?;
        let held = project.store.share(say_waiting)?;
        sharing(&remote, || {
            remote.prepare(&project.graph.digest());
            remote.pull_pixels(&project.store);
        });
        let inspection = project.inspect_with(selection, &held, Some(Elsewhere::Pulled(&remote)))?;
        let is_fresh = |&&index: &&NodeIndex| Standing::from(inspection.plan.state(index)) == Standing::Fresh;
        let fresh = inspection.selection.iter().filter(is_fresh).count();
        say(&format!("{}: {fresh} up to date", nodes(inspection.selection.len())));
        say(&remote.traffic().to_string());
        remote.check()
    }
}
