//! What `--json` says of nodes: the same words in every command.

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::project::{Inspection, Project};
use crate::graph::{Counts, Explainer, Explanation, Standing};
use crate::run::Forecast;

/// How the nodes of a pipeline stand.
#[derive(Debug, Serialize)]
pub(super) struct StandingReport<'a> {
    pub pipeline: &'a str,
    /// Of all selected nodes.
    pub counts: Counts,
    /// About what running them takes, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    pub nodes: Vec<NodeReport<'a>>,
}

/// How one node stands, and why.
#[derive(Debug, Serialize)]
pub(super) struct NodeReport<'a> {
    pub node: &'a str,
    pub stage: &'a str,
    pub state: Standing,
    #[serde(flatten)]
    pub explanation: Explanation<'a>,
}

impl<'a> NodeReport<'a> {
    pub(super) fn new(
        project: &'a Project,
        inspection: &Inspection,
        explainer: &Explainer<'a>,
        index: NodeIndex,
    ) -> NodeReport<'a> {
        let node = project.graph.node(index);
        NodeReport {
            node: &node.name,
            stage: &node.stage_name,
            state: inspection.plan.state(index).into(),
            explanation: explainer.explain(index),
        }
    }
}
