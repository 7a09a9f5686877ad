//! `maple-pipe bench`: how fast this program is on this machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::terminal::print;
use crate::bench::{DagFigures, ImageFigures, ImageRow, Options, dag, images};
use crate::error::{Error, Result};

/// Measure how fast this program is on this machine
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    Dag(Dag),
    Images(Images),
}

/// Images a second from files to what the vision tower reads, beside Pillow where Python has that
#[derive(Args, Debug)]
pub(super) struct Images {
    /// A folder with images
    folder: PathBuf,
    /// Pixels a side of what the tower reads
    #[arg(long, value_name = "N", default_value_t = 224)]
    size: u32,
    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<NonZeroUsize>,
    /// How often everything is timed; the table shows the best
    #[arg(long, value_name = "N", default_value = "3")]
    runs: NonZeroUsize,
    /// Milliseconds that a device is busy with a batch of 100, for the share of its time that it would wait
    #[arg(long, value_name = "N", default_value_t = 50)]
    busy: u64,
    /// The Python that has Pillow
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A DAG of trivial commands, beside the same DAG in ninja where that is installed
#[derive(Args, Debug)]
pub(super) struct Dag {
    /// About so many nodes
    #[arg(long, value_name = "N", default_value_t = 738)]
    nodes: usize,
    /// Files in the input folders
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    files: usize,
    /// How often each command is timed; the table shows medians
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroUsize,
    /// Nodes at the same time
    #[arg(long, short, value_name = "N", default_value = "2")]
    jobs: NonZeroUsize,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Bench::Dag(Dag { nodes, files, runs, jobs, json }) => {
                let report = dag(Options { nodes, files, runs: runs.get(), jobs: jobs.get() })?;
                if json { print_json(&report) } else { print(&table(&report)) }
            }
            Bench::Images(Images { folder, size, threads, runs, busy, python, json }) => {
                let threads: Vec<usize> = threads.into_iter().map(usize::from).collect();
                let report = images(&folder, size, &threads, runs.get(), busy, &python)?;
                if json { print_json(&report) } else { print(&image_table(&report)) }
            }
        }
    }
}

fn print_json(report: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(report).map_err(|error| Error::format("-", "report", error))?;
    print(&(text + "\n"))
}

fn image_table(report: &ImageFigures) -> String {
    let ImageFigures { images, size, rows, busy, waits_for_prepared, waits_for_files } = report;
    let mut text = format!(
        "{images} images to {size} x {size}; images a second\n\n{:<8} {:>12} {:>12} {:>12} {:>12} {:>7}\n",
        "threads", "prepared", "from files", "decoded", "Pillow", "ratio"
    );
    for row in rows {
        let (pillow, ratio) = row.pillow.map_or(("-".to_owned(), "-".to_owned()), |pillow| {
            (format!("{pillow:.0}"), format!("{:.2}", row.decoded / pillow))
        });
        let ImageRow { threads, from_prepared: prepared, from_files: files, decoded, .. } = row;
        text += &format!("{threads:<8} {prepared:>12.0} {files:>12.0} {decoded:>12.0} {pillow:>12} {ratio:>7}\n");
    }
    text += &format!(
        "\na device that is busy {busy} ms with a batch of 100 waits {:.1} % of its time for prepared images, {:.1} % from files\n",
        100.0 * waits_for_prepared,
        100.0 * waits_for_files
    );
    if rows.iter().all(|row| row.pillow.is_none()) {
        text += "\nthis Python has no Pillow: nothing to compare with\n";
    }
    text
}

fn table(report: &DagFigures) -> String {
    let DagFigures { nodes, nodes_of_a_seed, files, runs, jobs, rows, peak_memory } = report;
    let mut text = format!(
        "{nodes} nodes ({nodes_of_a_seed} of them of one seed), {files} input files, {jobs} jobs; medians of {runs}\n\n\
         {:<32} {:>12} {:>12} {:>7}\n",
        "milliseconds", "maple-pipe", "ninja", "ratio"
    );
    for row in rows {
        let ours = format!("{:.1}", row.maple_pipe * 1000.0);
        let (ninja, ratio) = row.ninja.map_or(("-".to_owned(), "-".to_owned()), |ninja| {
            (format!("{:.1}", ninja * 1000.0), format!("{:.2}", row.maple_pipe / ninja))
        });
        text += &format!("{:<32} {ours:>12} {ninja:>12} {ratio:>7}\n", row.what);
    }
    let megabytes = format!("{:.1} MB", *peak_memory as f64 / 1e6);
    text += &format!("{:<32} {megabytes:>12}\n", "peak memory");
    if rows.iter().all(|row| row.ninja.is_none()) {
        text += "\nninja is not installed (Debian calls it ninja-build): nothing to compare with\n";
    }
    text
}
