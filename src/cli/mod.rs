//! The command line: one file a subcommand; each parses its arguments, calls the library and prints. Data goes to
//! standard output, everything else to standard error.

mod bench;
mod completions;
mod data;
mod diff;
mod doctor;
mod dry_run;
mod examples;
mod explain;
mod fewshot;
mod gc;
mod graph;
mod logs;
mod man;
mod node_report;
mod prompts;
mod report;
mod run;
mod runs;
mod schema;
mod status;
mod table;
mod verify;
mod weights;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use petgraph::graph::NodeIndex;

use crate::device::Devices;
use crate::error::{Error, Result};
use crate::graph::{Explainer, Graph, Inspector, Plan};
use crate::identity;
use crate::pipeline::Pipeline;
use crate::run::{DeviceChoice, Options, error_word};
use crate::store::{StatCache, Store};
use crate::text::{bytes, columns, plural, utc};

/// Reproduces the published tables of CLIP prompt learning, and reruns only what changed.
#[derive(Debug, Parser)]
#[command(name = "maple-pipe", version = identity::VERSION, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Status(status::Status),
    Explain(explain::Explain),
    Graph(graph::GraphCommand),
    #[command(subcommand)]
    Bench(bench::Bench),
    Schema(schema::SchemaCommand),
    Logs(logs::Logs),
    Runs(runs::Runs),
    Diff(diff::Diff),
    Table(table::TableCommand),
    Report(report::ReportCommand),
    Verify(verify::Verify),
    Doctor(doctor::Doctor),
    Gc(gc::Gc),
    /// Kills the programs of a run that died; `run` starts it
    #[command(hide = true)]
    Reap,
    Weights(weights::WeightsCommand),
    Data(data::DataCommand),
    Fewshot(fewshot::FewShotCommand),
    Prompts(prompts::PromptsCommand),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The command line with the examples of every command.
fn command() -> clap::Command {
    examples::with_examples(Arguments::command())
}

/// What every command on a pipeline takes.
#[derive(Args, Debug)]
struct PipelineArguments {
    /// The pipeline file, e.g. `pipelines/quickstart.toml`
    pipeline: PathBuf,
    /// Replace a value of the pipeline, e.g. `--set stage.shots.shots=8` or `--set 'axes.seed=[1]'`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    overrides: Vec<String>,
    /// The folder that holds the data sets' folders
    #[arg(long, value_name = "FOLDER", env = "MAPLE_DATA")]
    data_root: Option<PathBuf>,
    /// Where results are kept [default: `.maple` in the pipeline's project]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    store: Option<PathBuf>,
}

/// What every command on a store takes.
#[derive(Args, Debug)]
struct StoreArguments {
    /// Where results are kept [default: `.maple` in the project of the current folder]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    store: Option<PathBuf>,
}

impl StoreArguments {
    fn open(&self) -> Result<Store> {
        let root = match &self.store {
            Some(root) => root.clone(),
            None => project_root(&here()?)?.join(".maple"),
        };
        let store = Store::open(&root)?;
        if store.root().is_dir() {
            Ok(store)
        } else {
            Err(Error::hinted(
                format!("there is no store at `{}`", display(store.root())),
                "go to the project's folder, or name its store with `--store`; `maple-pipe run` makes it",
            ))
        }
    }
}

/// What every command that executes nodes takes.
#[derive(Args, Debug)]
struct WorkArguments {
    /// Nodes at the same time [default: one a processor]
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Threads that running nodes share; results do not depend on it [default: one a processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Where nodes that need libtorch compute, e.g. `cpu`, `cuda:0,cuda:1`, or `cuda:0*4` for four nodes at once on one
    /// card [default: the cards that libtorch sees, else `cpu`]
    #[arg(long, value_name = "DEVICES")]
    devices: Option<String>,
    /// Do not keep the pixels of images in the store once they are decoded: of evaluation images as the vision tower sees
    /// them (150 kB each at 224 pixels), of training images whole; results do not depend on it
    #[arg(long)]
    no_pixel_cache: bool,
}

impl WorkArguments {
    fn options(&self, keep_going: bool) -> Result<Options> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(processors, usize::from);
        let named = self.devices.as_ref().map(|text| Devices::parse(text, jobs)).transpose()?;
        let devices = DeviceChoice::new(named, jobs);
        let threads = self.threads.map_or(processors, usize::from);
        Ok(Options { jobs, threads, devices, keep_going, pixel_cache: !self.no_pixel_cache })
    }
}

/// What every command on many nodes takes.
#[derive(Args, Debug)]
struct Selection {
    /// Only nodes whose name matches, and what they need, e.g. `--only 'train/*/seed1'`
    #[arg(long, value_name = "GLOB")]
    only: Option<String>,
}

impl Selection {
    /// The selected nodes, in order.
    fn of(&self, project: &Project) -> Result<Vec<NodeIndex>> {
        project.graph.select(self.only.as_deref())
    }
}

/// A pipeline with its graph and its store.
struct Project {
    pipeline: Pipeline,
    graph: Graph,
    store: Store,
    root: PathBuf,
}

/// How the selected nodes of a project stand.
struct Inspection {
    selection: Vec<NodeIndex>,
    plan: Plan,
}

impl Project {
    /// Finds how the selected nodes, which are in order, stand, without running anything.
    fn inspect(&self, selection: Vec<NodeIndex>) -> Result<Inspection> {
        let cache = StatCache::open(self.store.stat_cache());
        let plan = Plan::new(&Inspector::new(&self.graph, &self.store, &cache), &selection)?;
        // A store that cannot be written can still be read: only the next hashing takes longer.
        let _ = self.store.keep_digests(&cache);
        Ok(Inspection { selection, plan })
    }

    /// All nodes, with the stages in the order in which the pipeline's file has them.
    fn nodes_as_written(&self) -> Vec<NodeIndex> {
        let place = |&index: &NodeIndex| {
            let name = &self.graph.node(index).stage_name;
            self.pipeline.stages.iter().position(|stage| stage.name == *name)
        };
        let mut nodes = self.graph.order().to_vec();
        nodes.sort_by_cached_key(place);
        nodes
    }

    /// Says why a selected node would run, or not.
    fn explainer<'a>(&'a self, inspection: &'a Inspection) -> Explainer<'a> {
        let Inspection { selection, plan } = inspection;
        Explainer::new(&self.graph, plan, selection, &self.store, &self.pipeline.name)
    }
}

impl PipelineArguments {
    /// The pipeline's absolute path.
    fn file(&self) -> Result<PathBuf> {
        std::path::absolute(&self.pipeline).map_err(Error::io("resolve", &self.pipeline))
    }

    fn open(&self) -> Result<Project> {
        // Paths are kept in JSON, in the stat cache and in the tasks of workers.
        for path in [Some(&self.pipeline), self.data_root.as_ref(), self.store.as_ref()].into_iter().flatten() {
            if path.to_str().is_none() {
                let message = format!("the path `{}` is not plain UTF-8", path.display());
                return Err(Error::hinted(message, "rename the folder, or make a link to it with a plain name"));
            }
        }
        let pipeline = Pipeline::read(&self.pipeline, &self.overrides)?;
        let graph = Graph::build(&pipeline, self.data_root.as_deref())?;
        let root = project_root(self.file()?.parent().unwrap_or(Path::new("/")))?;
        let store = Store::open(self.store.as_deref().unwrap_or(&root.join(".maple")))?;
        Ok(Project { pipeline, graph, store, root })
    }
}

/// The nearest folder at or above an absolute one that is a project: it has a `.maple` or a `.git`. Without one, the
/// folder one is in.
fn project_root(folder: &Path) -> Result<PathBuf> {
    let is_project = |folder: &&Path| folder.join(".maple").is_dir() || folder.join(".git").exists();
    folder.ancestors().find(is_project).map_or_else(here, |root| Ok(root.to_owned()))
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(Error::io("find", "the current folder"))
}

/// Runs the command line; 0 done, 1 a node failed, 2 the input is wrong.
pub fn main() -> ExitCode {
    let arguments = Arguments::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let result = match arguments.command {
        Command::Run(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Graph(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Logs(command) => command.run(),
        Command::Runs(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Table(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Reap => {
            crate::run::reap(std::io::stdin().lock());
            Ok(())
        }
        Command::Weights(command) => command.run(),
        Command::Data(command) => command.run(),
        Command::Fewshot(command) => command.run(),
        Command::Prompts(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn complain(error: &Error) {
    match error {
        Error::Pipeline(_) => say(&error.to_string()),
        // Every failed node has been reported where it failed.
        Error::NodesFailed { .. } | Error::Interrupted => {}
        _ => {
            say(&format!("{}: {error}", error_word()));
            if let Some(hint) = error.hint() {
                say(&format!("hint: {hint}"));
            }
        }
    }
}

/// Prints a line to standard error; if nobody can read it, that is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// For commands that must wait for others.
fn say_waiting() {
    say("another command is using the store, waiting for it to end");
}

/// Prints to standard output; a reader that has gone away (`| head`) is no mistake.
fn print(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Prints a value as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::format("standard output", "JSON value", error))?;
    print(&(text + "\n"))
}

/// The progress of a download on standard error, which nobody sees unless that is a terminal.
fn download_bar(name: &str) -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style).with_message(name.to_owned())
}

/// A path as short as it can be said from the folder one is in.
fn display(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
