//! `maple-pipe report`: one file that shows what a pipeline found.

use std::path::PathBuf;

use clap::Args;

use super::project::PipelineArguments;
use super::table::tables;
use super::terminal::{display, say};
use crate::error::Result;
use crate::files::write_output;
use crate::report::{Materials, Report};

/// Write a report on what is up to date of a pipeline: one HTML file that needs nothing else; nothing is run
///
/// Tables that sort, plots, the worst classes and mistakes of each data set, times, and where the numbers come from.
#[derive(Args, Debug)]
pub(super) struct ReportCommand {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The file [default: `report.html` beside the pipeline's results]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ReportCommand {
    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let inspection = project.inspect(project.graph.order().to_vec(), &held)?;
        project.mention_absent(&inspection.selection);
        let materials = Materials {
            pipeline: &project.pipeline,
            graph: project.graph,
            plan: inspection.plan,
            explainer: &project.explainer(&inspection),
            store: &project.store,
            overrides: &self.pipeline.overrides,
            tables: tables(&project, &inspection, &|_| {})?,
        };
        let html = Report::new(materials)?.html();
        let folder = || self.pipeline.results(&project, &project.root.join("results"));
        let path = self.output.unwrap_or_else(|| folder().join("report.html"));
        write_output(&path, html.as_bytes())?;
        say(&format!("wrote {}", display(&path)));
        Ok(())
    }
}
