//! A report on a pipeline in one file: what its tables, trainings, evaluations and runs say, gathered from the store.

mod attention;
mod calibration;
mod diagram;
mod evaluation;
mod features;
mod materials;
mod matrix;
mod page;
mod projection;
mod thumbnail;

use std::collections::{BTreeMap, HashSet};

pub use attention::{DatasetAttention, ExampleImage};
pub use calibration::MethodCalibration;
pub use evaluation::{ClassRow, Confusion, DatasetDetail, Mistake};
pub use materials::Materials;
pub use matrix::Matrix;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::graph::picture::{By, Picture};
use crate::graph::{Counts, kinds, mixed};
use crate::kind::Section;
use crate::plot::{Plot, Series};
use crate::stages::train::Epoch;
use crate::store::{NodeEnd, RunNode, RunRecord};
use crate::table::Table;

/// What a report shows.
#[derive(Debug)]
pub struct Report {
    /// The pipeline's name.
    pub name: String,
    /// How many nodes stand how.
    pub counts: Counts,
    /// The time behind all results that are up to date, in seconds.
    pub seconds: f64,
    /// When it was made, UTC.
    pub made: jiff::Timestamp,
    /// The tables, each with a line where it was made on several kinds of processor or card.
    pub tables: Vec<(Table, Option<String>)>,
    /// Of each table, how far its methods are apart, column by column.
    pub matrices: Vec<Vec<Matrix>>,
    /// Losses by epoch, a plot per data set.
    pub training: Vec<String>,
    /// Features of test images in a plane, a plot per data set.
    pub features: Vec<String>,
    /// Where class tokens look in example images, by data set.
    pub attentions: Vec<DatasetAttention>,
    /// What evaluations say beyond accuracy, by data set.
    pub datasets: Vec<DatasetDetail>,
    /// The DAG with states, as SVG.
    pub dag: String,
    /// The time of each stage.
    pub stages: Vec<StageTime>,
    /// The runs that made what is shown, newest first.
    pub runs: Vec<MakingRun>,
    /// Results that are shown, and of which no run is recorded any more.
    pub of_unknown_runs: usize,
    /// What was set in place of the pipeline's own values, as `--set` takes it.
    pub overrides: Vec<String>,
    /// What computed the results, and how many of them.
    pub made_by: Vec<(String, usize)>,
    /// What the results were made from: a name, a place or note, and a digest.
    pub provenance: Vec<[String; 3]>,
}

/// A run that made something that is shown.
#[derive(Debug)]
pub struct MakingRun {
    /// The run.
    pub run: RunRecord,
    /// How many of the results that are shown it made.
    pub made: usize,
    /// Its nodes that ran.
    pub nodes: Vec<RunNode>,
}

/// The time that the nodes of a stage took.
#[derive(Debug)]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// Its nodes that are up to date.
    pub nodes: usize,
    /// Their time in all, and the longest, in seconds.
    pub seconds: (f64, f64),
}

impl Report {
    /// Gathers what the store has.
    ///
    /// # Errors
    /// When an artifact or the record of a run cannot be read.
    pub fn new(materials: Materials<'_>) -> Result<Report> {
        let counts = materials.graph.order().iter().map(|&index| materials.plan.state(index).into()).collect();
        let picture = Picture::new(
            materials.pipeline,
            materials.graph,
            materials.plan,
            materials.explainer,
            materials.graph.order(),
            By::Stage,
        );
        let (runs, of_unknown_runs) = making_runs(&materials)?;
        Ok(Report {
            name: materials.pipeline.name.clone(),
            counts,
            seconds: materials.fresh().map(|(_, record)| record.seconds).sum(),
            made: jiff::Timestamp::now(),
            training: training(&materials)?,
            features: features::planes(&materials)?,
            attentions: attention::attentions(&materials)?,
            datasets: evaluation::details(&materials)?,
            dag: crate::graph::picture::svg(&picture)?,
            stages: stages(&materials),
            runs,
            of_unknown_runs,
            overrides: materials.overrides.to_vec(),
            made_by: made_by(&materials),
            provenance: provenance(&materials),
            matrices: materials.tables.iter().map(|(_, table)| matrix::matrices(table)).collect(),
            tables: {
                let record = |index| materials.plan.record(index);
                let note = |index| mixed(&kinds(materials.graph, index, &record));
                materials.tables.into_iter().map(|(index, table)| (table, note(index))).collect()
            },
        })
    }
}

/// Losses by epoch: a plot per data set, a line per method, averaged over all else.
fn training(materials: &Materials<'_>) -> Result<Vec<String>> {
    // By data set, method and epoch: the losses. Names keep the order in which they come.
    let mut datasets: Vec<String> = Vec::new();
    let mut methods: Vec<String> = Vec::new();
    let mut losses: BTreeMap<(usize, usize, u32), Vec<f64>> = BTreeMap::new();
    let place = |names: &mut Vec<String>, name: String| {
        names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        })
    };
    for (index, record) in materials.fresh() {
        let work = &materials.graph.node(index).work;
        if work.kind().section != Some(Section::Training) {
            continue;
        }
        let learner = || work.parameters()["method"]["learner"].as_str().unwrap_or_default().to_owned();
        let dataset = place(&mut datasets, materials.coordinate(index, "dataset").unwrap_or_default());
        let method = place(&mut methods, materials.coordinate(index, "method").unwrap_or_else(learner));
        let path = materials.store.artifact(&record.outputs["log"])?;
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        for line in text.lines() {
            let Epoch { epoch, loss, .. } =
                serde_json::from_str(line).map_err(|error| Error::format(&path, "training log", error))?;
            losses.entry((dataset, method, epoch)).or_default().push(loss);
        }
    }
    let mut plots = Vec::new();
    for (dataset, name) in datasets.iter().enumerate() {
        let points = |method: usize| {
            let own = losses.range((dataset, method, 0)..=(dataset, method, u32::MAX));
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            own.map(|((.., epoch), losses)| (f64::from(*epoch), mean(losses)).into()).collect()
        };
        let series = methods.iter().enumerate().map(|(method, name)| Series {
            label: materials.label(name),
            colour: materials.place(name).unwrap_or(method),
            points: points(method),
            marks: Vec::new(),
        });
        let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
        let title = if name.is_empty() {
            "Training loss".to_owned()
        } else {
            format!("Training loss: {}", materials.label(name))
        };
        plots.extend(Plot { title: &title, x: "epoch", y: "loss", series: &series, joined: true }.svg());
    }
    Ok(plots)
}

fn stages(materials: &Materials<'_>) -> Vec<StageTime> {
    let mut stages: Vec<StageTime> = Vec::new();
    for (index, record) in materials.fresh() {
        let name = &materials.graph.node(index).stage_name;
        match stages.iter_mut().find(|stage| stage.stage == *name) {
            Some(stage) => {
                stage.nodes += 1;
                stage.seconds = (stage.seconds.0 + record.seconds, stage.seconds.1.max(record.seconds));
            }
            None => stages.push(StageTime { stage: name.clone(), nodes: 1, seconds: (record.seconds, record.seconds) }),
        }
    }
    stages
}

/// The runs that made what is up to date, newest first, and how many results none of them made.
fn making_runs(materials: &Materials<'_>) -> Result<(Vec<MakingRun>, usize)> {
    let mut shown: HashSet<Digest> = materials.fresh().map(|(_, record)| record.key).collect();
    let mut making = Vec::new();
    let executed = |run: &RunRecord| run.counts.get(&NodeEnd::Done).is_some_and(|&count| count > 0);
    for run in materials.store.runs()?.into_iter().filter(executed) {
        if shown.is_empty() {
            break;
        }
        let mut nodes = materials.store.run_nodes(&run)?;
        nodes.retain(|node| node.started.is_some() && node.seconds.is_some());
        let done = nodes.iter().filter(|node| node.end == NodeEnd::Done);
        let made = done.filter(|node| node.key.is_some_and(|key| shown.remove(&key))).count();
        if made > 0 {
            making.push(MakingRun { run, made, nodes });
        }
    }
    Ok((making, shown.len()))
}

/// What computed the nodes that are up to date, and how many of them.
fn made_by(materials: &Materials<'_>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, record) in materials.fresh() {
        let made_by = record.made_by.as_ref();
        *counts.entry(made_by.map_or_else(|| "unknown".to_owned(), ToString::to_string)).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// Files from outside, trained weights, and the divisions of data sets, with their digests.
fn provenance(materials: &Materials<'_>) -> Vec<[String; 3]> {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut add = |row: [String; 3]| {
        if !rows.contains(&row) {
            rows.push(row);
        }
    };
    for (index, record) in materials.fresh() {
        let node = materials.graph.node(index);
        for (input, path, digest) in node.read_from_outside(record) {
            let what = input.split('.').next().unwrap_or_default();
            add([what.to_owned(), path.display().to_string(), digest]);
        }
        if let Some((what, output)) = node.work.kind().provenance {
            let digest = output.map_or(record.key, |output| record.outputs[output].digest);
            add([what.to_owned(), node.name.clone(), digest.to_string()]);
        }
    }
    rows.sort();
    rows
}
