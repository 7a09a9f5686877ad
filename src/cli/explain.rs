//! `maple-pipe explain`: why one node would run, or not, as the difference of its keys.

use clap::Args;
use serde::Serialize;

use super::project::PipelineArguments;
use super::standing_report::NodeReport;
use super::terminal::{print, print_json};
use crate::error::Result;
use crate::graph::{Change, Explanation, FEW, Group, group};
use crate::text::clock;
use crate::text::duration;
use crate::text::few;
use crate::text::utc;

/// Say why a node would run, or not: what changed since it last ran, value by value
#[derive(Args, Debug)]
pub(super) struct Explain {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The node's name, as `status --all` lists it
    node: String,
    /// Print one JSON document: what `status --json` says of the node, and `upstream`: for a waiting node,
    /// the stale nodes that it waits for; for a changed one, the nodes that left other outputs than the last time; each
    /// with its `reason`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct NodeAndCauses<'a> {
    #[serde(flatten)]
    node: NodeReport<'a>,
    upstream: Vec<Cause<'a>>,
}

/// A node that led to how another one stands.
#[derive(Serialize)]
struct Cause<'a> {
    node: &'a str,
    #[serde(flatten)]
    explanation: Explanation<'a>,
}

impl Explain {
    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let index = project.graph.find(&self.node)?;
        let inspection = project.inspect(project.graph.up_to(index), &held)?;
        let explainer = project.explainer(&inspection);
        let causes = explainer.upstream(index).into_iter().map(|(node, explanation)| Cause { node, explanation });
        let report = NodeAndCauses {
            node: NodeReport::new(&project, &inspection, &explainer, index),
            upstream: causes.collect(),
        };
        if self.json { print_json(&report) } else { print(&text(report)) }
    }
}

fn text(NodeAndCauses { node: NodeReport { node, explanation, .. }, upstream }: NodeAndCauses<'_>) -> String {
    let upstream = group(upstream.into_iter().map(|cause| (cause.node, cause.explanation)));
    let upstream = |indent: &str| -> String {
        let line = |group: &Group<'_>| {
            let names = few(FEW, group.nodes.iter().map(ToString::to_string));
            format!("{indent}{names}   {}\n", group.reason)
        };
        upstream.iter().map(line).collect()
    };
    match &explanation {
        Explanation::UpToDate { key, started, seconds, made_by } => {
            let made_by = made_by.as_ref().map_or_else(String::new, |made_by| format!("  made by {made_by}\n"));
            let (started, seconds) = (utc(*started), duration(*seconds));
            format!("{node} is up to date\n  key {}, ran {started} in {seconds}\n{made_by}", key.short())
        }
        Explanation::Running { owner, seconds } => {
            format!("{node} is stale: it has been running for {} ({owner})\n", clock(*seconds))
        }
        Explanation::Queued { job } => format!("{node} is stale: it waits for its turn as {job}\n"),
        Explanation::NeverRun => format!("{node} is stale: it has never run\n"),
        Explanation::RecordMissing => {
            format!("{node} is stale: the record of its last run is missing from the store\n")
        }
        Explanation::OutputMissing { output } => {
            format!("{node} is stale: its output `{output}` is missing from the store or damaged\n")
        }
        Explanation::Changed { changes } => {
            let upstream = upstream("    ");
            let because = if upstream.is_empty() { "" } else { "  because these ran again\n" };
            format!("{node} is stale: changed since it last ran\n{}{because}{upstream}", table(changes))
        }
        Explanation::Blocked { absent } => {
            let absent: String = absent.iter().map(|message| format!("  {message}\n")).collect();
            format!("{node} is blocked: something that it needs is not there\n{absent}")
        }
        Explanation::UpstreamStale { .. } => format!(
            "{node} is waiting for nodes that are stale; whether it must run shows when they have run\n{}",
            upstream("  ")
        ),
    }
}

/// The changes under their sections, aligned.
fn table(changes: &[Change]) -> String {
    let mut text = String::new();
    for section in changes.chunk_by(|one, other| one.section() == other.section()) {
        let width = |text: &dyn Fn(&Change) -> String| {
            section.iter().map(|change| text(change).chars().count()).max().unwrap_or(0)
        };
        let path = width(&|change| change.within().to_owned());
        // One long value does not push all others away.
        let before = width(&Change::before).min(32);
        text += &format!("  {}", section[0].section());
        for change in section {
            if !change.within().is_empty() {
                text += &format!("\n    {:path$} ", change.within());
            }
            text += &format!(" {:before$} -> {}", change.before(), change.now());
        }
        text += "\n";
    }
    text
}
