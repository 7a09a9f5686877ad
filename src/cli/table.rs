//! `maple-pipe table`: the tables of what is up to date, in any format, and where a number comes from.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::measured::measured;
use super::project::{Inspection, PipelineArguments, Project};
use super::terminal::{display, print, print_json, say};
use crate::error::{Error, Result};
use crate::files::{csv, write_output};
use crate::graph::{FEW, Source, kinds, mixed};
use crate::made_by::MadeBy;
use crate::stages::table::{Evaluation, Metrics, TableStage};
use crate::store::Record;
use crate::table::{Cell, Deviation, Label, Layout, Metric, Score, Table};
use crate::text::did_you_mean;
use crate::text::duration;
use crate::text::few;
use crate::text::{columns, utc};

/// Print the tables of a pipeline, as far as their evaluations are up to date; nothing is run
///
/// What is missing is shown as missing, and an average over less than was asked for says so.
#[derive(Args, Debug)]
pub(super) struct TableCommand {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The form
    #[arg(long, default_value = "markdown")]
    format: Format,
    /// What to show of the spread over seeds, in place of what the pipeline says; LaTeX shows it with this option alone
    #[arg(long, value_name = "WHICH")]
    std: Option<Deviation>,
    /// How to arrange data sets in LaTeX, in place of what the pipeline says
    #[arg(long)]
    layout: Option<Layout>,
    /// Only the table of this node, where there are several
    #[arg(long, value_name = "NODE")]
    table: Option<String>,
    /// Say where a number comes from: the nodes behind it with their keys, artifacts, inputs and times, e.g.
    /// `--trace maple eurosat novel`; the table's own words do, too: `--trace MaPLe EuroSAT Novel`
    #[arg(long, num_args = 3, value_names = ["METHOD", "DATASET", "METRIC"], conflicts_with_all = ["format", "output"])]
    trace: Option<Vec<String>>,
    /// With `--trace`: print one JSON object
    #[arg(long, requires = "trace")]
    json: bool,
    /// With `--format csv`: a row for every evaluation and metric in place of means, with the node, its key, and what computed it
    #[arg(long)]
    long: bool,
    /// Write to this file in place of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Markdown,
    Csv,
    Latex,
}

impl TableCommand {
    pub(super) fn run(self) -> Result<()> {
        if self.long && !matches!(self.format, Format::Csv) {
            return Err(Error::hinted("`--long` is a form of CSV", "add `--format csv`"));
        }
        let (project, held) = self.pipeline.open_held()?;
        let inspection = project.inspect(project.graph.order().to_vec(), &held)?;
        project.mention_absent(&inspection.selection);
        let mut tables = tables(&project, &inspection, &|stage| {
            stage.deviation = self.std.unwrap_or(stage.deviation);
            stage.layout = self.layout.unwrap_or(stage.layout);
        })?;
        if let Some(name) = &self.table {
            let wanted = project.graph.find(name)?;
            tables.retain(|(index, _)| *index == wanted);
        }
        if tables.is_empty() {
            let message = match &self.table {
                Some(name) => format!("`{name}` is no table"),
                None => format!("pipeline `{}` has no table", project.pipeline.name),
            };
            return Err(Error::hinted(message, "a table is a stage of kind `table`"));
        }
        if let Some([method, dataset, metric]) = self.trace.as_deref() {
            return trace(&project, &inspection, &tables, [method, dataset, metric], self.json);
        }
        let record = |index| inspection.plan.record(index);
        let text = |(index, table): &(NodeIndex, Table)| {
            let mixed = mixed(&kinds(project.graph, *index, &record));
            let below = |before: &str| mixed.as_ref().map_or_else(String::new, |line| format!("{before}{line}\n"));
            match self.format {
                Format::Markdown => table.markdown() + &below("\n"),
                Format::Csv => table.csv_with_origins(&|keys| origins(&project, &inspection, *index, keys)),
                Format::Latex if self.std.is_some() => table.latex_with_deviations() + &below("% "),
                Format::Latex => table.latex() + &below("% "),
            }
        };
        let text = if self.long {
            let rows = tables.iter().map(|(index, table)| long(&project, &inspection, *index, table));
            csv(rows.collect::<Result<Vec<_>>>()?.into_iter().flatten())
        } else {
            tables.iter().map(text).collect::<Vec<_>>().join("\n")
        };
        match &self.output {
            Some(path) => {
                write_output(path, text.as_bytes())?;
                say(&format!("wrote {}", display(path)));
                Ok(())
            }
            None => print(&text),
        }
    }
}

/// A row of `--long`: one metric of one evaluation.
#[derive(Serialize)]
struct LongRow<'a> {
    table: &'a str,
    dataset: String,
    method: String,
    seed: Option<i64>,
    shots: Option<u32>,
    classes: String,
    metric: &'static str,
    value: f64,
    node: &'a str,
    key: String,
    made_by: String,
}

/// What the evaluations of a table measured that are up to date.
fn long<'a>(
    project: &'a Project,
    inspection: &'a Inspection,
    index: NodeIndex,
    table: &'a Table,
) -> Result<Vec<LongRow<'a>>> {
    let mut rows = Vec::new();
    for one in measured(project, inspection, index, &|_| true)? {
        let Score { dataset, method, seed, shots, classes, .. } = one.score()?;
        let made_by = one.record.made_by.as_ref().map(ToString::to_string).unwrap_or_default();
        rows.extend(one.metrics()?.into_iter().map(|(metric, value)| LongRow {
            table: &table.name,
            dataset: dataset.clone(),
            method: method.clone(),
            seed,
            shots,
            classes: classes.to_string(),
            metric,
            value,
            node: one.name,
            key: one.record.key.to_string(),
            made_by: made_by.clone(),
        }));
    }
    Ok(rows)
}

/// What computed the evaluations of these keys, and what they needed as far as that used libtorch.
fn origins(project: &Project, inspection: &Inspection, table: NodeIndex, keys: &[String]) -> String {
    let mut made_by = BTreeSet::new();
    for evaluation in evaluations(project, inspection, table, keys) {
        for index in project.graph.up_to(evaluation) {
            let computed = inspection.plan.record(index).and_then(|record| record.made_by.as_ref());
            let counts = |made_by: &&MadeBy| made_by.libtorch.is_some() || index == evaluation;
            made_by.extend(computed.filter(counts).map(ToString::to_string));
        }
    }
    made_by.into_iter().collect::<Vec<_>>().join("; ")
}

/// The evaluations of a table that have these keys.
fn evaluations(project: &Project, inspection: &Inspection, table: NodeIndex, keys: &[String]) -> HashSet<NodeIndex> {
    let keys: HashSet<&str> = keys.iter().map(String::as_str).collect();
    let is_behind = |index: &NodeIndex| {
        inspection.plan.record(*index).is_some_and(|record| keys.contains(record.key.to_string().as_str()))
    };
    project.graph.needs(table).filter(is_behind).collect()
}

/// Every table of a pipeline from the evaluations that are up to date, as its stage, changed by `adapt`, makes it.
pub(super) fn tables(
    project: &Project,
    inspection: &Inspection,
    adapt: &dyn Fn(&mut TableStage),
) -> Result<Vec<(NodeIndex, Table)>> {
    let mut tables = Vec::new();
    for index in project.nodes_as_written() {
        let Some(stage) = project.graph.node(index).work.as_kind::<TableStage>() else { continue };
        let mut stage = stage.clone();
        adapt(&mut stage);
        tables.push((index, table(project, inspection, index, &stage)?));
    }
    Ok(tables)
}

fn table(project: &Project, inspection: &Inspection, index: NodeIndex, stage: &TableStage) -> Result<Table> {
    let mut evaluations = Vec::new();
    let mut published = Vec::new();
    for input in &project.graph.node(index).inputs {
        match &input.source {
            Source::Output(source, output) if input.name.starts_with("evals.") => {
                let classes = project.graph.node(*source).work.classes();
                let output_of = format!("{}:{output}", project.graph.node(*source).name);
                let metrics = inspection.plan.record(*source).and_then(|record| {
                    match project.store.artifact(&record.outputs[&**output]) {
                        Ok(path) => Some((path, record.key.to_string(), output_of)),
                        Err(error) => {
                            say(&format!("counts as missing: `{output_of}`: {error}"));
                            None
                        }
                    }
                });
                evaluations.push((&*input.coordinates, metrics, classes));
            }
            Source::Output(source, output) => {
                let record = inspection.plan.record(*source);
                let path = record.map(|record| project.store.artifact(&record.outputs[&**output]));
                published.extend(path.transpose()?);
            }
            Source::File(path) | Source::Folder(path, _) => published.push(path.clone()),
            Source::Absent(_) => {}
        }
    }
    let evaluations = evaluations.iter().map(|(coordinates, metrics, classes)| {
        let metrics = metrics.as_ref().map(|(path, key, output)| Metrics { path, key, output });
        let evaluation = Evaluation { coordinates, metrics, classes: *classes };
        match evaluation.check() {
            Ok(()) => evaluation,
            // The others can be shown all the same.
            Err(error) => {
                say(&format!("counts as missing: {error}"));
                Evaluation { metrics: None, ..evaluation }
            }
        }
    });
    stage.table(evaluations, published.iter().map(PathBuf::as_path))
}

/// Where a number comes from.
#[derive(Serialize)]
struct Trace<'a> {
    method: &'a str,
    dataset: &'a str,
    metric: String,
    mean: Option<f64>,
    std: Option<f64>,
    note: Option<String>,
    published: Option<f64>,
    /// Every node behind it, each after all it needs.
    nodes: Vec<Origin<'a>>,
}

/// One node behind a number.
#[derive(Serialize)]
struct Origin<'a> {
    node: &'a str,
    key: String,
    note: &'a str,
    started: jiff::Timestamp,
    seconds: f64,
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<&'a MadeBy>,
    /// The digests of what it left, by output.
    artifacts: Vec<(&'a str, String)>,
    /// What it read from outside: input, place, digest.
    inputs: Vec<(&'a str, &'a Path, String)>,
}

fn trace(
    project: &Project,
    inspection: &Inspection,
    tables: &[(NodeIndex, Table)],
    place: [&String; 3],
    json: bool,
) -> Result<()> {
    let Place { table, cell, method, dataset, metric } = find(tables, place)?;
    let metric = metric.name();
    let evaluations = evaluations(project, inspection, table, &cell.keys);
    let order = project.graph.with_needs(|index| evaluations.contains(&index));
    let nodes =
        order.iter().filter_map(|&index| Some(origin(project, index, inspection.plan.record(index)?))).collect();
    let Cell { mean, std, published, .. } = *cell;
    let trace = Trace { method, dataset, metric, mean, std, note: cell.note(), published, nodes };
    if json { print_json(&trace) } else { print(&text(&trace)) }
}

fn origin<'a>(project: &'a Project, index: NodeIndex, record: &'a Record) -> Origin<'a> {
    let node = project.graph.node(index);
    Origin {
        node: &node.name,
        key: record.key.to_string(),
        note: &record.note,
        started: record.started,
        seconds: record.seconds,
        device: record.device.map(|device| device.to_string()),
        made_by: record.made_by.as_ref(),
        artifacts: record.outputs.iter().map(|(name, artifact)| (name.as_str(), artifact.digest.to_string())).collect(),
        inputs: node.read_from_outside(record),
    }
}

/// What a trace is of: the node of a table, a cell of it, and its place under the names that the pipeline uses.
struct Place<'t> {
    table: NodeIndex,
    cell: &'t Cell,
    method: &'t str,
    dataset: &'t str,
    metric: Metric,
}

/// The cell of a place that is named as the pipeline or as the table names it.
fn find<'t>(tables: &'t [(NodeIndex, Table)], [method, dataset, metric]: [&String; 3]) -> Result<Place<'t>> {
    let all = || tables.iter().map(|(_, table)| table);
    let named_so = |label: &'t Label| (&*label.name, [label.name.clone(), label.text.clone()]);
    let method = named("method", method, all().flat_map(|table| &table.methods).map(named_so))?;
    let dataset = named("data set", dataset, all().flat_map(|table| &table.groups).map(|one| named_so(&one.label)))?;
    let metrics = all().flat_map(|table| &table.metrics).map(|&one| (one, [one.name(), one.heading()]));
    let metric = named("metric", metric, metrics)?;
    let cell = |(index, table): &'t (NodeIndex, Table)| {
        let group = table.groups.iter().find(|group| group.label.name == dataset)?;
        let row = table.methods.iter().position(|label| label.name == method)?;
        let column = table.metrics.iter().position(|known| *known == metric)?;
        Some(Place { table: *index, cell: group.rows[row][column].as_ref()?, method, dataset, metric })
    };
    tables.iter().find_map(cell).ok_or_else(|| {
        let metric = metric.name();
        Error::invalid(format!("no evaluation is asked for that gives {metric} of `{method}` on `{dataset}`"))
    })
}

/// The one that is called so: under its first name, or else under its second.
pub(super) fn named<T>(what: &str, given: &str, known: impl Iterator<Item = (T, [String; 2])>) -> Result<T> {
    let mut known: Vec<(T, [String; 2])> = known.collect();
    let place = |which: usize| known.iter().position(|(_, names)| names[which] == given);
    if let Some(place) = place(0).or_else(|| place(1)) {
        return Ok(known.swap_remove(place).0);
    }
    let mut names: Vec<&str> = known.iter().map(|(_, names)| names[0].as_str()).collect();
    names.dedup();
    let both: Vec<&String> = known.iter().flat_map(|(_, names)| names).collect();
    let hint = did_you_mean(given, &both).unwrap_or_else(|| format!("known: {}", names.join(", ")));
    Err(Error::hinted(format!("no table has the {what} `{given}`"), hint))
}

fn text(trace: &Trace<'_>) -> String {
    let Trace { method, dataset, metric, .. } = trace;
    let mean = trace.mean.map_or("missing".to_owned(), |mean| format!("{mean:.2}"));
    let std = trace.std.map_or(String::new(), |std| format!(" ± {std:.2}"));
    let note = trace.note.as_ref().filter(|_| trace.mean.is_some()).map_or(String::new(), |note| format!(", {note}"));
    let published = trace.published.map_or(String::new(), |value| format!(", published {value:.2}"));
    let short = |digest: &str| digest.chars().take(16).collect::<String>();
    let mut text = format!("{method} on {dataset}, {metric}: {mean}{std}{note}{published}\n");
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text += &format!("\n{title}\n{}", columns(&rows));
        }
    };
    let node = |origin: &Origin<'_>| {
        let device = origin.device.clone().unwrap_or_default();
        let Origin { node, key, note, .. } = origin;
        let times = [utc(origin.started), duration(origin.seconds), device];
        [node.to_string(), short(key)].into_iter().chain(times).chain([note.to_string()]).collect()
    };
    section("nodes: key, start, time, device, result", trace.nodes.iter().map(node).collect());
    let artifacts = trace.nodes.iter().flat_map(|origin| {
        origin.artifacts.iter().map(|(name, digest)| vec![origin.node.to_owned(), name.to_string(), short(digest)])
    });
    section("artifacts", artifacts.collect());
    let inputs = trace.nodes.iter().flat_map(|origin| {
        origin
            .inputs
            .iter()
            .map(|(name, path, digest)| vec![origin.node.to_owned(), name.to_string(), short(digest), display(path)])
    });
    section("inputs from outside", inputs.collect());
    let mut made_by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for origin in &trace.nodes {
        let computed = origin.made_by.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        made_by.entry(computed).or_default().push(origin.node.to_owned());
    }
    let made_by = made_by.into_iter().map(|(computed, nodes)| vec![computed, few(FEW, nodes.into_iter())]);
    section("made by", made_by.collect());
    text
}
