//! The DAG as Graphviz text: nodes grouped by stage, coloured by state.

use std::fmt::Write;

use petgraph::graph::NodeIndex;

use super::{Graph, Plan, State};

/// Graphviz text of the selected nodes.
pub fn dot(graph: &Graph, plan: &Plan, selection: &[NodeIndex], name: &str) -> String {
    let mut text = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=filled];\n", quote(name));
    let mut stages: Vec<&str> = Vec::new();
    for &index in selection {
        let stage = graph.node(index).stage_name.as_str();
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    for stage in stages {
        let _ = writeln!(text, "  subgraph {} {{\n    label={};", quote(&format!("cluster_{stage}")), quote(stage));
        for &index in selection.iter().filter(|index| graph.node(**index).stage_name == stage) {
            let color = match plan.state(index) {
                State::Fresh(_) => "palegreen",
                State::Stale { .. } => "orange",
                State::Pending => "lightgrey",
            };
            let _ = writeln!(text, "    {} [fillcolor={color}];", quote(&graph.node(index).name));
        }
        text += "  }\n";
    }
    for &index in selection {
        let mut needs: Vec<NodeIndex> = graph.needs(index).collect();
        needs.sort();
        for needed in needs {
            let _ = writeln!(text, "  {} -> {};", quote(&graph.node(needed).name), quote(&graph.node(index).name));
        }
    }
    text + "}\n"
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
