//! `maple-pipe graph`: the DAG as a picture's source text.

use clap::{Args, ValueEnum};

use super::{PipelineArguments, Selection, print};
use crate::error::Result;
use crate::graph::dot;

/// Print the graph, grouped by stage and coloured by state
#[derive(Args, Debug)]
pub(super) struct GraphCommand {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    /// The language of the text
    #[arg(long, default_value = "dot")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Graphviz: `maple-pipe graph PIPELINE | dot -Tsvg > graph.svg`
    Dot,
}

impl GraphCommand {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let inspection = project.inspect(self.selection.of(&project)?)?;
        match self.format {
            Format::Dot => print(&dot(&project.graph, &inspection.plan, &inspection.selection, &project.pipeline.name)),
        }
    }
}
