//! What many commands take, and what it leads to: a pipeline with its graph and its store.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedI64ValueParser;
use petgraph::graph::NodeIndex;

use super::terminal::{bar, display, say, say_waiting, warning_word};
use crate::device::Devices;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::graph::{Elsewhere, Explainer, Graph, Inspector, Plan, Wait};
use crate::pipeline::Pipeline;
use crate::run::{DeviceChoice, Options, live_jobs};
use crate::settings::Settings;
use crate::store::{Lock, Record, StatCache, Store};
use crate::text::plural;

/// What every command on a pipeline takes.
#[derive(Args, Debug)]
pub(super) struct PipelineArguments {
    /// The pipeline file, e.g. `pipelines/quickstart.toml`
    pub pipeline: PathBuf,
    /// Replace a value of the pipeline, e.g. `--set stage.shots.shots=8` or `--set 'axes.seed=[1]'`
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub overrides: Vec<String>,
    /// The folder that holds the data sets' folders
    #[arg(long, value_name = "FOLDER", env = "MAPLE_DATA")]
    pub data_root: Option<PathBuf>,
    /// Where results are kept [default: `.maple` in the pipeline's project]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    pub store: Option<PathBuf>,
}

/// What every command on a store takes.
#[derive(Args, Debug)]
pub(super) struct StoreArguments {
    /// Where results are kept [default: `.maple` in the project of the current folder]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    pub store: Option<PathBuf>,
}

impl StoreArguments {
    pub(super) fn open(&self) -> Result<Store> {
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

/// How many processes or threads may be asked for.
pub(super) const AT_ONCE: RangeInclusive<i64> = 1..=1024;

/// Reads a number within bounds.
pub(super) fn number(bounds: RangeInclusive<i64>) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(bounds)
}

/// What every command that executes nodes takes.
#[derive(Args, Debug)]
pub(super) struct WorkArguments {
    /// Nodes at the same time [default: one per processor]
    #[arg(long, short, value_name = "N", value_parser = number(AT_ONCE))]
    jobs: Option<u32>,
    /// Threads that running nodes share; results do not depend on it [default: one per processor]
    #[arg(long, value_name = "N", value_parser = number(AT_ONCE))]
    threads: Option<u32>,
    /// Where nodes that need libtorch compute, e.g. `cpu`, `cuda:0,cuda:1`, or `cuda:0*4` for four nodes at once on one
    /// card [default: the cards that libtorch sees, with as many nodes at once as `doctor` says, else `cpu`]
    #[arg(long, value_name = "DEVICES")]
    devices: Option<String>,
    /// Do not keep the pixels of images in the store once they are decoded: of evaluation images as the vision tower sees
    /// them (150 kB each at 224 pixels), of training images whole; results do not depend on it
    #[arg(long)]
    no_pixel_cache: bool,
}

impl WorkArguments {
    /// What the options say, or else the settings.
    pub(super) fn options(&self, keep_going: bool, settings: &Settings) -> Result<Options> {
        let set = &settings.executor;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let count = |option: Option<u32>, set: Option<NonZeroUsize>| {
            option.map_or_else(|| set.map_or(processors, NonZeroUsize::get), |number| number as usize)
        };
        let (jobs, threads) = (count(self.jobs, set.jobs), count(self.threads, set.threads));
        let named = self.devices.as_ref().or(set.devices.as_ref());
        let named = named.map(|text| Devices::parse(text, jobs)).transpose()?;
        let devices = DeviceChoice::new(named, jobs);
        let pixel_cache = !self.no_pixel_cache;
        Ok(Options { keep_going, pixel_cache, ..Options::new(jobs, threads, devices) })
    }
}

/// What every command on many nodes takes.
#[derive(Args, Debug)]
pub(super) struct Selection {
    /// Only nodes whose name matches, and what they need, e.g. `--only 'train/*/seed1'`
    #[arg(long, value_name = "GLOB")]
    pub only: Option<String>,
}

impl Selection {
    /// The selected nodes, in order.
    pub(super) fn of(&self, project: &Project) -> Result<Vec<NodeIndex>> {
        project.graph.select(self.only.as_deref())
    }
}

/// A pipeline with its graph and its store.
pub(super) struct Project {
    /// The pipeline's file, as it was named.
    pub file: PathBuf,
    pub pipeline: Pipeline,
    /// For as long as the program runs: to take ten thousands of nodes apart takes as long as to read a part of them.
    pub graph: &'static Graph,
    pub store: Store,
    pub root: PathBuf,
    pub settings: Settings,
}

/// How the selected nodes of a project stand.
pub(super) struct Inspection {
    pub selection: Vec<NodeIndex>,
    /// As long as the graph.
    pub plan: &'static Plan,
}

impl Project {
    /// Keeps what is in the store from being removed while it is read.
    pub(super) fn hold(&self) -> Result<Lock> {
        self.store.share_if_there(say_waiting)
    }

    /// Finds how the selected nodes, which are in order, stand, without running anything. What it says holds for as long as
    /// the store is held.
    pub(super) fn inspect(&self, selection: Vec<NodeIndex>, held: &Lock) -> Result<Inspection> {
        self.inspect_with(selection, held, None)
    }

    /// The same, which also asks a remote for what the store lacks.
    pub(super) fn inspect_with(
        &self,
        selection: Vec<NodeIndex>,
        _held: &Lock,
        remote: Option<Elsewhere<'_>>,
    ) -> Result<Inspection> {
        let cache = StatCache::open(self.store.stat_cache());
        let inspector = Inspector::new(self.graph, &self.store, &cache).asking(remote);
        let hashing = bar("{msg} [{wide_bar}] {pos}/{len}, {eta} left").with_message("hashing input files");
        let sharing = bar("{msg}");
        let mut say = |wait: &Wait| match wait {
            Wait::Hashing { read, of } => {
                hashing.set_length(*of as u64);
                hashing.set_position(*read as u64);
            }
            Wait::Sharing(traffic) => sharing.set_message(traffic.to_string()),
        };
        let plan = inspector.watch(&selection, &mut say, || Plan::new(&inspector, &selection));
        hashing.finish_and_clear();
        sharing.finish_and_clear();
        let plan = Box::leak(Box::new(plan?));
        // A store that cannot be written can still be read: only the next time takes longer.
        let _ = self.store.keep_digests(&cache);
        let records: Vec<&Record> = selection.iter().filter_map(|&index| plan.record(index)).collect();
        let _ = self.store.keep_records(&self.pipeline.name, &records);
        Ok(Inspection { selection, plan })
    }

    /// Lists what these nodes need from outside and is not there, with the commands that get it.
    pub(super) fn list_absent(&self, nodes: &[NodeIndex]) {
        self.graph.absent(nodes).into_iter().for_each(|absence| say(&format!("{}\n", absence.warning())));
    }

    /// Says that something is not there which these nodes need, and how to see what.
    pub(super) fn mention_absent(&self, nodes: &[NodeIndex]) {
        let count = self.graph.absent(nodes).len();
        if count > 0 {
            let things = plural(count, "data set or file of weights is", "data sets or files of weights are");
            say(&format!("{}: {things} not there, and what needs them is left out", warning_word()));
            say(&format!("hint: `maple-pipe status {}` lists them, and how to get them", self.file.display()));
        }
    }

    /// All nodes, with the stages in the order in which the pipeline's file has them.
    pub(super) fn nodes_as_written(&self) -> Vec<NodeIndex> {
        let place = |&index: &NodeIndex| {
            let name = &self.graph.node(index).stage_name;
            self.pipeline.stages.iter().position(|stage| stage.name == *name)
        };
        let mut nodes = self.graph.order().to_vec();
        nodes.sort_by_cached_key(place);
        nodes
    }

    /// Says why a selected node would run, or not.
    pub(super) fn explainer<'a>(&'a self, inspection: &'a Inspection) -> Explainer<'a> {
        let Inspection { selection, plan } = inspection;
        let jobs = live_jobs(&self.store, &self.settings.executor);
        Explainer::new(self.graph, plan, selection, &self.store, &self.pipeline.name, jobs)
    }
}

impl PipelineArguments {
    /// Where the results go below `folder`: what was set is in the name, e.g. `quickstart+stage.shots.shots=8`, so that a
    /// table of other values or fewer seeds never takes the place of the pipeline's own.
    pub(super) fn results(&self, project: &Project, folder: &Path) -> PathBuf {
        let name = &project.pipeline.name;
        folder.join(self.label().map_or_else(|| name.clone(), |label| format!("{name}+{label}")))
    }

    /// What was set, as a part of a file name, e.g. `stage.shots.shots=8`; what cannot stand in one is told by six digits.
    pub(super) fn label(&self) -> Option<String> {
        const LONG: usize = 100;
        if self.overrides.is_empty() {
            return None;
        }
        let mut overrides: Vec<&str> = self.overrides.iter().map(String::as_str).collect();
        // A value that is set twice is the last one.
        overrides.sort_by_key(|one| one.split('=').next());
        let all = overrides.join(",");
        let plain = |letter: &char| letter.is_ascii_alphanumeric() || "._=-,".contains(*letter);
        let readable: String = all.chars().filter(plain).take(LONG).collect();
        // What is left out is told apart, too.
        let rest =
            if readable == all { String::new() } else { format!("-{}", &Digest::of(all.as_bytes()).short()[..6]) };
        Some(readable + &rest)
    }

    /// The pipeline's absolute path.
    pub(super) fn file(&self) -> Result<PathBuf> {
        std::path::absolute(&self.pipeline).map_err(Error::io("resolve", &self.pipeline))
    }

    /// The project, of whose store the caller reads or removes what it likes.
    pub(super) fn open(&self) -> Result<Project> {
        let (pipeline, root, store) = self.parts()?;
        let graph = Graph::build(&pipeline, self.data_root.as_deref())?;
        self.project(pipeline, graph, root, store)
    }

    /// The project, and its store held: nothing is removed from it while it is read.
    pub(super) fn open_held(&self) -> Result<(Project, Lock)> {
        let (pipeline, root, store) = self.parts()?;
        let held = store.share_if_there(say_waiting)?;
        let build = || Graph::build(&pipeline, self.data_root.as_deref());
        let graph = store.reading_ahead(&held, &pipeline.name, build)?;
        Ok((self.project(pipeline, graph, root, store)?, held))
    }

    /// The pipeline, the project's folder, and its store.
    fn parts(&self) -> Result<(Pipeline, PathBuf, Store)> {
        // Paths are kept in JSON, in the stat cache and in the tasks of workers.
        for path in [Some(&self.pipeline), self.data_root.as_ref(), self.store.as_ref()].into_iter().flatten() {
            if path.to_str().is_none() {
                let message = format!("the path `{}` is not plain UTF-8", path.display());
                return Err(Error::hinted(message, "rename the folder, or make a link to it with a plain name"));
            }
        }
        let pipeline = Pipeline::read(&self.pipeline, &self.overrides)?;
        let root = project_root(self.file()?.parent().unwrap_or(Path::new("/")))?;
        let store = Store::open(self.store.as_deref().unwrap_or(&root.join(".maple")))?;
        Ok((pipeline, root, store))
    }

    fn project(&self, pipeline: Pipeline, graph: Graph, root: PathBuf, store: Store) -> Result<Project> {
        let settings = Settings::read(&root)?;
        Ok(Project { file: self.pipeline.clone(), pipeline, graph: Box::leak(Box::new(graph)), store, root, settings })
    }
}

/// The nearest folder at or above an absolute one that is a project: it has a `.maple` or a `.git`. Without one, the
/// folder one is in.
pub(super) fn project_root(folder: &Path) -> Result<PathBuf> {
    let is_project = |folder: &&Path| folder.join(".maple").is_dir() || folder.join(".git").exists();
    folder.ancestors().find(is_project).map_or_else(here, |root| Ok(root.to_owned()))
}

pub(super) fn here() -> Result<PathBuf> {
    std::env::current_dir().map_err(Error::io("find", "the current folder"))
}
