//! `maple-pipe run --dry-run`: what a run would execute, and why.

use petgraph::graph::NodeIndex;

use super::node_report::{NodeReport, Report};
use super::{Project, print, print_json, say};
use crate::error::Result;
use crate::graph::{Counts, Standing};
use crate::run::nodes;

/// Prints what running `selection`, which is in order, would execute.
pub(super) fn dry_run(project: &Project, selection: Vec<NodeIndex>, json: bool) -> Result<()> {
    let inspection = project.inspect(selection)?;
    let explainer = project.explainer(&inspection);
    let standing = |index: NodeIndex| Standing::from(inspection.plan.state(index));
    let counts: Counts = inspection.selection.iter().map(|&index| standing(index)).collect();
    let not_fresh = inspection.selection.iter().filter(|&&index| standing(index) != Standing::Fresh);
    let reports = not_fresh.map(|&index| NodeReport::new(project, &inspection, &explainer, index)).collect();
    let report = Report { pipeline: &project.pipeline.name, counts, nodes: reports };
    if json {
        return print_json(&report);
    }
    let line = |report: &NodeReport<'_>| {
        let word = if report.state == Standing::Stale { "would run" } else { "may run" };
        format!("{word:>12} {}   {}\n", report.node, report.explanation)
    };
    print(&report.nodes.iter().map(line).collect::<String>())?;
    say(&format!(
        "{}: {} would run, {} may run after them, {} up to date",
        nodes(counts.nodes),
        counts.stale,
        counts.waiting,
        counts.fresh
    ));
    Ok(())
}
