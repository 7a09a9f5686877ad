//! `table`: collects evaluations into CSV, LaTeX, Markdown and a plot.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::eval;
use crate::coordinates::{AxisValue, Coordinates};
use crate::data::Classes;
use crate::error::{Error, Result};
use crate::evaluation::read_metrics;
use crate::kind::{Given, Here, Kind, Place, Port, Work, file};
use crate::plot::blank;
use crate::table::{Deviation, Layout, Order, PublishedNumbers, Score, Table};
use crate::task::Task;

/// Collects evaluations into tables.
pub static KIND: Kind = Kind {
    inputs: &[
        ("evals", "One or several `eval` stages; every node of them is collected."),
        (PUBLISHED, "CSV files with the columns method, dataset, metric and value, to compare with."),
    ],
    outputs: &[
        file("csv", "table.csv"),
        file("latex", "table.tex"),
        file("markdown", "table.md"),
        file("plot", "table.svg"),
    ],
    names_origins: true,
    is_result: true,
    provenance: Some(("table key", None)),
    ..Kind::of::<TableStage>("table", "Collects evaluations into CSV, LaTeX, Markdown and a plot.", 2)
};

/// Parameters of a `table` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableStage {
    /// What the table is called in its CSV.
    #[serde(default = "table")]
    pub name: String,
    /// One sentence on what the table shows.
    pub caption: String,
    /// How data sets and methods are called in print, by their axis value.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Data sets that are shown and do not enter the average, such as the source of a transfer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside_average: Vec<String>,
    /// What to show of the spread over the seeds.
    #[serde(default)]
    pub deviation: Deviation,
    /// How data sets are arranged in LaTeX.
    #[serde(default)]
    pub layout: Layout,
    /// What the published files call a method, by its axis value, where it is not its label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published_as: BTreeMap<String, String>,
    /// A number further than this from the published one is flagged, in percentage points.
    #[serde(default = "one")]
    pub tolerance: f64,
}

fn table() -> String {
    "table".to_owned()
}

fn one() -> f64 {
    1.0
}

/// The port of files with published numbers.
const PUBLISHED: &str = "published";

impl Work for TableStage {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, given: &Given<'_>) -> Result<Vec<Port>> {
        let texts = [("name".to_owned(), &self.name), ("caption".to_owned(), &self.caption)].into_iter();
        let labels = self.labels.iter().map(|(value, label)| (format!("labels.{value}"), label));
        for (key, text) in texts.chain(labels) {
            if text.chars().any(char::is_control) {
                return Err(Error::hinted(
                    format!("`{key}` is printed on one line, but holds a line break or another control character"),
                    "write it on one line; in a text of several lines, `\\` at the end of one joins it with the next",
                )
                .about(key));
            }
        }
        let evals = Port {
            many: true,
            axes: Some((&["dataset", "method"], &["dataset", "method", "seed", "shots", "classes"])),
            ..Port::one("evals", &eval::KIND, vec!["metrics"])
        };
        Ok([evals].into_iter().chain(given.has(PUBLISHED).then(|| Port::anything(PUBLISHED))).collect())
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

/// What a table reads of an evaluation's metrics; a command's may hold nothing else.
#[derive(Deserialize)]
struct Accuracy {
    classes: Classes,
    accuracy: f64,
}

/// What an evaluation left.
#[derive(Clone, Copy, Debug)]
pub struct Metrics<'a> {
    /// The file.
    pub path: &'a Path,
    /// The key of the node.
    pub key: &'a str,
    /// The node and its output, as `node:output`.
    pub output: &'a str,
}

impl Metrics<'_> {
    /// What a table reads of them.
    ///
    /// # Errors
    /// They hold something else, or cannot be read; the message names the node.
    fn read(&self) -> Result<Accuracy> {
        read_metrics(self.path, self.output, |metrics: &Accuracy| metrics.accuracy)
    }
}

/// One evaluation that a table collects.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<'a> {
    /// The axis values of its node.
    pub coordinates: &'a Coordinates,
    /// Its metrics; none where it has not run.
    pub metrics: Option<Metrics<'a>>,
    /// The classes that it is to tell apart, where that is known before it runs.
    pub classes: Option<Classes>,
}

impl Evaluation<'_> {
    /// Whether what it left can enter a table.
    ///
    /// # Errors
    /// It left something else; the message names the node.
    pub fn check(&self) -> Result<()> {
        self.metrics.map_or(Ok(()), |metrics| metrics.read().map(drop))
    }

    /// What enters the table of it.
    ///
    /// # Errors
    /// It left something else, or its axes have no place in a table.
    pub fn score(&self) -> Result<Score> {
        let metrics = self.metrics.map(|metrics| metrics.read()).transpose()?;
        let axis = |name: &str| {
            let value = self.coordinates.get(name).map(ToString::to_string);
            value.ok_or_else(|| Error::invalid(format!("an evaluation has no axis `{name}`")))
        };
        let classes = || match self.coordinates.get("classes") {
            Some(AxisValue::Text(name)) => {
                [Classes::Base, Classes::Novel].into_iter().find(|one| one.to_string() == **name)
            }
            _ => None,
        };
        Ok(Score {
            dataset: axis("dataset")?,
            method: axis("method")?,
            seed: self.integer("seed")?,
            shots: self.integer("shots")?.map(u32::try_from).transpose().map_err(|_| {
                Error::hinted("a number of shots is negative or too large", "give the training images per class")
            })?,
            classes: metrics
                .as_ref()
                .map(|metrics| metrics.classes)
                .or(self.classes)
                .or_else(classes)
                .unwrap_or(Classes::All),
            accuracy: metrics.map(|metrics| metrics.accuracy),
            key: self.metrics.map(|metrics| metrics.key.to_owned()),
        })
    }

    fn integer(&self, axis: &str) -> Result<Option<i64>> {
        match self.coordinates.get(axis) {
            Some(AxisValue::Integer(value)) => Ok(Some(*value)),
            Some(value @ (AxisValue::Text(_) | AxisValue::Float(_))) => {
                Err(Error::hinted(format!("the {axis} `{value}` is no integer"), "write it without quotes and point"))
            }
            None => Ok(None),
        }
    }
}

impl TableStage {
    /// The table of these evaluations, compared with the numbers in `published` files.
    ///
    /// # Errors
    /// When a file cannot be read, or the evaluations do not make a table.
    pub fn table<'a>(
        &self,
        evaluations: impl Iterator<Item = Evaluation<'a>>,
        published: impl Iterator<Item = &'a Path>,
    ) -> Result<Table> {
        let mut order = Order {
            labels: self.labels.clone(),
            deviation: self.deviation,
            layout: self.layout,
            published_as: self.published_as.clone(),
            tolerance: self.tolerance,
            ..Order::default()
        };
        let mut numbers = PublishedNumbers::default();
        for path in published {
            numbers.add(path)?;
        }
        order.published = numbers;
        let scores = evaluations.map(|one| one.score()).collect::<Result<Vec<Score>>>()?;
        for score in &scores {
            add(&mut order.datasets, &score.dataset);
            add(&mut order.methods, &score.method);
        }
        // A narrowed pipeline may be without them.
        order.outside_average = self.outside_average.clone();
        order.outside_average.retain(|name| order.datasets.contains(name));
        Table::new(&self.name, &self.caption, &scores, &order)
    }
}

impl Here for TableStage {
    fn run(&self, task: &Task) -> Result<String> {
        let evaluations = task.all("evals.metrics");
        let evaluations = evaluations.iter().map(|input| {
            let (key, output) = (input.key.as_deref().unwrap_or_default(), input.output.as_deref().unwrap_or_default());
            let metrics = Metrics { path: &input.path, key, output };
            Evaluation { coordinates: &input.coordinates, metrics: Some(metrics), classes: None }
        });
        let is_published = |name: &str| name.split('/').next() == Some(PUBLISHED);
        let published = task.inputs.iter().filter(|(name, _)| is_published(name)).flat_map(|(_, inputs)| inputs);
        let published = published.map(|input| input.path.as_path());
        let count = evaluations.len();
        let table = self.table(evaluations, published)?;
        let texts = [table.csv(), table.latex(), table.markdown(), table.plot().unwrap_or_else(blank)];
        for (name, text) in ["csv", "latex", "markdown", "plot"].into_iter().zip(texts) {
            let path = task.output(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(format!("{count} evaluations"))
    }
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, value: &T) {
    if !list.contains(value) {
        list.push(value.clone());
    }
}
