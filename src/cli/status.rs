//! `maple-pipe status`: which nodes are stale, grouped by reason.

use std::collections::BTreeMap;

use clap::Args;

use super::{PipelineArguments, Selection, print, say};
use crate::error::Result;
use crate::graph::Explanation;
use crate::run::nodes;

/// Say which nodes are stale and why; nothing is executed
#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    /// One line for every node
    #[arg(long)]
    all: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let inspection = project.inspect(self.selection.of(&project)?)?;
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let (mut fresh, mut waiting, mut text) = (0, 0, String::new());
        for &index in &inspection.selection {
            let name = project.graph.node(index).name.as_str();
            let reason = project.explain(&inspection, index);
            fresh += usize::from(matches!(reason, Explanation::Fresh(_)));
            waiting += usize::from(matches!(reason, Explanation::Upstream(_)));
            if self.all {
                text += &format!("{name}   {reason}\n");
            } else if !matches!(reason, Explanation::Fresh(_)) {
                // What waits is one group, whatever each node waits for.
                let reason = match reason {
                    Explanation::Upstream(_) => "waits for stale nodes".to_owned(),
                    other => other.to_string(),
                };
                groups.entry(reason).or_default().push(name);
            }
        }
        for (reason, names) in groups {
            text += &format!("{reason} ({})\n", names.len());
            names.iter().take(8).for_each(|name| text += &format!("  {name}\n"));
            if names.len() > 8 {
                text += &format!("  ... and {} more (`--all` lists them)\n", names.len() - 8);
            }
        }
        print(&text)?;
        let count = inspection.selection.len();
        let stale = count - fresh - waiting;
        say(&format!("{}: {fresh} up to date, {stale} stale, {waiting} waiting for them", nodes(count)));
        Ok(())
    }
}
