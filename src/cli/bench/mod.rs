//! `maple-pipe bench`: how fast this program is on this machine.

mod learners;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::project::{AT_ONCE, number};
use super::terminal::{print, print_json};
use crate::bench::{DagFigures, ImageFigures, ImageRow, Options, Peer, Took, dag, images};
use crate::error::Result;
use learners::RUNS;

/// The most pixels per side: a batch of a hundred such images takes 1.3 GB.
const SIZES: i64 = 1024;
/// The most milliseconds that a device is busy.
const BUSY: i64 = 60_000;
/// The most nodes of a DAG.
const NODES: i64 = 1_000_000;
/// The most seconds that another program may take.
const LIMIT: i64 = 1_000_000;
/// The most input files of a DAG.
const FILES: i64 = 10_000_000;

/// Measure how fast this program is on this machine
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    Step(learners::Step),
    Eval(learners::Evaluation),
    Table(table::Table),
    Dag(Dag),
    Images(Images),
}

/// Images per second from files to what the vision tower reads, beside Pillow where Python has that
#[derive(Args, Debug)]
pub(super) struct Images {
    /// A folder with images
    folder: PathBuf,
    /// Pixels per side of what the tower reads
    #[arg(long, value_name = "N", default_value_t = 224, value_parser = number(1..=SIZES))]
    size: u32,
    /// Numbers of threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2", value_parser = number(AT_ONCE))]
    threads: Vec<u32>,
    /// How often everything is timed; the table shows the best
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number(1..=RUNS))]
    runs: u32,
    /// Milliseconds that a device is busy with a batch of 100, for the share of its time that it would wait
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = number(0..=BUSY))]
    busy: u32,
    /// The Python that has Pillow
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A DAG of trivial commands, beside the same DAG in other workflow programs
#[derive(Args, Debug)]
pub(super) struct Dag {
    /// About so many nodes
    #[arg(long, value_name = "N", default_value_t = 738, value_parser = number(0..=NODES))]
    nodes: u32,
    /// Files in the input folders
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = number(0..=FILES))]
    files: u32,
    /// How often each command is timed; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = number(1..=RUNS))]
    runs: u32,
    /// Nodes at the same time
    #[arg(long, short, value_name = "N", default_value_t = 2, value_parser = number(AT_ONCE))]
    jobs: u32,
    /// Other programs: `ninja`, `snakemake`, `dvc`; `NAME=FILE` says where one is [default: `ninja`, if it is installed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Option<Vec<Peer>>,
    /// Seconds that a command of another program may take; one whose first run takes longer does nothing else
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = number(1..=LIMIT))]
    limit: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Bench::Step(step) => step.run(),
            Bench::Eval(evaluation) => evaluation.run(),
            Bench::Table(table) => table.run(),
            Bench::Dag(Dag { nodes, files, runs, jobs, peers, limit, json }) => {
                let [nodes, files, runs, jobs] = [nodes, files, runs, jobs].map(|number| number as usize);
                let report =
                    dag(Options { nodes, files, runs, jobs, peers, limit: Duration::from_secs(limit.into()) })?;
                if json { print_json(&report) } else { print(&table(&report)) }
            }
            Bench::Images(Images { folder, size, threads, runs, busy, python, json }) => {
                let threads: Vec<usize> = threads.into_iter().map(|number| number as usize).collect();
                let report = images(&folder, size, &threads, runs as usize, busy.into(), &python)?;
                if json { print_json(&report) } else { print(&image_table(&report)) }
            }
        }
    }
}

fn image_table(report: &ImageFigures) -> String {
    let ImageFigures { images, size, rows, busy, waits_for_prepared, waits_for_files } = report;
    let mut text = format!(
        "{images} images to {size} x {size}; images per second\n\n{:<8} {:>12} {:>12} {:>12} {:>12} {:>7}\n",
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
    let DagFigures { nodes, nodes_of_a_seed, files, runs, jobs, peers, rows, peak_memory } = report;
    let mut text = format!(
        "{nodes} nodes ({nodes_of_a_seed} of them of one seed), {files} input files, {jobs} jobs; medians of {runs}\n\n\
         {:<32} {:>12}",
        "milliseconds", "maple-pipe"
    );
    peers.iter().for_each(|peer| text += &format!(" {peer:>12} {:>7}", "ratio"));
    text += "\n";
    for row in rows {
        text += &format!("{:<32} {:>12.1}", row.what, row.maple_pipe * 1000.0);
        for peer in peers {
            let (took, ratio) = match row.peers.get(peer) {
                Some(Took::Seconds(seconds)) => {
                    (format!("{:.1}", seconds * 1000.0), format!("{:.2}", row.maple_pipe / seconds))
                }
                Some(Took::Over { over }) => (format!("> {over} s"), format!("< {:.2}", row.maple_pipe / over)),
                None => ("-".to_owned(), "-".to_owned()),
            };
            text += &format!(" {took:>12} {ratio:>7}");
        }
        text += "\n";
    }
    let megabytes = format!("{:.1} MB", *peak_memory as f64 / 1e6);
    text += &format!("{:<32} {megabytes:>12}\n", "peak memory");
    if peers.is_empty() {
        text += "\nninja is not installed (Debian calls it ninja-build): nothing to compare with\n";
    }
    text
}
