//! `maple-pipe doctor`: what this computer has of what pipelines need.

use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::json;

use super::project::{PipelineArguments, Project, here, project_root};
use super::terminal::{print, print_json};
use crate::device::{Device, Devices};
use crate::doctor::{self, Finding, State};
use crate::error::{Error, Result};
use crate::run::Forecast;
use crate::run::{DeviceChoice, Options};
use crate::store::{Lock, Store};
use crate::text::plural;

/// Say what this computer has of what pipelines need, and what a pipeline still lacks, each with the command that mends it
///
/// libtorch, processor, graphics cards, data sets, weights, store, results folder, Slurm. Nothing is run and nothing is
/// written. The exit code is 1 where the pipeline could not run.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// A pipeline file, e.g. `pipelines/base2novel.toml`: what it lacks is said, too
    pipeline: Option<PathBuf>,
    /// Replace a value of the pipeline, e.g. `--set 'axes.seed=[1]'`
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "pipeline")]
    overrides: Vec<String>,
    /// The folder that holds the data sets' folders
    #[arg(long, value_name = "FOLDER", env = "MAPLE_DATA")]
    data_root: Option<PathBuf>,
    /// Where results are kept [default: `.maple` in the project]
    #[arg(long, value_name = "FOLDER", env = "MAPLE_STORE")]
    store: Option<PathBuf>,
    /// Print one JSON document: `can_run`, and `findings`, each with `state` (ok, warning, missing), `subject`, `text`, `hint`
    /// and `details`
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<()> {
        let data_root = self.data_root.clone();
        let folder = match &self.pipeline {
            Some(pipeline) => {
                let file = std::path::absolute(pipeline).map_err(Error::io("resolve", pipeline))?;
                file.parent().unwrap_or(Path::new("/")).to_owned()
            }
            None => here()?,
        };
        let root = project_root(&folder)?;
        let mut findings = doctor::machine();
        findings.extend([doctor::data_root(data_root.as_deref()), doctor::weights(data_root.as_deref())]);
        match Store::open(self.store.as_deref().unwrap_or(&root.join(".maple"))) {
            Ok(store) => findings.push(doctor::store(&store)),
            Err(error) => findings.push(Finding::of_error("store", &error)),
        }
        findings.push(doctor::results(&root.join("results")));
        let json = self.json;
        if let Some(pipeline) = self.pipeline {
            let arguments =
                PipelineArguments { pipeline, overrides: self.overrides, data_root: self.data_root, store: self.store };
            findings.extend(match arguments.open() {
                Ok(project) => lacks(&project, data_root.as_deref(), &project.hold()?),
                Err(error) => doctor::mistakes(&error),
            });
        }
        let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
        if json {
            print_json(&json!({ "can_run": missing == 0, "findings": findings }))?;
        } else {
            print(&text(&findings))?;
        }
        if missing == 0 {
            return Ok(());
        }
        let message = format!("{} missing", plural(missing, "thing is", "things are"));
        Err(Error::Found { message, hint: None })
    }
}

/// What a pipeline that can be read lacks.
fn lacks(project: &Project, data_root: Option<&Path>, held: &Lock) -> Vec<Finding> {
    let inspection = match project.inspect(project.graph.order().to_vec(), held) {
        Ok(inspection) => inspection,
        Err(error) => return doctor::mistakes(&error),
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    // What it takes on the processor is what is known without asking again.
    let devices = DeviceChoice::new(Some(Devices::one(Device::Cpu, jobs)), jobs);
    let options = Options::new(jobs, jobs, devices);
    let Project { graph, store, pipeline, .. } = project;
    let not_fresh = inspection.selection.iter().copied().filter(|&index| inspection.plan.record(index).is_none());
    let not_fresh: Vec<_> = not_fresh.collect();
    let forecast = Forecast::new(graph, store, &pipeline.name, inspection.plan, &not_fresh, &options);
    doctor::graph(graph, inspection.plan, &forecast, store, data_root)
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { state, subject, text: found, hint, .. } in findings {
        let (word, colour) = match state {
            State::Ok => ("ok", AnsiColor::Green),
            State::Warning => ("warning", AnsiColor::Yellow),
            State::Missing => ("missing", AnsiColor::Red),
        };
        let style = Style::new().bold().fg_color(Some(colour.into()));
        text += &format!("{style}{word:<7}{style:#}   {subject:<width$}   {found}\n");
        if let Some(hint) = hint {
            text += &format!("{:7}   {:width$}   hint: {hint}\n", "", "");
        }
    }
    text
}
