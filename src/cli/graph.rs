//! `maple-pipe graph`: the DAG as a picture, or as data.

use clap::{Args, ValueEnum};
use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::project::{Inspection, PipelineArguments, Project, Selection};
use super::standing_report::NodeReport;
use super::terminal::{print, print_json};
use crate::coordinates::Coordinates;
use crate::error::Result;
use crate::graph::Counts;
use crate::graph::picture::{By, Picture, dot, mermaid, svg};

/// Selections up to this size are drawn node by node, unless told otherwise.
const FEW: usize = 24;

/// Draw the graph, grouped by stage and coloured by state
#[derive(Args, Debug)]
pub(super) struct GraphCommand {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    /// What is printed
    #[arg(long, default_value = "svg")]
    format: Format,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// What a box of the picture is [default: a node for up to 24 nodes, else a stage]
    #[arg(long)]
    by: Option<BoxIs>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A picture for browsers: `maple-pipe graph PIPELINE > graph.svg`
    Svg,
    /// Graphviz: `maple-pipe graph PIPELINE --format dot | dot -Tpdf > graph.pdf`
    Dot,
    /// Mermaid, which GitHub and GitLab draw in Markdown
    Mermaid,
    /// One document: `stages` and `nodes`, each with `needs`, the names of what it needs directly; nodes as in `status
    /// --json`, with their `coordinates`
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BoxIs {
    /// All nodes of a stage, with a cell for each
    Stage,
    /// One node
    Node,
}

impl GraphCommand {
    pub(super) fn run(self) -> Result<()> {
        let (project, held) = self.pipeline.open_held()?;
        let inspection = project.inspect(self.selection.of(&project)?, &held)?;
        project.mention_absent(&inspection.selection);
        let by = match self.by {
            Some(BoxIs::Stage) => By::Stage,
            Some(BoxIs::Node) => By::Node,
            None if inspection.selection.len() <= FEW => By::Node,
            None => By::Stage,
        };
        let explainer = project.explainer(&inspection);
        let Inspection { selection, plan } = &inspection;
        let picture = || Picture::new(&project.pipeline, project.graph, plan, &explainer, selection, by);
        match if self.json { Format::Json } else { self.format } {
            Format::Dot => print(&dot(&picture())),
            Format::Svg => print(&svg(&picture())?),
            Format::Mermaid => print(&mermaid(&picture())),
            Format::Json => print_json(&Document::new(&project, &inspection)),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    pipeline: &'a str,
    counts: Counts,
    stages: Vec<Stage<'a>>,
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Stage<'a> {
    stage: &'a str,
    kind: &'static str,
    axes: &'a [String],
    counts: Counts,
    needs: Vec<&'a str>,
}

#[derive(Serialize)]
struct Node<'a> {
    #[serde(flatten)]
    report: NodeReport<'a>,
    coordinates: &'a Coordinates,
    needs: Vec<&'a str>,
}

impl<'a> Document<'a> {
    fn new(project: &'a Project, inspection: &'a Inspection) -> Document<'a> {
        let explainer = project.explainer(inspection);
        let Inspection { selection, plan } = inspection;
        let graph = project.graph;
        let needs = |index: NodeIndex| {
            let mut needs: Vec<NodeIndex> = graph.needs(index).collect();
            needs.sort();
            needs.into_iter().map(|needed| graph.node(needed))
        };
        let stages = selection.chunk_by(|&one, &other| graph.node(one).stage_name == graph.node(other).stage_name);
        let stages = stages.map(|nodes| {
            let name = graph.node(nodes[0]).stage_name.as_str();
            let stage = project.pipeline.stage(name).expect("the graph was built from the pipeline");
            let mut needs: Vec<&str> =
                nodes.iter().flat_map(|&index| needs(index)).map(|node| node.stage_name.as_str()).collect();
            needs.sort_unstable();
            needs.dedup();
            let counts = nodes.iter().map(|&index| plan.state(index).into()).collect();
            Stage { stage: name, kind: stage.kind.name, axes: &stage.axes, counts, needs }
        });
        let node = |&index: &NodeIndex| Node {
            report: NodeReport::new(project, inspection, &explainer, index),
            coordinates: &graph.node(index).coordinates,
            needs: needs(index).map(|node| node.name.as_str()).collect(),
        };
        Document {
            pipeline: &project.pipeline.name,
            counts: selection.iter().map(|&index| plan.state(index).into()).collect(),
            stages: stages.collect(),
            nodes: selection.iter().map(node).collect(),
        }
    }
}
