//! `maple-pipe run --dry-run`: what a run would execute, and why.

use petgraph::graph::NodeIndex;

use super::project::Project;
use super::remote::warn_of;
use super::standing_report::{NodeReport, StandingReport};
use super::terminal::{print, print_json, say};
use crate::error::Result;
use crate::graph::{Counts, Elsewhere, Standing};
use crate::run::{Forecast, Options, Warning, warn_of_precision};
use crate::store::Lock;
use crate::terminal::warn;
use crate::text::bytes;
use crate::text::{duration, nodes, plural};

/// Prints what running `selection`, which is in order, would execute, and about what that takes, with what is blocked once
/// all is there.
pub(super) fn dry_run(
    project: &Project,
    selection: Vec<NodeIndex>,
    held: &Lock,
    options: &Options,
    json: bool,
) -> Result<()> {
    let remote = options.remote.as_deref();
    remote.iter().for_each(|remote| remote.prepare(&project.graph.digest()));
    let inspection = project.inspect_with(selection, held, remote.map(Elsewhere::Seen))?;
    let explainer = project.explainer(&inspection);
    let standing = |index: NodeIndex| Standing::from(inspection.plan.state(index));
    let counts: Counts = inspection.selection.iter().map(|&index| standing(index)).collect();
    let not_fresh: Vec<NodeIndex> =
        inspection.selection.iter().copied().filter(|&index| standing(index) != Standing::Fresh).collect();
    let reports = not_fresh.iter().map(|&index| NodeReport::new(project, &inspection, &explainer, index)).collect();
    let Project { graph, store, pipeline, .. } = project;
    let forecast = Forecast::new(graph, store, &pipeline.name, inspection.plan, &not_fresh, options);
    let report = StandingReport { pipeline: &pipeline.name, counts, forecast: Some(forecast), nodes: reports };
    if json {
        return print_json(&report);
    }
    let line = |report: &NodeReport<'_>| {
        let word = if report.state == Standing::Stale { "would run" } else { "may run" };
        format!("{word:>12} {}   {}\n", report.node, report.explanation)
    };
    // Of what is blocked it is enough to say why.
    let can_run = |report: &&NodeReport<'_>| report.state != Standing::Blocked;
    print(&report.nodes.iter().filter(can_run).map(line).collect::<String>())?;
    project.list_absent(&inspection.selection);
    say(&format!(
        "{}: {} would run, {} may run after them, {} up to date{}",
        nodes(counts.nodes),
        counts.stale,
        counts.waiting,
        counts.fresh,
        counts.and_blocked()
    ));
    if let Some(remote) = remote {
        let is_there = |&&index: &&NodeIndex| {
            let outputs = graph.node(index).work.outputs();
            inspection.plan.record(index).is_some_and(|record| store.valid_record(&record.key, outputs).is_none())
        };
        let pulled = inspection.selection.iter().filter(is_there).count();
        say(&format!("remote {}: {} would be pulled", remote.name(), plural(pulled, "result", "results")));
        warn_of(remote);
    }
    let would_run: Vec<NodeIndex> =
        not_fresh.into_iter().filter(|&index| standing(index) != Standing::Blocked).collect();
    if let Some(Warning { message, hint }) = warn_of_precision(graph, &would_run, &options.devices) {
        warn(&message);
        say(&format!("hint: {hint}"));
    }
    if let Some(forecast) = report.forecast.filter(|_| counts.stale + counts.blocked > 0) {
        say(&in_words(&forecast, options.jobs));
    }
    Ok(())
}

/// `about 8m 02s with 2 nodes at a time, 84.9 MB of results, up to 20.1 GB of prepared test images`
fn in_words(forecast: &Forecast, jobs: usize) -> String {
    let time = forecast.seconds.map(|seconds| {
        let results = bytes(forecast.results);
        format!("about {} with {} at a time, {results} of results", duration(seconds), nodes(jobs))
    });
    let pixels = (forecast.pixels > 0).then(|| format!("up to {} of prepared test images", bytes(forecast.pixels)));
    let unknown = (forecast.unknown > 0).then(|| {
        let stages = if forecast.unknown == 1 { "its stage has" } else { "their stages have" };
        format!("no estimate for {}: {stages} not run yet", nodes(forecast.unknown))
    });
    time.into_iter().chain(pixels).chain(unknown).collect::<Vec<_>>().join(", ")
}
