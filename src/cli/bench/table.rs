//! `maple-pipe bench table`: the projected time of a pipeline.

use clap::Args;
use petgraph::graph::NodeIndex;

use super::super::project::{PipelineArguments, Project, Selection};
use super::super::terminal::{print, print_json, say};
use super::learners::Machine;
use crate::backbone::Backbone;
use crate::bench::{Projected, Projection, projection};
use crate::error::{Error, Result};
use crate::graph::Source;
use crate::stages::pretrain::Pretrain;
use crate::text::{columns, duration, nodes};
use crate::weights::{PublishedWeights, Shapes, known};

/// The time that a pipeline would take here, from measured steps and evaluations, and the sizes of its data sets
///
/// Neither data nor weights need be there: the manifests say how large the data sets are, and weights are random. Each method is
/// measured with two or three numbers of classes; between these, times are taken to lie on a line. A learner that works on
/// image features takes up those of 16 images of each class. As many nodes run at a time as `--at-once` says, and a worker
/// stays for the nodes of its method; reading and decoding test images is not counted in (`bench images`). Nothing is looked up
/// in a store: all nodes are counted, whether they have run or not.
#[derive(Args, Debug)]
pub(crate) struct Table {
    #[command(flatten)]
    pipeline: PipelineArguments,
    #[command(flatten)]
    selection: Selection,
    /// The model where a node's weights are not there and have no published name, e.g. `ViT-B/16`
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object: `rows`, `seconds`, and what was measured
    #[arg(long)]
    json: bool,
}

impl Table {
    pub(crate) fn run(self) -> Result<()> {
        let other = self.arch.as_deref().map(Backbone::named).transpose()?;
        let project = self.pipeline.open()?;
        let wanted = self.selection.of(&project)?;
        let backbone = |index| backbone(&project, index, other);
        let projection = projection(project.graph, &wanted, &backbone, &|| self.machine.conditions_of_run(), &say)?;
        if self.json { print_json(&projection) } else { print(&text(&project.pipeline.name, &projection)) }
    }
}

/// The model of a node: of the stage that trains it, of published weights by their name, of the file, or `other`.
fn backbone(project: &Project, index: NodeIndex, other: Option<Backbone>) -> Result<Backbone> {
    let node = project.graph.node(index);
    let trained = node.source("weights").and_then(|source| project.graph.node(source).work.as_kind::<Pretrain>());
    if let Some(Pretrain(pretraining)) = trained {
        return Ok(Backbone::openai(pretraining.architecture));
    }
    let input = node.inputs.iter().find(|input| input.is_of("weights"));
    let absent = input.and_then(|input| project.graph.absent_name(input));
    if let Some(published) = absent.and_then(PublishedWeights::find) {
        return Ok(published.backbone);
    }
    if let Some(Source::File(path)) = input.map(|input| &input.source) {
        let shapes = Shapes::read_clip(path)?;
        let given = node.work.backbone().copied().unwrap_or_default();
        return known(path, &shapes, &given, false)?.backbone(shapes.origin());
    }
    other.ok_or_else(|| {
        let message = format!("the sizes of the model of `{}` are not known before its weights are there", node.name);
        Error::hinted(message, "name a model of these sizes, e.g. `--arch ViT-B/16`")
    })
}

fn text(pipeline: &str, projection: &Projection) -> String {
    let header = ["method", "trainings", "steps", "time", "evaluations", "images", "time", "starts", "all"];
    let line = |row: &Projected| {
        vec![
            row.method.clone(),
            row.trainings.to_string(),
            row.steps.to_string(),
            duration(row.training_seconds),
            row.evaluations.to_string(),
            row.images.to_string(),
            duration(row.evaluation_seconds),
            duration(row.start_seconds),
            duration(row.seconds),
        ]
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(header.map(str::to_owned).to_vec()).chain(projection.rows.iter().map(line)).collect();
    let mut text = format!(
        "{pipeline} on {}, {}\n\n{}\nabout {} in all\n",
        projection.device,
        match projection.at_once {
            1 => "one node after another".to_owned(),
            many => format!("{many} nodes at a time"),
        },
        columns(&rows),
        duration(projection.seconds)
    );
    if projection.not_counted > 0 {
        text += &format!("not counted in: {}, of which nothing is measured\n", nodes(projection.not_counted));
    }
    text
}
