//! The selected nodes as boxes and arrows, before they are written in some format: a box is a stage, or a node.

mod dot;
mod mermaid;
mod svg;

use std::collections::{BTreeSet, HashMap};

use petgraph::algo::tred::{dag_to_toposorted_adjacency_list, dag_transitive_reduction_closure};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

use super::{Counts, Explainer, Graph, Plan, Standing};
use crate::pipeline::Pipeline;

/// What a box stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// All nodes of a stage.
    Stage,
    /// One node.
    Node,
}

/// Boxes and arrows.
#[derive(Debug)]
pub struct Picture<'a> {
    /// Of the pipeline.
    pub name: &'a str,
    /// What a box stands for.
    pub by: By,
    /// Each after those that arrows lead from.
    pub boxes: Vec<Block<'a>>,
    /// From and to, as places in `boxes`; in the order of the latter. What follows from other arrows is left out.
    pub arrows: Vec<(usize, usize)>,
}

/// A box.
#[derive(Debug)]
pub struct Block<'a> {
    /// The stage or the node.
    pub title: &'a str,
    /// The stage.
    pub stage: &'a str,
    /// What it does and how its nodes stand, in words.
    pub lines: [String; 2],
    /// Its nodes.
    pub rows: Vec<Row<'a>>,
    /// How many of them stand how.
    pub counts: Counts,
}

/// Nodes in a row, which share their value on the first axis if the row has a label.
#[derive(Debug)]
pub struct Row<'a> {
    /// The value.
    pub label: String,
    /// The nodes.
    pub cells: Vec<Cell<'a>>,
}

/// A node.
#[derive(Debug)]
pub struct Cell<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it stands.
    pub standing: Standing,
    /// Why.
    pub reason: String,
}

impl<'a> Picture<'a> {
    /// A picture of `selection`, which is in order.
    pub fn new(
        pipeline: &'a Pipeline,
        graph: &'a Graph,
        plan: &Plan,
        explainer: &Explainer<'_>,
        selection: &[NodeIndex],
        by: By,
    ) -> Picture<'a> {
        let name = |index: NodeIndex| match by {
            By::Stage => graph.node(index).stage_name.as_str(),
            By::Node => graph.node(index).name.as_str(),
        };
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut members: Vec<Vec<NodeIndex>> = Vec::new();
        let mut arrows = BTreeSet::new();
        for &index in selection {
            let place = *places.entry(name(index)).or_insert(members.len());
            if place == members.len() {
                members.push(Vec::new());
            }
            members[place].push(index);
            arrows.extend(graph.needs(index).map(|needed| (places[name(needed)], place)));
        }
        let cell = |index: NodeIndex| Cell {
            name: &graph.node(index).name,
            standing: plan.state(index).into(),
            reason: explainer.explain(index).to_string(),
        };
        let block = |members: Vec<NodeIndex>| {
            let node = graph.node(members[0]);
            let stage = pipeline.stage(&node.stage_name).expect("the graph was built from the pipeline");
            let (kind, axes) = (stage.kind.name, &stage.axes);
            let counts: Counts = members.iter().map(|&index| Standing::from(plan.state(index))).collect();
            let row = |(label, members): (String, &[NodeIndex])| Row {
                label,
                cells: members.iter().copied().map(cell).collect(),
            };
            let axes: &[String] = if by == By::Stage { axes } else { &[] };
            let rows: Vec<Row<'a>> = rows(graph, axes, &members).into_iter().map(row).collect();
            let what = if axes.is_empty() { kind.to_owned() } else { format!("{kind}: {}", axes.join(" × ")) };
            let standing = match counts.nodes {
                1 => rows[0].cells[0].standing.to_string(),
                count => format!("{count} nodes: {counts}"),
            };
            Block { title: name(members[0]), stage: &node.stage_name, lines: [what, standing], rows, counts }
        };
        let boxes: Vec<Block<'a>> = members.into_iter().map(block).collect();
        Picture { name: &pipeline.name, by, arrows: reduced(boxes.len(), &arrows), boxes }
    }

    /// Of all nodes.
    fn counts(&self) -> Counts {
        let cells = self.boxes.iter().flat_map(|block| &block.rows).flat_map(|row| &row.cells);
        cells.map(|cell| cell.standing).collect()
    }
}

/// The arrows among so many boxes that do not follow from others, in the order of their heads.
fn reduced(boxes: usize, arrows: &BTreeSet<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut graph: DiGraph<(), ()> = DiGraph::new();
    let order: Vec<NodeIndex> = (0..boxes).map(|_| graph.add_node(())).collect();
    graph.extend_with_edges(arrows.iter().map(|&(from, to)| (from as u32, to as u32)));
    // Boxes are in topological order already.
    let (sorted, _) = dag_to_toposorted_adjacency_list::<_, u32>(&graph, &order);
    let (reduction, _) = dag_transitive_reduction_closure(&sorted);
    let mut arrows: Vec<(usize, usize)> =
        reduction.edge_references().map(|edge| (edge.source() as usize, edge.target() as usize)).collect();
    arrows.sort_by_key(|&(from, to)| (to, from));
    arrows
}

/// Arranges the nodes of a box: a row for each value of the first axis, as long as that is neither too wide nor too high,
/// else a block of rows without labels.
fn rows<'m>(graph: &Graph, axes: &[String], members: &'m [NodeIndex]) -> Vec<(String, &'m [NodeIndex])> {
    const LONG: usize = 48;
    if let [first, _, ..] = axes {
        let value = |index: &NodeIndex| &graph.node(*index).coordinates[first];
        let rows: Vec<&[NodeIndex]> = members.chunk_by(|one, other| value(one) == value(other)).collect();
        if rows.len() <= LONG && rows.iter().all(|row| row.len() <= LONG) {
            return rows.into_iter().map(|row| (value(&row[0]).to_string(), row)).collect();
        }
    }
    // Twice as wide as high.
    let width = if members.len() <= LONG / 2 { members.len() } else { (2 * members.len()).isqrt() };
    members.chunks(width).map(|row| (String::new(), row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_other_arrows_is_left_out() {
        let arrows = BTreeSet::from([(0, 1), (0, 2), (1, 2), (0, 3), (2, 4), (3, 4), (1, 4)]);
        assert_eq!(reduced(5, &arrows), [(0, 1), (1, 2), (0, 3), (2, 4), (3, 4)]);
    }
}
