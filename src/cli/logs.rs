//! `maple-pipe logs`: what a node's worker wrote.

use clap::Args;

use super::project::PipelineArguments;
use super::terminal::{print, say};
use crate::error::{Error, Result};

/// Print what a node wrote when it last ran in a process of its own
#[derive(Args, Debug)]
pub(super) struct Logs {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The node's name, as `status --all` lists it
    node: String,
    /// Print where the log is instead
    #[arg(long)]
    path: bool,
}

impl Logs {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        project.graph.find(&self.node)?;
        let _held = project.hold()?;
        let path = project.store.log(&project.pipeline.name, &self.node);
        if !path.is_file() {
            return Err(Error::hinted(
                format!("`{}` has no log", self.node),
                "a node has one when it ran in a process of its own, as pretraining, training and evaluation do",
            ));
        }
        if self.path {
            return print(&format!("{}\n", path.display()));
        }
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        if text.is_empty() {
            say(&format!("`{}` wrote nothing", self.node));
        }
        print(&String::from_utf8_lossy(&text))
    }
}
