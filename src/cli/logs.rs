//! `maple-pipe logs`: what a node's worker wrote.

use std::io::{IsTerminal, Write};

use clap::Args;

use super::project::PipelineArguments;
use super::terminal::{print, say};
use crate::error::{Error, Result};
use crate::text::last_written;

/// Print what a node wrote when it last ran in a process of its own
///
/// On a terminal, control characters are shown and not obeyed, and of a line that was written over the last state is
/// shown; a file or a pipe gets every byte as it was written.
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
        if !std::io::stdout().is_terminal() {
            return match std::io::stdout().write_all(&text) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    Err(Error::io("write", "standard output")(error))
                }
                _ => Ok(()),
            };
        }
        let text = String::from_utf8_lossy(&text);
        print(&text.lines().map(|line| format!("{}\n", last_written(line))).collect::<String>())
    }
}
