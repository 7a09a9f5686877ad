//! Measures this program: the engine beside other workflow programs, the reading of images beside Pillow, learners beside what
//! the machine could do.

mod child;
mod dag;
mod images;
mod learner;
mod peers;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use child::{Measured, measure, measure_commands};
use dag::Dag;
pub use images::{ImageFigures, ImageRow, images};
pub use learner::{Case, Conditions, Row as LearnerRow};
pub use peers::Peer;
use peers::{Action, Kind, installed};
pub use table::{Projected, Projection, projection};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// About so many nodes.
    pub nodes: usize,
    /// Files in the input folders.
    pub files: usize,
    /// How often each command is timed.
    pub runs: usize,
    /// Nodes at the same time.
    pub jobs: usize,
    /// The other programs; ninja where it is installed, if nobody says so.
    pub peers: Option<Vec<Peer>>,
    /// How long a command of another program may take.
    pub limit: Duration,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct DagFigures {
    /// Nodes of the DAG.
    pub nodes: usize,
    /// Nodes that have the seed whose parameter is changed.
    pub nodes_of_a_seed: usize,
    /// Files in the input folders.
    pub files: usize,
    /// Every time is the median of so many.
    pub runs: usize,
    /// Nodes at the same time.
    pub jobs: usize,
    /// The other programs.
    pub peers: Vec<&'static str>,
    /// One for each thing that was done.
    pub rows: Vec<Row>,
    /// The most memory that `maple-pipe` took, in bytes.
    pub peak_memory: u64,
}

/// Median seconds of one thing.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub what: &'static str,
    /// With `maple-pipe`.
    pub maple_pipe: f64,
    /// With each other program that does such a thing, by its name.
    #[serde(flatten)]
    pub peers: BTreeMap<&'static str, Took>,
}

/// How long another program took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Took {
    /// So many seconds.
    Seconds(f64),
    /// More than it may: it was killed.
    Over {
        /// So many seconds.
        over: f64,
    },
}

/// Measures `maple-pipe` and other programs, in turns.
///
/// # Errors
/// A program that was asked for is not installed, or one fails.
pub fn dag(options: Options) -> Result<DagFigures> {
    let folder = tempfile::tempdir().map_err(Error::io("write in", std::env::temp_dir()))?;
    let Options { nodes, files, runs, jobs, peers, limit } = options;
    let peers = installed(peers.as_deref())?;
    let kinds: Vec<Kind> = peers.iter().map(|peer| peer.kind).collect();
    let dag = Dag::new(folder.path(), nodes, files);
    dag.write(&kinds)?;
    // A file written just now is hashed on every run; nobody measures that.
    std::thread::sleep(Duration::from_secs(3));
    let mut bench = Bench {
        program: std::env::current_exe().map_err(Error::io("find", "the running program"))?,
        peers,
        folder: folder.path(),
        jobs,
        limit,
        peak_memory: 0,
    };
    let rows = bench.rows(&dag, runs)?;
    let (nodes, nodes_of_a_seed) = (dag.nodes(), dag.nodes_of_a_seed());
    let peers = kinds.into_iter().map(Kind::name).collect();
    Ok(DagFigures { nodes, nodes_of_a_seed, files, runs, jobs, peers, rows, peak_memory: bench.peak_memory })
}

struct Bench<'a> {
    program: PathBuf,
    /// Without those that were not done with their first run in time: they have nothing to go on from.
    peers: Vec<Peer>,
    folder: &'a Path,
    jobs: usize,
    limit: Duration,
    peak_memory: u64,
}

impl Bench<'_> {
    fn rows(&mut self, dag: &Dag<'_>, runs: usize) -> Result<Vec<Row>> {
        let (mut first, mut nothing, mut status, mut dry) = <(Times, Times, Times, Times)>::default();
        let (mut changed, mut beyond, mut back) = <(Times, Times, Times)>::default();
        for time in 0..runs {
            dag.forget(time)?;
            self.peers.iter().try_for_each(|peer| peer.prepare(self.folder))?;
            self.all(&mut first, Action::Run)?;
            self.peers.retain(|peer| !first.is_over(peer.kind));
        }
        for _ in 0..runs {
            self.all(&mut nothing, Action::Run)?;
            self.all(&mut status, Action::Status)?;
            self.all(&mut dry, Action::DryRun)?;
        }
        for value in 1..=runs {
            dag.change_a_seed(value)?;
            self.all(&mut changed, Action::Run)?;
            if self.peers.iter().any(|peer| peer.kind == Kind::Ninja) {
                // They read what ninja has made.
                let commands = measure_commands(self.folder, &dag.commands_of_a_seed(), self.jobs)?;
                beyond.add_beyond(&changed, commands);
            }
            dag.change_a_seed(0)?;
            self.all(&mut back, Action::Run)?;
        }
        let rows = [
            first.row("first run"),
            nothing.row("no-op run"),
            status.row("status (ninja: no-op run)"),
            dry.row("dry run"),
            changed.row("one seed's parameter changed"),
            beyond.row("  beyond its commands alone"),
            back.row("the parameter set back"),
        ];
        Ok(rows.into_iter().flatten().collect())
    }

    /// Times all programs at one thing.
    fn all(&mut self, times: &mut Times, action: Action) -> Result<()> {
        let mut command = Command::new(&self.program);
        let jobs = self.jobs.to_string();
        let arguments: &[&str] = match action {
            Action::Run => &["run", dag::PIPELINE, "--jobs", &jobs],
            Action::Status => &["status", dag::PIPELINE],
            Action::DryRun => &["run", dag::PIPELINE, "--dry-run"],
        };
        command.args(arguments).env_remove("MAPLE_STORE").env_remove("MAPLE_DATA").env("MAPLE_PIPE_CONFIG", "");
        let measured = measure(command.current_dir(self.folder), None)?;
        times.ours.push(measured.seconds);
        self.peak_memory = self.peak_memory.max(measured.peak_memory);
        for peer in &self.peers {
            if times.is_over(peer.kind) {
                continue;
            }
            if let Some(Measured { seconds, is_over, .. }) = peer.measure(self.folder, action, self.jobs, self.limit)? {
                let took = if is_over { Took::Over { over: seconds } } else { Took::Seconds(seconds) };
                times.peers.entry(peer.kind.name()).or_default().push(took);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    peers: BTreeMap<&'static str, Vec<Took>>,
}

impl Times {
    /// It took longer than it may.
    fn is_over(&self, peer: Kind) -> bool {
        self.peers.get(peer.name()).is_some_and(|times| times.iter().any(|took| matches!(took, Took::Over { .. })))
    }

    /// Adds the last times of others without those that their commands take alone.
    fn add_beyond(&mut self, others: &Times, commands: f64) {
        self.ours.extend(others.ours.last().map(|seconds| seconds - commands));
        for (name, times) in &others.peers {
            if let Some(Took::Seconds(seconds)) = times.last() {
                self.peers.entry(name).or_default().push(Took::Seconds(seconds - commands));
            }
        }
    }

    fn row(self, what: &'static str) -> Option<Row> {
        let peers = self.peers.into_iter().filter_map(|(name, times)| {
            let over = times.iter().find(|took| matches!(took, Took::Over { .. })).copied();
            let seconds =
                times.into_iter().filter_map(|took| if let Took::Seconds(one) = took { Some(one) } else { None });
            Some((name, over.or_else(|| median(seconds.collect()).map(Took::Seconds))?))
        });
        Some(Row { what, maple_pipe: median(self.ours)?, peers: peers.collect() })
    }
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
