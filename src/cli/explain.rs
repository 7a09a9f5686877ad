//! `maple-pipe explain`: why one node would run, or not, as the difference of its keys.

use clap::Args;

use super::{PipelineArguments, print};
use crate::error::Result;
use crate::graph::Explanation;
use crate::run::duration;

/// Say why a node would run, or not: what changed since it last ran, value by value
#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The node's name, as `status --all` lists it
    node: String,
}

impl Explain {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let index = project.graph.find(&self.node)?;
        let inspection = project.inspect(project.graph.up_to(index))?;
        let name = &self.node;
        let text = match project.explain(&inspection, index) {
            Explanation::Fresh(record) => format!(
                "{name} is up to date\n  key {}, ran {} in {}\n",
                record.key.short(),
                record.started.strftime("%Y-%m-%d %H:%M:%S UTC"),
                duration(record.seconds)
            ),
            Explanation::NeverRun => format!("{name} is stale: it has never run\n"),
            Explanation::RecordMissing => format!("{name} is stale: its record is missing from the store\n"),
            Explanation::OutputMissing(output) => {
                format!("{name} is stale: its output `{output}` is missing from the store or damaged\n")
            }
            Explanation::Changed(changes) => {
                let lines: String = changes.iter().map(|change| format!("  {change}\n")).collect();
                format!("{name} is stale: changed since it last ran\n{lines}")
            }
            Explanation::Upstream(names) => {
                let lines: String = names.iter().map(|name| format!("  {name}\n")).collect();
                format!("{name} waits for nodes that are stale; whether it must run shows when they have run\n{lines}")
            }
        };
        print(&text)
    }
}
