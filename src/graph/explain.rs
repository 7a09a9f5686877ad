//! Why a node is fresh or stale, in words.

use std::collections::BTreeMap;
use std::fmt;

use petgraph::graph::NodeIndex;
use serde_json::Value;

use super::{Graph, Plan, State};
use crate::store::{Digest, Record, Store};

/// The answer to "why would this node run, or not?".
#[derive(Debug)]
pub enum Explanation {
    /// Its record is valid.
    Fresh(Box<Record>),
    /// The pipeline has never finished a node of this name in this store.
    NeverRun,
    /// It ran, but its record is missing or damaged.
    RecordMissing,
    /// The record is there, but this output is missing or damaged.
    OutputMissing(String),
    /// The manifest differs from the one of the last time.
    Changed(Vec<Change>),
    /// These nodes, which it needs, are stale.
    Upstream(Vec<String>),
}

/// One line of difference between two manifests.
#[derive(Debug, Eq, PartialEq)]
pub struct Change {
    /// E.g. `parameters.method.learning_rate`.
    pub path: String,
    /// Before, as JSON; absent where it is new.
    pub before: Option<String>,
    /// Now; absent where it is gone.
    pub now: Option<String>,
}

/// Explains a node of `plan`.
pub fn explain(
    graph: &Graph,
    plan: &Plan,
    store: &Store,
    last_keys: &BTreeMap<String, Digest>,
    index: NodeIndex,
) -> Explanation {
    match plan.state(index) {
        State::Fresh(record) => Explanation::Fresh(record.clone()),
        State::Pending => {
            let mut stale: Vec<NodeIndex> =
                graph.needs(index).filter(|&needed| !matches!(plan.state(needed), State::Fresh(_))).collect();
            stale.sort();
            Explanation::Upstream(stale.into_iter().map(|needed| graph.node(needed).name.clone()).collect())
        }
        State::Stale { key, manifest } => {
            if let Some(output) =
                store.record(key).and_then(|record| store.missing(&record, graph.node(index).stage.outputs()))
            {
                return Explanation::OutputMissing(output.to_owned());
            }
            match last_keys.get(&graph.node(index).name).map(|last| store.record(last)) {
                Some(Some(record)) => Explanation::Changed(changes(&record.manifest.value(), &manifest.value())),
                Some(None) => Explanation::RecordMissing,
                None => Explanation::NeverRun,
            }
        }
    }
}

/// What differs between two manifests, in the order of their paths.
pub fn changes(before: &Value, now: &Value) -> Vec<Change> {
    let (before, now) = (flatten(before), flatten(now));
    let mut paths: Vec<&String> = before.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != now.get(*path))
        .map(|path| Change { path: path.clone(), before: before.get(path).cloned(), now: now.get(path).cloned() })
        .collect()
}

/// Every leaf of a JSON value by its path.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| walk(value, join(name), leaves));
            }
            // The inputs of a collecting stage are told apart by their coordinates, not by their position.
            Value::Array(list) if list.iter().all(|one| one.get("coordinates").is_some()) && !list.is_empty() => {
                for one in list {
                    let name: Vec<String> = one["coordinates"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(axis, value)| format!("{axis}={value}").replace('"', ""))
                        .collect();
                    walk(&one["digest"], format!("{path}[{}]", name.join(", ")), leaves);
                }
            }
            leaf => drop(leaves.insert(path, leaf.to_string())),
        }
    }
    let mut leaves = BTreeMap::new();
    walk(value, String::new(), &mut leaves);
    leaves
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A digest is as good as its first digits to a reader.
        let short = |text: &Option<String>| match text {
            None => "nothing".to_owned(),
            Some(text) if self.path.starts_with("inputs.") && text.len() == 66 => text[1..13].to_owned(),
            Some(text) => text.clone(),
        };
        write!(formatter, "{}: {} -> {}", self.path, short(&self.before), short(&self.now))
    }
}

impl fmt::Display for Explanation {
    /// One line: the reason, as `status` groups by it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::Fresh(_) => formatter.write_str("up to date"),
            Explanation::NeverRun => formatter.write_str("never run"),
            Explanation::RecordMissing => formatter.write_str("record missing"),
            Explanation::OutputMissing(output) => write!(formatter, "output missing: {output}"),
            Explanation::Changed(changes) => {
                let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
                write!(formatter, "changed: {}", paths.join(", "))
            }
            Explanation::Upstream(names) => match names.as_slice() {
                [name] => write!(formatter, "waits for {name}"),
                [name, rest @ ..] => write!(formatter, "waits for {name} and {} more", rest.len()),
                [] => formatter.write_str("waits"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_name_paths_and_values() {
        let before = json!({"parameters": {"shots": 16, "seed": 1}, "inputs": {}});
        let now = json!({"parameters": {"shots": 8, "seed": 1, "classes": "base"}, "inputs": {}});
        let lines: Vec<String> = changes(&before, &now).iter().map(Change::to_string).collect();
        assert_eq!(lines, ["parameters.classes: nothing -> \"base\"", "parameters.shots: 16 -> 8"]);
    }

    #[test]
    fn collected_inputs_are_told_apart_by_coordinates() {
        let one = |seed: i64, digest: &str| json!({"coordinates": {"seed": seed}, "digest": digest});
        let before = json!({"inputs": {"evals.metrics": [one(1, "a"), one(2, "b")]}});
        let now = json!({"inputs": {"evals.metrics": [one(2, "b"), one(1, "c")]}});
        let lines: Vec<String> = changes(&before, &now).iter().map(Change::to_string).collect();
        assert_eq!(lines, ["inputs.evals.metrics[seed=1]: \"a\" -> \"c\""]);
    }
}
