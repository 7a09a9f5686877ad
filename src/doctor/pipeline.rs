//! What a pipeline still lacks.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::Finding;
use super::data::{Standing, standing};
use super::store::room;
use crate::diagnostic::Diagnostic;
use crate::error::Error;
use crate::graph::{Counts, Graph, Plan, Source};
use crate::run::Forecast;
use crate::stages::dataset::Dataset;
use crate::store::Store;
use crate::text::{bytes, plural};

const SUBJECT: &str = "pipeline";

/// Why a pipeline cannot be read or expanded, one finding a mistake.
pub fn mistakes(error: &Error) -> Vec<Finding> {
    let Error::Pipeline(mistakes) = error else {
        let hint = error.hint().unwrap_or("name another file".into());
        return vec![Finding::missing(SUBJECT, error.to_string(), hint)];
    };
    let mut findings: Vec<Finding> = Vec::new();
    for finding in mistakes.iter().map(mistake) {
        if findings.iter().all(|known| known.text != finding.text) {
            findings.push(finding);
        }
    }
    findings
}

fn mistake(mistake: &Diagnostic) -> Finding {
    let place = mistake.span.as_ref().map_or_else(String::new, |span| {
        let line = span.source.text[..span.range.start.min(span.source.text.len())].matches('\n').count() + 1;
        format!(" ({}:{line})", span.source.name)
    });
    let hint = mistake.hint.clone().unwrap_or_else(|| "mend the pipeline's file".to_owned());
    Finding::missing(SUBJECT, format!("{}{place}", mistake.message), hint)
}

/// How the nodes of a pipeline stand, what its data sets lack, and whether there is room for its results.
pub fn graph(graph: &Graph, plan: &Plan, forecast: &Forecast, store: &Store, root: Option<&Path>) -> Vec<Finding> {
    let counts: Counts = graph.order().iter().map(|&index| plan.state(index).into()).collect();
    let text = format!(
        "{}: {} up to date, {} would run, {} may run after them{}",
        plural(counts.nodes, "node", "nodes"),
        counts.fresh,
        counts.stale,
        counts.waiting,
        counts.and_blocked()
    );
    let mut findings = vec![Finding::ok(SUBJECT, text).details(json!(counts))];
    findings.extend(graph.absent(graph.order()).into_iter().map(mistake));
    findings.extend(data_sets(graph, root));
    let wanted = forecast.results + forecast.pixels;
    if let Some(room) = room(store.root()).filter(|&room| room < wanted) {
        let text = format!("its results take about {}, and {} are free", bytes(wanted), bytes(room));
        let hint = "`--no-pixel-cache` takes less, `--store` names another place, `maple-pipe gc` makes room";
        findings.push(Finding::warning(SUBJECT, text, hint));
    }
    findings
}

/// The data sets of a pipeline that lie in folders of the user's, and are not what their manifests say.
fn data_sets(graph: &Graph, root: Option<&Path>) -> Vec<Finding> {
    let mut folders = BTreeMap::new();
    for &index in graph.order() {
        let node = graph.node(index);
        let Some(stage) = node.work.as_kind::<Dataset>() else { continue };
        for input in &node.inputs {
            if let Source::Folder(folder, _) = &input.source {
                folders.insert(folder, &stage.manifest);
            }
        }
    }
    let mut findings = Vec::new();
    for (folder, manifest) in folders {
        let sums = root.or(folder.parent()).unwrap_or(folder);
        let name = &manifest.folder;
        match standing(manifest, folder, sums) {
            Ok(Standing::Complete) => {}
            Ok(_) => {
                let text = format!("the data set in `{}` is incomplete", folder.display());
                let hint = format!("`maple-pipe data check {name}` says what is missing");
                findings.push(Finding::missing("data set", text, hint));
            }
            Err(error) => {
                let hint = error.hint().unwrap_or("`maple-pipe data check` says more".into());
                findings.push(Finding::missing("data set", error.to_string(), hint));
            }
        }
    }
    findings
}
