//! `maple-pipe verify`: whether the store holds what it says, and whether nodes make the same again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::project::{PipelineArguments, Project, Selection, StoreArguments, WorkArguments};
use super::terminal::{display, print, print_json, say, say_waiting};
use crate::error::{Error, Result};
use crate::run::{self, Rerun};
use crate::store::{Doubtful, Fault, Lock, Owner, Store, Verification};
use crate::text::nodes;
use crate::text::{bytes, plural};

/// Read all artifacts again and name the damaged ones, or execute nodes again and compare what they make
///
/// Reads records, artifacts and prepared pixels. A record or pixels that are gone leave no trace: the next run makes them
/// again. Not read is what no result depends on: records of runs, logs, event files, what `explain` compares with, and
/// digests of input files. Exits with 1 if something is damaged or differs.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// Only what this pipeline needs [default: the whole store]
    pipeline: Option<PathBuf>,
    /// Replace a value of the pipeline
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "pipeline")]
    overrides: Vec<String>,
    /// The folder that holds the data sets' folders
    #[arg(long, value_name = "FOLDER", env = "MAPLE_DATA")]
    data_root: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    selection: Selection,
    /// Remove what is damaged, so that the next run makes it again
    #[arg(long)]
    remove: bool,
    /// Execute the nodes of the pipeline whose name matches again, aside from the store, and compare their outputs
    #[arg(long, value_name = "GLOB", requires = "pipeline", conflicts_with_all = ["remove", "only"])]
    rerun: Option<String>,
    #[command(flatten)]
    work: WorkArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(mut self) -> Result<()> {
        let Some(pipeline) = self.pipeline.take() else {
            if self.selection.only.is_some() {
                return Err(Error::hinted("`--only` needs a pipeline", "`maple-pipe verify PIPELINE --only GLOB`"));
            }
            let store = self.store.open()?;
            return self.read(&store, |store, _| store.verify_all());
        };
        let arguments = PipelineArguments {
            pipeline,
            overrides: std::mem::take(&mut self.overrides),
            data_root: self.data_root.take(),
            store: self.store.store.take(),
        };
        let project = arguments.open()?;
        if let Some(pattern) = &self.rerun {
            return self.rerun(&project, pattern);
        }
        let selection = self.selection.of(&project)?;
        self.read(&project.store, |store, held| {
            let inspection = project.inspect(selection, held)?;
            project.mention_absent(&inspection.selection);
            let last_keys = store.last_keys(&project.pipeline.name);
            // What is not up to date may be so because its last result is damaged.
            let last_key = |index| last_keys.get(&project.graph.node(index).name).copied();
            let key = |index| inspection.plan.record(index).map(|record| record.key).or_else(|| last_key(index));
            store.verify(inspection.selection.iter().filter_map(|&index| key(index)))
        })
    }

    fn read(&self, store: &Store, verify: impl FnOnce(&Store, &Lock) -> Result<Verification>) -> Result<()> {
        let held = if self.remove { store.have_alone(say_waiting)? } else { store.share(say_waiting)? };
        let found = verify(store, &held)?;
        if self.remove {
            store.remove_faults(&found)?;
        }
        if self.json {
            let faults = found.faults.iter().map(|fault| {
                let outputs = fault.outputs.iter().map(|Owner { node, output, .. }| format!("{node}:{output}"));
                json!({
                    "outputs": outputs.collect::<Vec<_>>(),
                    "keys": fault.outputs.iter().map(|owner| owner.key).collect::<Vec<_>>(),
                    "path": fault.path,
                    "missing": fault.missing,
                    "removed": self.remove,
                })
            });
            let doubtful = found.doubtful.iter().map(|one| json!({ "node": one.node, "key": one.key }));
            print_json(&json!({
                "artifacts": found.artifacts,
                "bytes": found.bytes,
                "faults": faults.collect::<Vec<_>>(),
                "doubtful": doubtful.collect::<Vec<_>>(),
            }))?;
        } else {
            let doubtful = found.doubtful.iter().map(doubtful_line);
            print(&found.faults.iter().map(line).chain(doubtful).collect::<String>())?;
        }
        let read = format!("{}, {}", plural(found.artifacts, "artifact", "artifacts"), bytes(found.bytes));
        if found.faults.is_empty() {
            say(&format!("{read}: all as they were made"));
            return Ok(());
        }
        let hint = match (self.remove, found.doubtful.is_empty()) {
            (true, true) => "they were removed: the next `maple-pipe run` makes again what it needs",
            (true, false) => {
                "they were removed, and so were the results that were made from them: the next `maple-pipe run` makes again \
                 what it needs"
            }
            (false, true) => {
                "`maple-pipe verify --remove` removes what is damaged; then `maple-pipe run` makes it again"
            }
            (false, false) => {
                "`maple-pipe verify --remove` removes what is damaged, and the results that were made from it, because they \
                 may have read the damaged bytes; then `maple-pipe run` makes them again"
            }
        };
        let message = format!("{read}: {}", plural(found.faults.len(), "is damaged or lost", "are damaged or lost"));
        Err(Error::Found { message, hint: Some(hint.to_owned()) })
    }

    fn rerun(&self, project: &Project, pattern: &str) -> Result<()> {
        let options = self.work.options(true, &project.settings)?;
        let wanted = project.graph.matching("--rerun", pattern)?;
        let _lock = project.store.share(say_waiting)?;
        let mut results = Vec::new();
        let (mut same, mut failed, mut outcome) = (0, 0, Ok(()));
        run::rerun(project.graph, &wanted, &project.store, &options, &mut |node, rerun| {
            let (word, lines, value) = match rerun {
                Rerun::Same => {
                    same += 1;
                    ("same", Vec::new(), json!({}))
                }
                Rerun::Differs { outputs, made } => {
                    let lines = outputs.iter().map(|(name, path)| format!("  `{name}` is now {}\n", display(path)));
                    (
                        "differs",
                        lines.chain([format!("  {made}\n")]).collect(),
                        json!({
                            "outputs": outputs.iter().cloned().collect::<BTreeMap<_, _>>(), "made": made.to_string(),
                        }),
                    )
                }
                Rerun::Failed(failure) => {
                    failed += 1;
                    let log = failure.log.iter().map(|log| format!("  log: {}\n", display(log)));
                    let lines = std::iter::once(format!("  {}\n", failure.message)).chain(log);
                    ("failed", lines.collect(), json!({ "message": failure.message, "log": failure.log }))
                }
            };
            if self.json {
                let mut value = value;
                value["node"] = json!(node);
                value["result"] = json!(word);
                results.push(value);
            } else if outcome.is_ok() {
                outcome = print(&format!("{word:<8} {node}\n{}", lines.concat()));
            }
        })?;
        outcome?;
        if self.json {
            print_json(&results)?;
        }
        let differing = wanted.len() - same - failed;
        let message = format!("{} made again: {same} same, {differing} differ, {failed} failed", nodes(wanted.len()));
        if same == wanted.len() {
            say(&message);
            return Ok(());
        }
        let hint = "`maple-pipe gc` removes the outputs that were kept for comparison";
        Err(Error::Found { message, hint: (differing > 0).then(|| hint.to_owned()) })
    }
}

fn doubtful_line(doubtful: &Doubtful) -> String {
    format!("doubtful  {} (key {})   made from what is damaged\n", doubtful.node, doubtful.key.short())
}

fn line(fault: &Fault) -> String {
    let word = if fault.missing { "missing" } else { "damaged" };
    let owner = |Owner { node, output, key }: &Owner| format!("{node}:{output} (key {})", key.short());
    let what = match fault.outputs.as_slice() {
        [] => String::new(),
        outputs => format!("{}   ", outputs.iter().map(owner).collect::<Vec<_>>().join(", ")),
    };
    format!("{word}   {what}{}\n", display(&fault.path))
}
