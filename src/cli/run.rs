//! `maple-pipe run`: executes what is stale and writes the results.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use petgraph::graph::NodeIndex;
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::on_end;
use super::project::{PipelineArguments, Project, Selection, WorkArguments};
use super::remote::RemoteArguments;
use super::terminal::{display, print, read_text, say, say_waiting};
use crate::diagnostic::Diagnostic;
use crate::download::shown;
use crate::error::{Error, Result};
use crate::executor::{ExecutorName, Queue};
use crate::files::may_be_written;
use crate::graph::{kinds, mixed};
use crate::run::{self, Event, Interrupts, Options, Recorder, Reporter, Summary, Wanted};
use crate::store::{Artifact, Invocation, Lock, Output, Record};
use crate::terminal::is_interactive;
use crate::text::plural;

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
    #[command(flatten)]
    work: WorkArguments,
    /// Where nodes run that compute with libtorch or run a program of yours; all others run where this command runs
    /// [default: what the settings say, else `here`]
    #[arg(long, value_name = "EXECUTOR")]
    executor: Option<ExecutorName>,
    #[command(flatten)]
    remote: RemoteArguments,
    /// After a failure, go on with what does not need the failed node
    #[arg(long, short)]
    keep_going: bool,
    /// Name nodes that are up to date, too
    #[arg(long, short)]
    verbose: bool,
    /// Print each event as a JSON object on a line of standard output, in place of the tables; with `--dry-run`, print what
    /// `status --json` prints, without the nodes that are up to date
    #[arg(long)]
    json: bool,
    /// Where tables are written, in a folder with the pipeline's name; `--set` has a folder of its own, so that it replaces no
    /// other table [default: `results` in the pipeline's project]
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
}

impl Run {
    /// A run of a whole pipeline, as it is without further options.
    pub(super) fn whole(pipeline: PipelineArguments, work: WorkArguments) -> Run {
        Run {
            pipeline,
            selection: Selection { only: None },
            dry_run: false,
            work,
            keep_going: false,
            verbose: false,
            json: false,
            results: None,
            executor: None,
            remote: RemoteArguments::default(),
        }
    }

    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let selection = self.selection.of(&project)?;
        let set = &project.settings.executor;
        let queue = set.queue(self.executor.unwrap_or(set.name));
        queue.as_ref().map_or(Ok(()), |queue| queue.check())?;
        let options = self.work.options(self.keep_going, &project.settings)?;
        let (label, remote) = (self.pipeline.label(), self.remote.open(&project.settings.remote)?);
        let options = Options { label, queue, remote, ..options };
        if self.dry_run {
            return super::dry_run::dry_run(&project, selection, &held, &options, self.json);
        }
        let absent = project.graph.absent(&selection);
        if !absent.is_empty() && !self.keep_going {
            let hint =
                "without them, `--keep-going` runs what does not need them, `--only GLOB` what you name".to_owned();
            let last =
                Diagnostic::new(format!("{} not there", plural(absent.len(), "thing is", "things are"))).hint(hint);
            return Err(Error::Pipeline(absent.into_iter().cloned().chain([last]).collect()));
        }
        project.list_absent(&selection);
        let lock = held.or_of_new(&project.store, say_waiting)?;
        let folder = self.results.clone().unwrap_or_else(|| project.root.join("results"));
        let folder = self.pipeline.results(&project, &folder);
        check_results(&project, &selection, &folder, &lock)?;
        let Project { graph, store, pipeline, .. } = &project;
        let names: Vec<&str> = selection.iter().map(|&index| graph.node(index).name.as_str()).collect();
        let mut recorder = Recorder::new(store, self.invocation(&project)?, &names);
        let id = recorder.id().to_owned();
        let mut reporter = (!self.json).then(|| Reporter::new(self.verbose, selection.len()));
        // What cannot be printed is no reason to stop.
        let mut printed = Ok(());
        let mut report = |event: &Event<'_>| {
            recorder.record(event);
            match &mut reporter {
                Some(reporter) => reporter.report(event),
                None if printed.is_ok() => printed = print(&format!("{}\n", run::json(event))),
                None => {}
            }
        };
        let interrupts = Interrupts::install()?;
        let outputs = |&index: &NodeIndex| {
            results(&project, index, &folder).map(move |(output, _)| (index, output.name.to_string()))
        };
        let results: Vec<(NodeIndex, String)> = selection.iter().flat_map(outputs).collect();
        let wanted = Wanted { nodes: &selection, results: &results };
        let (summary, records) = run::run(graph, wanted, store, &pipeline.name, &options, &interrupts, &mut report);
        // As the graph: to take it apart is of no use.
        let records = Box::leak(Box::new(records));
        if let Err(error) = recorder.keep() {
            say(&format!("this run is not recorded: {error}"));
        }
        let written = write_results(&project, records, &folder);
        drop(lock);
        if let Ok(Results { wrote, tables }) = &written {
            if !self.json {
                printed = print(tables);
            }
            if *wrote {
                say(&format!("wrote {}", display(&folder)));
            }
        }
        on_end::tell(&project.settings.on_end, &said(&summary, &id, &project, &folder));
        if let Some(queue) = options.queue.as_ref().filter(|_| !summary.jobs_left.is_empty()) {
            leave_or_cancel(queue.as_ref(), &summary.jobs_left)?;
        }
        written?;
        run::check(&summary)?;
        printed
    }

    fn invocation(&self, project: &Project) -> Result<Invocation> {
        let data_root = self.pipeline.data_root.as_ref();
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Error::io("resolve", path));
        Ok(Invocation {
            pipeline: project.pipeline.name.clone(),
            file: self.pipeline.file()?,
            data_root: data_root.map(absolute).transpose()?,
            overrides: self.pipeline.overrides.clone(),
            arguments: std::env::args_os().skip(1).map(|one| without_secrets(&one.to_string_lossy())).collect(),
            devices: Vec::new(),
        })
    }
}

/// What the user's command hears of a run: its last event, and which run it was.
fn said(summary: &Summary, id: &str, project: &Project, folder: &Path) -> Value {
    let mut said = run::json(&Event::Finished(summary));
    said["run"] = id.into();
    said["pipeline"] = project.pipeline.name.as_str().into();
    said["results"] = folder.to_string_lossy().into();
    said
}

/// Says which jobs go on, and on a terminal asks whether they should.
fn leave_or_cancel(queue: &dyn Queue, jobs: &[String]) -> Result<()> {
    let name = queue.name();
    let go_on = format!("the jobs in {name} go on");
    if is_interactive() && std::io::stdin().is_terminal() {
        say(&format!("{go_on}; type `cancel` to end them, or press Enter to leave them"));
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if answer.trim() == "cancel" {
            queue.cancel(jobs)?;
            say("cancelled");
            return Ok(());
        }
    }
    say(&format!("{go_on}, and the same command picks them up"));
    say(&format!("hint: `{}` ends them", queue.how_to_cancel(jobs)));
    Ok(())
}

/// An argument as it may be kept: an address loses what may be secret in it.
fn without_secrets(argument: &str) -> String {
    if argument.contains("://") { shown(argument) } else { argument.to_owned() }
}

/// The outputs of a node that are results, with the files that they are written to.
fn results<'p>(
    project: &'p Project,
    index: NodeIndex,
    folder: &'p Path,
) -> impl Iterator<Item = (&'p Output, PathBuf)> + 'p {
    let node = project.graph.node(index);
    let results = &project.pipeline.results;
    let wanted = |output: &&Output| results.iter().any(|result| result.means(&node.stage_name, &output.name));
    node.work.outputs().iter().filter(wanted).map(|output| (output, folder.join(node.file_name(output))))
}

/// Before hours of work: whether what is not there yet can be written.
fn check_results(project: &Project, selection: &[NodeIndex], folder: &Path, lock: &Lock) -> Result<()> {
    let Err(error) = may_be_written(folder) else { return Ok(()) };
    let plan = project.inspect(selection.to_vec(), lock)?.plan;
    let is_there = |index: NodeIndex, (output, target): (&Output, PathBuf)| {
        let record = plan.record(index).and_then(|record| record.outputs.get(&*output.name));
        record.is_some_and(|artifact| Artifact::of(&target).is_ok_and(|(present, _)| present == *artifact))
    };
    let is_lacking = |&&index: &&NodeIndex| results(project, index, folder).any(|result| !is_there(index, result));
    match selection.iter().find(is_lacking) {
        None => Ok(()),
        Some(_) => Err(Error::hinted(
            format!("the results cannot be written to `{}`: {error}", display(folder)),
            "`--results FOLDER` writes them elsewhere",
        )),
    }
}

/// The files of the pipeline's result stages.
#[derive(Default)]
struct Results {
    wrote: bool,
    /// What is to be printed of them.
    tables: String,
}

/// Writes the artifacts of the pipeline's result stages.
fn write_results(project: &Project, records: &FxHashMap<NodeIndex, Arc<Record>>, folder: &Path) -> Result<Results> {
    let mut written = Results::default();
    for index in project.nodes_as_written() {
        let Some(record) = records.get(&index) else { continue };
        for (output, target) in results(project, index, folder) {
            project.store.materialise(&record.outputs[&*output.name], &target)?;
            if output.name == "markdown" {
                let line = mixed(&kinds(project.graph, index, &|needed| records.get(&needed).map(Arc::as_ref)));
                let line = line.map_or_else(String::new, |line| format!("\n{line}\n"));
                written.tables += &format!("\n{}\n{line}", read_text(&target)?);
            }
            written.wrote = true;
        }
    }
    Ok(written)
}
