//! `maple-pipe run`: executes what is stale and writes the results.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use petgraph::graph::NodeIndex;

use super::{PipelineArguments, Project, Selection, print, say};
use crate::error::Result;
use crate::run::{self, Options, Reporter};
use crate::stage::Output;
use crate::store::{Record, materialise};

/// Execute what is stale, then write the tables to `results/<pipeline>/` and print them
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    /// Say what would run, and why, but run nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// With `--dry-run`, print what `status --json` prints, without the nodes that are up to date
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Nodes at the same time [default: one a processor]
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Threads that running nodes share; results do not depend on it [default: one a processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// After a failure, go on with what does not need the failed node
    #[arg(long, short)]
    keep_going: bool,
    /// Name nodes that are up to date, too
    #[arg(long, short)]
    verbose: bool,
    /// Where tables are written [default: `results` in the pipeline's project]
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        let selection = self.selection.of(&project)?;
        if self.dry_run {
            return super::dry_run::dry_run(&project, selection, self.json);
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let options = Options {
            jobs: self.jobs.map_or(processors, usize::from),
            threads: self.threads.map_or(processors, usize::from),
            keep_going: self.keep_going,
        };
        let mut reporter = Reporter::new(self.verbose);
        let (summary, records) =
            run::run(&project.graph, &selection, &project.store, &project.pipeline.name, options, &mut |event| {
                reporter.report(event);
            })?;
        let results = self.results.unwrap_or_else(|| project.root.join("results")).join(&project.pipeline.name);
        write_results(&project, &records, &results)?;
        run::check(&summary)
    }
}

/// Writes the artifacts of the pipeline's result stages and prints their Markdown.
fn write_results(project: &Project, records: &HashMap<NodeIndex, Record>, folder: &Path) -> Result<()> {
    let mut wrote = false;
    for &index in project.graph.order() {
        let node = project.graph.node(index);
        let Some(record) = records.get(&index) else { continue };
        let results = &project.pipeline.results;
        let wanted = |output: &&Output| results.iter().any(|result| result.means(&node.stage_name, &output.name));
        for output in node.stage.outputs().iter().filter(wanted) {
            let artifact = project.store.artifact_path(&record.outputs[&*output.name]);
            let target = folder.join(node.file_name(output));
            materialise(&artifact, &target)?;
            if output.name == "markdown" {
                print(&format!("\n{}\n", super::read_text(&target)?))?;
            }
            wrote = true;
        }
    }
    if wrote {
        say(&format!("wrote {}", super::display(folder)));
    }
    Ok(())
}
