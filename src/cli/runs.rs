//! `maple-pipe runs`: what was run, and what runs.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use clap::Args;
use serde_json::json;

use super::project::StoreArguments;
use super::terminal::{print, print_json, say, say_waiting};
use crate::error::Result;
use crate::store::{End, NodeEnd, RunNode, RunRecord, Store};
use crate::text::{clock, duration, nodes};
use crate::text::{columns, utc};

/// List the runs that the store knows of, newest first, also those that go on, or show one; times are UTC
#[derive(Args, Debug)]
pub(super) struct Runs {
    /// Show this run in full: `last`, `last~1` (the one before), or the start of its identifier
    run: Option<String>,
    #[command(flatten)]
    store: StoreArguments,
    /// Only runs of the pipeline of this name
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pipeline: Option<String>,
    /// Only the newest N
    #[arg(short, value_name = "N", conflicts_with = "run")]
    n: Option<NonZeroUsize>,
    /// Print JSON: an object for each run, on a line of its own; for one run, with its nodes
    #[arg(long)]
    json: bool,
}

impl Runs {
    pub(super) fn run(self) -> Result<()> {
        let store = self.store.open()?;
        let _held = store.share_if_there(say_waiting)?;
        if let Some(name) = &self.run {
            let run = store.find_run(name)?;
            let nodes = store.run_nodes(&run)?;
            let made_by = made_by(&store, &nodes);
            return if self.json {
                print_json(&in_json(&run, &nodes, &made_by))
            } else {
                print(&in_full(&run, &nodes, &made_by))
            };
        }
        let mut runs = store.runs()?;
        runs.retain(|run| self.pipeline.as_ref().is_none_or(|name| run.invocation.pipeline == *name));
        runs.truncate(self.n.map_or(usize::MAX, NonZeroUsize::get));
        if self.json {
            return runs.iter().try_for_each(print_json);
        }
        if runs.is_empty() {
            let of = self.pipeline.as_ref().map(|name| format!(" of `{name}`")).unwrap_or_default();
            say(&format!("no runs{of} are recorded here"));
        }
        print(&columns(&runs.iter().map(row).collect::<Vec<_>>()))
    }
}

fn row(run: &RunRecord) -> Vec<String> {
    vec![
        run.id.clone(),
        utc(run.started),
        run.invocation.pipeline.clone(),
        counts(&run.counts),
        run.outcome(),
        run.commit.as_ref().map(ToString::to_string).unwrap_or_default(),
        run.invocation.overrides.iter().map(|one| format!("--set {one}")).collect::<Vec<_>>().join(" "),
    ]
}

/// `20 nodes: 7 done, 13 cached`
fn counts(counts: &BTreeMap<NodeEnd, usize>) -> String {
    let parts: Vec<String> = counts.iter().map(|(end, count)| format!("{count} {end}")).collect();
    format!("{}: {}", nodes(counts.values().sum()), parts.join(", "))
}

/// What computed the results of a run's nodes, and how many of them; those that the store no longer has are left out.
fn made_by(store: &Store, nodes: &[RunNode]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in nodes.iter().filter_map(|node| store.record(&node.result()?)) {
        if let Some(made_by) = &record.made_by {
            *counts.entry(made_by.to_string()).or_default() += 1;
        }
    }
    counts
}

fn in_json(run: &RunRecord, nodes: &[RunNode], made_by: &BTreeMap<String, usize>) -> serde_json::Value {
    let mut value = json!(run);
    value["nodes"] = json!(nodes);
    value["made_by"] = json!(made_by);
    value
}

fn in_full(run: &RunRecord, nodes: &[RunNode], made_by: &BTreeMap<String, usize>) -> String {
    let about = &run.invocation;
    let mut facts = vec![
        ("run", run.id.clone()),
        ("started", utc(run.started)),
        ("ended", run.outcome()),
        ("pipeline", format!("{} ({})", about.pipeline, about.file.display())),
        ("arguments", about.arguments.join(" ")),
    ];
    if let Some(data_root) = &about.data_root {
        facts.push(("data root", data_root.display().to_string()));
    }
    facts.push(("program", run.program()));
    if let Some(commit) = &run.commit {
        facts.push(("commit", format!("{}{}", commit.id, if commit.dirty { " (dirty)" } else { "" })));
    }
    facts.push(("host", run.host.clone()));
    if let Some(process) = run.process.filter(|_| run.end == End::Running) {
        facts.push(("process", process.to_string()));
    }
    if !about.devices.is_empty() {
        facts.push(("devices", about.devices.join(", ")));
    }
    facts.push(("nodes", counts(&run.counts)));
    facts.extend(made_by.iter().map(|(made_by, count)| ("made by", format!("{made_by}: {}", self::nodes(*count)))));
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let key = node.key.map(|key| key.short()).unwrap_or_default();
            let seconds = node.seconds.map(|seconds| match node.end {
                NodeEnd::Running => clock(seconds as u64),
                _ => duration(seconds),
            });
            let progress = node.progress.clone().unwrap_or_default();
            vec![node.end.to_string(), node.node.clone(), key, seconds.unwrap_or_default(), progress]
        })
        .collect();
    format!("{}\n{}", columns(&facts), columns(&rows))
}
