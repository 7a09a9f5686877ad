//! `maple-pipe compare`: two methods of a table beside each other, with what chance alone would do.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::measured::{Measured, measured};
use super::project::{Inspection, PipelineArguments, Project};
use super::table::{named, tables};
use super::terminal::{print, print_json};
use crate::comparison::{Comparison, Images, LIMITS, Outcome, compare};
use crate::error::{Error, Result};
use crate::evaluation::PredictionRow;
use crate::files::read_csv;
use crate::table::{Label, Table};
use crate::text::columns;

/// Compare two methods of a pipeline in pairs, as far as their evaluations are up to date; nothing is run
///
/// Over data sets and seeds: the mean difference with its 95 % interval (bootstrap over data sets), and Wilcoxon's signed-rank
/// test. Over test images: McNemar's exact test, where an image counts as right when more than half of the seeds take it for
/// what it is.
#[derive(Args, Debug)]
pub(super) struct Compare {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The method to compare, as the pipeline or the table calls it
    method: String,
    /// The method to compare it with
    other: String,
    /// Only in the table of this node, where there are several
    #[arg(long, value_name = "NODE")]
    table: Option<String>,
    /// Print a JSON array, one object for each table
    #[arg(long)]
    json: bool,
}

/// Two methods of a table.
#[derive(Serialize)]
struct Report {
    table: String,
    /// By the names that the pipeline uses.
    methods: [String; 2],
    columns: Vec<Comparison>,
    /// What a paper may print of each column.
    sentences: Vec<String>,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let inspection = project.inspect(project.graph.order().to_vec(), &held)?;
        let mut tables = tables(&project, &inspection, &|_| {})?;
        if let Some(name) = &self.table {
            let wanted = project.graph.find(name)?;
            tables.retain(|(index, _)| *index == wanted);
        }
        let labels = || tables.iter().flat_map(|(_, table)| &table.methods);
        let method =
            |given| named("method", given, labels().map(|label| (label, [label.name.clone(), label.text.clone()])));
        let methods: [&Label; 2] = [method(&self.method)?, method(&self.other)?];
        if methods[0].name == methods[1].name {
            return Err(Error::hinted(format!("`{}` is compared with itself", methods[0].name), "name two methods"));
        }
        let mut reports = Vec::new();
        for (index, table) in &tables {
            reports.extend(report(&project, &inspection, *index, table, methods)?);
        }
        if reports.is_empty() {
            let [first, second] = methods.map(|method| &method.name);
            return Err(Error::hinted(
                format!("`{first}` and `{second}` have no data set in common of which both are measured"),
                format!("`maple-pipe table {}` shows what is there", project.file.display()),
            ));
        }
        if self.json { print_json(&reports) } else { print(&reports.iter().map(text).collect::<Vec<_>>().join("\n")) }
    }
}

fn report(
    project: &Project,
    inspection: &Inspection,
    index: NodeIndex,
    table: &Table,
    methods: [&Label; 2],
) -> Result<Option<Report>> {
    let names = methods.map(|method| method.name.as_str());
    let outcome = |one: Measured<'_>| {
        let images = one.predictions.as_deref().map(images).transpose()?;
        Ok(Outcome { score: one.score()?, images })
    };
    let measured = measured(project, inspection, index, &|method| names.contains(&method))?;
    let outcomes: Vec<Outcome> = measured.into_iter().map(outcome).collect::<Result<_>>()?;
    let columns = compare(&outcomes, &table.metrics, names, &table.averaged());
    let labels = methods.map(|method| method.text.clone());
    let sentences = columns.iter().map(|column| column.sentence([&labels[0], &labels[1]])).collect();
    let methods = names.map(str::to_owned);
    Ok((!columns.is_empty()).then(|| Report { table: table.name.clone(), methods, columns, sentences }))
}

/// Of each image of an evaluation whether it was taken for what it is.
fn images(path: &Path) -> Result<BTreeMap<String, bool>> {
    let rows: Vec<PredictionRow<'static>> = read_csv(path)?;
    Ok(rows.into_iter().map(|row| (row.path.into_owned(), row.label == row.prediction)).collect())
}

fn text(report: &Report) -> String {
    let Report { table, methods: [first, second], columns: found, .. } = report;
    let header = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let row = |one: &Comparison| {
        let [better, equal, worse] = one.better_equal_worse;
        vec![
            one.metric.clone(),
            one.datasets.len().to_string(),
            format!("{:.2}", one.means[0]),
            format!("{:.2}", one.means[1]),
            format!("{:+.2}", one.difference),
            one.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.2} to {high:+.2}")),
            format!("{better} / {equal} / {worse}"),
            p(one.p_datasets),
            one.pairs.to_string(),
            p(one.p_pairs),
        ]
    };
    let names = [
        "",
        "data sets",
        first,
        second,
        "difference",
        "95 % interval",
        "better / equal / worse",
        "p",
        "with seeds",
        "p",
    ];
    let rows: Vec<Vec<String>> = std::iter::once(header(&names)).chain(found.iter().map(row)).collect();
    let mut text = format!("{table}: {first} beside {second}\n\n{}", columns(&rows));
    let of_images = |one: &Comparison| {
        let Images { both, first_alone, second_alone, neither, p: chance } = one.images?;
        let counts = [both, first_alone, second_alone, neither].map(|count| count.to_string());
        Some([one.metric.clone()].into_iter().chain(counts).chain([p(chance)]).collect::<Vec<_>>())
    };
    let rows: Vec<Vec<String>> = found.iter().filter_map(of_images).collect();
    if !rows.is_empty() {
        let [first_alone, second_alone] = [first, second].map(|name| format!("{name} alone"));
        let names = header(&["images right with", "both", &first_alone, &second_alone, "neither", "p"]);
        text += &format!("\n{}", columns(&std::iter::once(names).chain(rows).collect::<Vec<_>>()));
    }
    text += "\n";
    report.sentences.iter().for_each(|sentence| text += &format!("{sentence}\n"));
    text + "\n" + LIMITS
}

/// A p-value, in words where there is none.
fn p(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 0.0001 => "<0.0001".to_owned(),
        Some(value) => format!("{value:.4}"),
    }
}
