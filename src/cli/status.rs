//! `maple-pipe status`: which nodes are stale, grouped by reason.

use clap::Args;

use super::project::{PipelineArguments, Selection};
use super::standing_report::{NodeReport, StandingReport};
use super::terminal::{print, print_json, say};
use crate::error::Result;
use crate::graph::{Group, group};
use crate::text::nodes;

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
    /// Print one JSON document: `pipeline`, `counts`, and `nodes`, each with `node`, `stage`, `state` (fresh, stale,
    /// waiting, blocked), `reason` (up_to_date, running, queued, never_run, record_missing, output_missing, changed,
    /// upstream_stale, blocked) and what belongs to the reason (`key`, `started`, `seconds`; `owner`, `seconds`; `job`; `output`;
    /// `changes`; `causes`; `absent`)
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let inspection = project.inspect(self.selection.of(&project)?, &held)?;
        let explainer = project.explainer(&inspection);
        let report = |&index| NodeReport::new(&project, &inspection, &explainer, index);
        let reports: Vec<NodeReport<'_>> = inspection.selection.iter().map(report).collect();
        let counts = reports.iter().map(|report| report.state).collect();
        let report = StandingReport { pipeline: &project.pipeline.name, counts, forecast: None, nodes: reports };
        if self.json {
            return print_json(&report);
        }
        let text: String = if self.all {
            report.nodes.iter().map(|report| format!("{}   {}\n", report.node, report.explanation)).collect()
        } else {
            let groups = group(report.nodes.into_iter().map(|report| (report.node, report.explanation)));
            groups.iter().map(listed).collect()
        };
        print(&text)?;
        project.list_absent(&inspection.selection);
        say(&format!(
            "{}: {} up to date, {} stale, {} waiting for them{}",
            nodes(counts.nodes),
            counts.fresh,
            counts.stale,
            counts.waiting,
            counts.and_blocked()
        ));
        Ok(())
    }
}

/// A group's reason, and its first nodes.
fn listed(group: &Group<'_>) -> String {
    const SHOWN: usize = 8;
    let mut text = format!("{} ({})\n", group.reason, group.nodes.len());
    group.nodes.iter().take(SHOWN).for_each(|name| text += &format!("  {name}\n"));
    if group.nodes.len() > SHOWN {
        text += &format!("  ... and {} more (`--all` lists them)\n", group.nodes.len() - SHOWN);
    }
    text
}
