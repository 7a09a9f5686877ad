//! Measures this program: the engine beside ninja, the reading of images beside Pillow, learners beside what the machine could do.

mod child;
mod dag;
mod images;
mod learner;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use child::{Measured, measure, measure_commands};
use dag::Dag;
pub use images::{ImageFigures, ImageRow, images};
pub use learner::{Case, Conditions, Row as LearnerRow};
pub use table::{Projected, Projection, projection};

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// About so many nodes.
    pub nodes: usize,
    /// Files in the input folders.
    pub files: usize,
    /// How often each command is timed.
    pub runs: usize,
    /// Nodes at the same time.
    pub jobs: usize,
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
    /// With ninja, where it is installed and does such a thing.
    pub ninja: Option<f64>,
}

/// Measures `maple-pipe` and, where it is installed, ninja, in turns.
pub fn dag(options: Options) -> Result<DagFigures> {
    let folder = tempfile::tempdir().map_err(Error::io("write in", std::env::temp_dir()))?;
    let dag = Dag::new(folder.path(), options.nodes, options.files);
    dag.write()?;
    // A file written just now is hashed on every run; nobody measures that.
    std::thread::sleep(Duration::from_secs(3));
    let mut bench = Bench {
        program: std::env::current_exe().map_err(Error::io("find", "the running program"))?,
        has_ninja: Command::new("ninja").arg("--version").output().is_ok(),
        folder: folder.path(),
        jobs: options.jobs,
        peak_memory: 0,
    };
    let rows = bench.rows(&dag, options.runs)?;
    let Options { files, runs, jobs, .. } = options;
    let (nodes, nodes_of_a_seed) = (dag.nodes(), dag.nodes_of_a_seed());
    Ok(DagFigures { nodes, nodes_of_a_seed, files, runs, jobs, rows, peak_memory: bench.peak_memory })
}

struct Bench<'a> {
    program: PathBuf,
    has_ninja: bool,
    folder: &'a Path,
    jobs: usize,
    peak_memory: u64,
}

impl Bench<'_> {
    fn rows(&mut self, dag: &Dag<'_>, runs: usize) -> Result<Vec<Row>> {
        let (mut first, mut nothing, mut status, mut dry) = <(Times, Times, Times, Times)>::default();
        let (mut changed, mut beyond, mut back) = <(Times, Times, Times)>::default();
        for time in 0..runs {
            dag.forget(time)?;
            self.both(&mut first, &["run"], &[])?;
        }
        for _ in 0..runs {
            self.both(&mut nothing, &["run"], &[])?;
            self.both(&mut status, &["status"], &[])?;
            self.both(&mut dry, &["run", "--dry-run"], &["-n"])?;
        }
        for value in 1..=runs {
            dag.change_a_seed(value)?;
            self.both(&mut changed, &["run"], &[])?;
            if self.has_ninja {
                // They read what ninja has made.
                let commands = measure_commands(self.folder, &dag.commands_of_a_seed(), self.jobs)?;
                beyond.ours.push(changed.ours[value - 1] - commands);
                beyond.ninjas.push(changed.ninjas[value - 1] - commands);
            }
            dag.change_a_seed(0)?;
            self.both(&mut back, &["run"], &[])?;
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

    /// Times this program with `ours`, and ninja with `theirs`.
    fn both(&mut self, times: &mut Times, ours: &[&str], theirs: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(ours).arg(dag::PIPELINE).env_remove("MAPLE_STORE").env_remove("MAPLE_DATA");
        if ours == ["run"] {
            command.args(["--jobs", &self.jobs.to_string()]);
        }
        let Measured { seconds, peak_memory } = measure(command.current_dir(self.folder))?;
        times.ours.push(seconds);
        self.peak_memory = self.peak_memory.max(peak_memory);
        if self.has_ninja {
            let mut command = Command::new("ninja");
            command.args(["-j", &self.jobs.to_string()]).args(theirs).current_dir(self.folder);
            times.ninjas.push(measure(&mut command)?.seconds);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    ninjas: Vec<f64>,
}

impl Times {
    fn row(self, what: &'static str) -> Option<Row> {
        let median = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied()
        };
        Some(Row { what, maple_pipe: median(self.ours)?, ninja: median(self.ninjas) })
    }
}
