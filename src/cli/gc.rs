//! `maple-pipe gc`: frees what nobody needs any more.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::project::{PipelineArguments, StoreArguments};
use super::terminal::{display, print, print_json, say, say_waiting};
use crate::error::{Error, Result};
use crate::graph::State;
use crate::remote::{Remote, Required, Usage};
use crate::store::{Garbage, Leftovers, Lock, Needed, RunRecord, Store, Unneeded};
use crate::text::nodes;
use crate::text::{bytes, plural};

/// Remove results that neither a pipeline as it is now nor a kept run needs
///
/// A result is needed if it is what a pipeline would find now, or if its node is not up to date and left it last, or if
/// one of the kept runs used it.
#[derive(Args, Debug)]
pub(super) struct Gc {
    /// The pipelines whose results stay [default: those that were run with this store and are still there]
    pipelines: Vec<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    /// The folder that holds the data sets' folders [default: as in the pipeline's last run]
    #[arg(long, value_name = "FOLDER")]
    data_root: Option<PathBuf>,
    /// Keep what the newest N runs of each pipeline used
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,
    /// Keep what the runs of the last DAYS days used, too
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    keep_days: u32,
    /// Say what would go, but remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// In place of the store, look at one that a team shares: say what was neither sent to it nor used by a run of any pipeline
    /// for as long as `--grace` says
    #[arg(
        long, value_name = "URL",
        conflicts_with_all = ["pipelines", "keep_runs", "keep_days", "all"]
    )]
    remote: Option<String>,
    /// How many days what is in the remote stays after its last use
    #[arg(long, value_name = "DAYS", default_value_t = 30, requires = "remote")]
    grace: u32,
    /// Remove it from the remote, which everybody has lost then
    #[arg(long, requires = "remote", conflicts_with = "dry_run")]
    remove: bool,
    /// List every node
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(super) fn run(self) -> Result<()> {
        if let Some(address) = &self.remote {
            return self.run_remote(address);
        }
        let store = self.store.open()?;
        let held = store.have_alone(say_waiting)?;
        let garbage = store.garbage(&self.needed(&store, &held)?)?;
        let left = if self.dry_run { Vec::new() } else { garbage.remove(&store)? };
        for error in &left {
            say(&error.to_string());
        }
        let end = match left.len() {
            0 => Ok(()),
            count => Err(Error::Found {
                message: format!("{} could not be removed, all else is gone", plural(count, "leftover", "leftovers")),
                hint: Some("remove it as its owner, then run `gc` again".to_owned()),
            }),
        };
        if self.json {
            print_json(&in_json(&garbage, !self.dry_run))?;
            return end;
        }
        print(&self.text(&garbage))?;
        let results: usize = garbage.results.values().map(|unneeded| unneeded.count).sum();
        say(&format!(
            "{} {}: {} of {}; {} kept",
            if self.dry_run { "would free" } else { "freed" },
            bytes(garbage.bytes()),
            plural(results, "result", "results"),
            nodes(garbage.results.len()),
            plural(garbage.kept, "result", "results"),
        ));
        end
    }

    fn run_remote(&self, address: &str) -> Result<()> {
        const DAY: u64 = 24 * 60 * 60;
        /// It answers slowly where it has many objects.
        const PATIENCE: Duration = Duration::from_secs(60);
        let (pixels, required) = (true, Required::default());
        let remote = Remote::open(address, Usage { readonly: !self.remove, pixels, required, patience: PATIENCE })?;
        let garbage = remote.garbage(Duration::from_secs(DAY * u64::from(self.grace)))?;
        if self.remove {
            remote.remove(&garbage)?;
        }
        let counts = garbage.counts();
        if self.json {
            let what =
                counts.iter().map(|(what, (count, bytes))| json!({ "what": what, "count": count, "bytes": bytes }));
            return print_json(&json!({
                "remote": remote.name(), "removed": self.remove, "bytes": garbage.bytes(), "kept": garbage.kept,
                "objects": what.collect::<Vec<_>>(),
            }));
        }
        let line = |(what, (count, size)): (&&str, &(usize, u64))| format!("{what} ({count}, {})\n", bytes(*size));
        print(&counts.iter().map(line).collect::<String>())?;
        say(&format!(
            "{} {} in the remote {}: {}; {} kept",
            if self.remove { "freed" } else { "would free" },
            bytes(garbage.bytes()),
            remote.name(),
            plural(garbage.objects.len(), "object", "objects"),
            plural(garbage.kept, "result", "results"),
        ));
        if !self.remove && !garbage.objects.is_empty() {
            say("hint: `--remove` removes them");
        }
        Ok(())
    }

    fn needed(&self, store: &Store, held: &Lock) -> Result<Needed> {
        let mut needed = Needed::default();
        let runs = store.runs()?;
        self.keep_runs(store, &runs, &mut needed)?;
        // The newest of each pipeline.
        let mut last: HashMap<PathBuf, RunRecord> = HashMap::new();
        for run in runs {
            last.entry(run.invocation.file.clone()).or_insert(run);
        }
        let pipelines: Vec<PathBuf> = if self.pipelines.is_empty() {
            last.keys().filter(|file| file.exists()).cloned().collect()
        } else {
            self.pipelines.clone()
        };
        if pipelines.is_empty() {
            return Err(Error::hinted(
                "no run of a pipeline that is still there is recorded, so everything would go",
                "name the pipelines whose results should stay: `maple-pipe gc PIPELINE`",
            ));
        }
        for pipeline in pipelines {
            let data_root = self.data_root.clone();
            let store = Some(store.root().to_owned());
            let mut arguments = PipelineArguments { pipeline, overrides: Vec::new(), data_root, store };
            if let Some(run) = last.get(&arguments.file()?) {
                // By it the next `gc` knows of the pipeline.
                needed.runs.insert(run.id.clone());
                arguments.data_root = arguments.data_root.or(run.invocation.data_root.clone());
            }
            keep_pipeline(&arguments, held, &mut needed).inspect_err(|_| {
                let name = display(&arguments.pipeline);
                say(&format!("nothing is removed, because it is not clear what `{name}` needs:"));
            })?;
        }
        Ok(needed)
    }

    /// The newest runs of each pipeline, and those of the last days.
    fn keep_runs(&self, store: &Store, runs: &[RunRecord], needed: &mut Needed) -> Result<()> {
        let days = jiff::SignedDuration::from_hours(24 * i64::from(self.keep_days));
        let since = jiff::Timestamp::now().saturating_sub(days).unwrap_or(jiff::Timestamp::MIN);
        let mut newer: HashMap<&PathBuf, usize> = HashMap::new();
        for run in runs {
            let newer = newer.entry(&run.invocation.file).or_default();
            *newer += 1;
            if *newer > self.keep_runs && run.started < since {
                continue;
            }
            needed.runs.insert(run.id.clone());
            for node in store.run_nodes(run)? {
                needed.logs.insert(store.log(&run.invocation.pipeline, &node.node));
                // An interrupted or failed node has no result yet, but something to resume from.
                needed.keys.extend(node.key);
                needed.partial.extend(node.key);
            }
        }
        Ok(())
    }

    fn text(&self, garbage: &Garbage) -> String {
        let mut stages: BTreeMap<&str, Vec<(&String, &Unneeded)>> = BTreeMap::new();
        for (node, unneeded) in &garbage.results {
            stages.entry(stage(node)).or_default().push((node, unneeded));
        }
        let mut text = String::new();
        for (stage, results) in stages {
            let size = results.iter().map(|(_, unneeded)| unneeded.bytes).sum();
            text += &format!("{stage} ({}, {})\n", nodes(results.len()), bytes(size));
            let shown = if self.all { results.len() } else { 8 };
            for (node, unneeded) in results.iter().take(shown) {
                let count = if unneeded.count > 1 { format!("   {} results", unneeded.count) } else { String::new() };
                text += &format!("  {node}{count}\n");
            }
            if results.len() > shown {
                text += &format!("  ... and {} more (`--all` lists them)\n", results.len() - shown);
            }
        }
        for (what, unneeded) in &garbage.leftovers {
            text += &format!("{} ({}, {})\n", describe(*what), unneeded.count, bytes(unneeded.bytes));
        }
        text
    }
}

/// What a pipeline needs as it is now.
fn keep_pipeline(arguments: &PipelineArguments, held: &Lock, needed: &mut Needed) -> Result<()> {
    let project = arguments.open()?;
    let inspection = project.inspect(project.graph.order().to_vec(), held)?;
    let last_keys = project.store.last_keys(&project.pipeline.name);
    for &index in project.graph.order() {
        let name = &project.graph.node(index).name;
        needed.logs.insert(project.store.log(&project.pipeline.name, name));
        let last = last_keys.get(name);
        match inspection.plan.state(index) {
            State::Fresh(record) => drop(needed.keys.insert(record.key)),
            State::Stale { key, .. } => {
                needed.partial.insert(*key);
                needed.keys.extend(last);
            }
            // What it left last may turn out to be what it needs.
            State::Pending | State::Blocked => needed.keys.extend(last),
        }
    }
    Ok(())
}

/// The stage that a node's name starts with.
fn stage(node: &str) -> &str {
    node.split('/').next().unwrap_or(node)
}

fn describe(what: Leftovers) -> &'static str {
    match what {
        Leftovers::Partial => "what unfinished nodes would resume from",
        Leftovers::Logs => "logs of nodes that are gone",
        Leftovers::Events => "event files of results that are gone",
        Leftovers::Pixels => "prepared pixels that nobody has read for 30 days",
        Leftovers::Runs => "records of runs",
        Leftovers::Fragments => "what killed commands left",
        Leftovers::Differing => "outputs that `verify --rerun` kept",
    }
}

fn in_json(garbage: &Garbage, removed: bool) -> serde_json::Value {
    let results = garbage.results.iter().map(|(node, unneeded)| {
        json!({ "node": node, "stage": stage(node), "results": unneeded.count, "bytes": unneeded.bytes })
    });
    let leftovers = garbage
        .leftovers
        .iter()
        .map(|(what, unneeded)| json!({ "what": describe(*what), "count": unneeded.count, "bytes": unneeded.bytes }));
    json!({
        "removed": removed,
        "bytes": garbage.bytes(),
        "kept": garbage.kept,
        "results": results.collect::<Vec<_>>(),
        "leftovers": leftovers.collect::<Vec<_>>(),
    })
}
