//! What a report is made from.

use std::path::PathBuf;

use petgraph::graph::NodeIndex;
use serde::Deserialize;

use crate::coordinates::AxisValue;
use crate::error::Result;
use crate::files::read_csv;
use crate::graph::{Explainer, Graph, Plan, Source};
use crate::kind::Section;
use crate::pipeline::Pipeline;
use crate::stages::eval::Eval;
use crate::store::{Record, Store};
use crate::table::Table;

/// What a report is made from.
#[derive(Debug)]
pub struct Materials<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Its nodes.
    pub graph: &'a Graph,
    /// How they stand.
    pub plan: &'a Plan,
    /// Why.
    pub explainer: &'a Explainer<'a>,
    /// Where their results lie.
    pub store: &'a Store,
    /// What was set in place of its own values, as `--set` takes it.
    pub overrides: &'a [String],
    /// Its tables, of what is up to date.
    pub tables: Vec<(NodeIndex, Table)>,
}

/// The evaluations of a method on a data set.
pub(super) struct Evaluations<'a> {
    pub(super) dataset: String,
    pub(super) method: String,
    pub(super) nodes: Vec<(NodeIndex, &'a Record)>,
}

impl Materials<'_> {
    /// The nodes that are up to date, in order, with their records.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (NodeIndex, &Record)> {
        self.graph.order().iter().filter_map(|&index| Some((index, self.plan.record(index)?)))
    }

    /// A coordinate of a node as text.
    pub(super) fn coordinate(&self, index: NodeIndex, axis: &str) -> Option<String> {
        self.graph.node(index).coordinates.get(axis).map(ToString::to_string)
    }

    /// What a node's values on other axes than data set, method and seed are, e.g. `novel` or `16 shots`; may be empty.
    pub(super) fn setting(&self, index: NodeIndex) -> String {
        let coordinates = &self.graph.node(index).coordinates;
        let others = coordinates.iter().filter(|(axis, _)| !["dataset", "method", "seed"].contains(&axis.as_str()));
        let words = others.map(|(axis, value)| match value {
            AxisValue::Text(text) => text.to_string(),
            AxisValue::Integer(_) | AxisValue::Float(_) => format!("{value} {axis}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// The evaluations that are up to date, in the order of the nodes.
    pub(super) fn evaluations(&self) -> Vec<Evaluations<'_>> {
        let mut found: Vec<Evaluations<'_>> = Vec::new();
        for (index, record) in self.fresh() {
            let work = &self.graph.node(index).work;
            // What was measured to choose by is no result.
            let is_for_choice = work.as_kind::<Eval>().is_some_and(|eval| !eval.split.is_test());
            if work.kind().section != Some(Section::Evaluation) || is_for_choice {
                continue;
            }
            let dataset = self.coordinate(index, "dataset").unwrap_or_default();
            let method = self.coordinate(index, "method").unwrap_or_default();
            match found.iter_mut().find(|one| one.dataset == dataset && one.method == method) {
                Some(one) => one.nodes.push((index, record)),
                None => found.push(Evaluations { dataset, method, nodes: vec![(index, record)] }),
            }
        }
        found
    }

    /// Where the images that a node reads lie.
    pub(super) fn location(&self, index: NodeIndex) -> Option<PathBuf> {
        let input = self.graph.node(index).inputs.iter().find(|input| input.name == "dataset.location")?;
        match &input.source {
            Source::File(path) | Source::Folder(path, _) => Some(path.clone()),
            Source::Absent(_) => None,
            Source::Output(node, output) => {
                Some(self.store.artifact_path(&self.plan.record(*node)?.outputs[&**output]))
            }
        }
    }

    /// The rows of a CSV file among a node's outputs.
    pub(super) fn rows<T: for<'de> Deserialize<'de>>(&self, record: &Record, output: &str) -> Result<Vec<T>> {
        read_csv(&self.store.artifact(&record.outputs[output])?)
    }

    /// The place of a method in the table with most methods, and so its colour; none where that has it not.
    pub(super) fn place(&self, method: &str) -> Option<usize> {
        let tables = self.tables.iter().map(|(_, table)| table);
        let largest = tables.max_by_key(|table| table.methods.len())?;
        largest.methods.iter().position(|label| label.name == method)
    }

    /// What people call a data set or a method: as the tables do.
    pub(super) fn label(&self, name: &str) -> String {
        let tables = self.tables.iter().map(|(_, table)| table);
        let labels = tables.flat_map(|table| table.methods.iter().chain(table.groups.iter().map(|group| &group.label)));
        labels.into_iter().find(|label| label.name == name).map_or(name, |label| &label.text).to_owned()
    }
}
