//! What a report is made from.

use petgraph::graph::NodeIndex;

use crate::graph::{Explainer, Graph, Plan};
use crate::pipeline::Pipeline;
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

impl Materials<'_> {
    /// The nodes that are up to date, in order, with their records.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (NodeIndex, &Record)> {
        self.graph.order().iter().filter_map(|&index| Some((index, self.plan.record(index)?)))
    }

    /// A coordinate of a node as text.
    pub(super) fn coordinate(&self, index: NodeIndex, axis: &str) -> Option<String> {
        self.graph.node(index).coordinates.get(axis).map(ToString::to_string)
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
