//! The evaluations that a table collects, as far as they are up to date.

use std::path::PathBuf;

use petgraph::graph::NodeIndex;
use serde::Deserialize;

use super::project::{Inspection, Project};
use crate::error::Result;
use crate::files::read_json;
use crate::graph::{Input, Source};
use crate::stages::table::{Evaluation, Metrics};
use crate::store::Record;
use crate::table::Score;

/// One of them.
pub(super) struct Measured<'a> {
    pub name: &'a str,
    pub record: &'a Record,
    input: &'a Input,
    /// The node's metrics, and what they are called.
    metrics: (PathBuf, String),
    /// What it took each image for, if it left that.
    pub predictions: Option<PathBuf>,
}

/// What an evaluation may have measured, in percent.
#[derive(Deserialize)]
struct Percentages {
    accuracy: f64,
    macro_f1: Option<f64>,
}

/// Those of a table whose method is `wanted`.
///
/// # Errors
/// What one left is damaged.
pub(super) fn measured<'a>(
    project: &'a Project,
    inspection: &'a Inspection,
    table: NodeIndex,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Measured<'a>>> {
    let is_wanted = |input: &&Input| {
        input.is_of("evals") && input.coordinates.get("method").is_some_and(|method| wanted(&method.to_string()))
    };
    let mut all = Vec::new();
    for input in project.graph.node(table).inputs.iter().filter(is_wanted) {
        let Source::Output(source, output) = &input.source else { continue };
        let Some(record) = inspection.plan.record(*source) else { continue };
        let name = project.graph.node(*source).name.as_str();
        let artifact = |output: &str| record.outputs.get(output).map(|one| project.store.artifact(one)).transpose();
        let path = project.store.artifact(&record.outputs[&**output])?;
        let metrics = (path, format!("{name}:{output}"));
        all.push(Measured { name, record, input, metrics, predictions: artifact("predictions")? });
    }
    Ok(all)
}

impl Measured<'_> {
    /// What enters the table.
    ///
    /// # Errors
    /// It left something else, or its axes have no place in a table.
    pub fn score(&self) -> Result<Score> {
        let (key, (path, output)) = (self.record.key.to_string(), &self.metrics);
        let metrics = Some(Metrics { path, key: &key, output });
        Evaluation { coordinates: &self.input.coordinates, metrics, classes: None }.score()
    }

    /// Every metric that it left.
    ///
    /// # Errors
    /// It left something else.
    pub fn metrics(&self) -> Result<Vec<(&'static str, f64)>> {
        let Percentages { accuracy, macro_f1 } = read_json(&self.metrics.0)?;
        Ok([("accuracy", Some(accuracy)), ("macro_f1", macro_f1)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect())
    }
}
