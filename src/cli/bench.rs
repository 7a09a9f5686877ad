//! `maple-pipe bench`: how fast this program is on this machine.

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};

use super::print;
use crate::bench::{Options, Report, dag};
use crate::error::{Error, Result};

/// Measure how fast this program is on this machine
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    Dag(Dag),
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
        let Bench::Dag(Dag { nodes, files, runs, jobs, json }) = self;
        let report = dag(Options { nodes, files, runs: runs.get(), jobs: jobs.get() })?;
        if json {
            let text = serde_json::to_string(&report).map_err(|error| Error::format("-", "report", error))?;
            return print(&(text + "\n"));
        }
        print(&table(&report))
    }
}

fn table(report: &Report) -> String {
    let Report { nodes, nodes_of_a_seed, files, runs, jobs, rows, peak_memory } = report;
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
