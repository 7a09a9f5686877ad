//! How two runs differ: in what their nodes were told, and in what they measured.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::error::Result;
use crate::graph::{Change, changes};
use crate::store::{Record, RunRecord, Store};
use crate::table::means;

/// What differs between two runs.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    /// Values that changed, and for which nodes.
    pub parameters: Vec<ParameterChange>,
    /// What computed them, where that changed, and for which nodes.
    pub made_by: Vec<ParameterChange>,
    /// Inputs that changed, as `shots.train`, and for which nodes.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// Nodes with a result in the first run alone.
    pub only_before: Vec<String>,
    /// Nodes with a result in the second run alone.
    pub only_now: Vec<String>,
    /// Numbers that changed.
    pub metrics: Vec<MetricChange>,
    /// Nodes of which the store has no longer both results.
    pub missing: Vec<String>,
}

/// The same change of one value, for several nodes.
#[derive(Debug, Serialize)]
pub struct ParameterChange {
    /// E.g. `parameters.shots`.
    pub path: String,
    /// Before, as JSON; absent where it is new.
    pub before: Option<String>,
    /// Now; absent where it is gone.
    pub now: Option<String>,
    /// The nodes.
    pub nodes: Vec<String>,
}

/// One number that changed.
#[derive(Debug, Serialize)]
pub struct MetricChange {
    /// The node that measured it.
    pub node: String,
    /// E.g. `accuracy`; in a table, `maple/eurosat/hm`.
    pub metric: String,
    /// Before; absent where it is new.
    pub before: Option<f64>,
    /// Now; absent where it is gone.
    pub now: Option<f64>,
    /// It stands in a table.
    #[serde(skip)]
    pub is_table: bool,
}

impl Difference {
    /// Compares the results of two runs, node by node.
    pub fn new(store: &Store, before: &RunRecord, now: &RunRecord) -> Result<Difference> {
        let (before, now) = (results(store, before)?, results(store, now)?);
        let lacking = |some: &[(String, Digest)], others: &[(String, Digest)]| {
            let others: BTreeSet<&String> = others.iter().map(|(node, _)| node).collect();
            some.iter().map(|(node, _)| node).filter(|node| !others.contains(node)).cloned().collect()
        };
        let mut difference = Difference {
            only_before: lacking(&before, &now),
            only_now: lacking(&now, &before),
            ..Difference::default()
        };
        let before: HashMap<String, Digest> = before.into_iter().collect();
        let (mut parameters, mut made_by) = (Alike::new(), Alike::new());
        for (node, key) in now {
            let Some(old) = before.get(&node).filter(|old| **old != key) else { continue };
            let (Some(old), Some(new)) = (store.record(old), store.record(&key)) else {
                difference.missing.push(node);
                continue;
            };
            let mut inputs = BTreeSet::new();
            for change in changes(&old.recipe.value(), &new.recipe.value()) {
                match change.path.strip_prefix("inputs.") {
                    // One of many inputs has its coordinates in brackets.
                    Some(input) => drop(inputs.insert(input.split('[').next().unwrap_or(input).to_owned())),
                    None => add(&mut parameters, change, &node),
                }
            }
            let computed = |record: &Record| json!({ "made_by": record.made_by });
            for change in changes(&computed(&old), &computed(&new)) {
                add(&mut made_by, change, &node);
            }
            for input in inputs {
                difference.inputs.entry(input).or_default().push(node.clone());
            }
            match (metrics(store, &old), metrics(store, &new)) {
                (Some(before), Some(now)) => {
                    let is_table = is_table(&new);
                    let changes = changed_metrics(&node, &before, &now).into_iter();
                    difference.metrics.extend(changes.map(|change| MetricChange { is_table, ..change }));
                }
                _ => difference.missing.push(node),
            }
        }
        difference.parameters = listed(parameters);
        difference.made_by = listed(made_by);
        Ok(difference)
    }

    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
            && self.inputs.is_empty()
            && self.metrics.is_empty()
            && self.missing.is_empty()
            && self.only_before.is_empty()
            && self.only_now.is_empty()
    }
}

/// Changes of values, from what to what, each with the nodes that have it.
type Alike = BTreeMap<(String, Option<String>, Option<String>), Vec<String>>;

fn add(alike: &mut Alike, change: Change, node: &str) {
    let text = |value: Option<Value>| value.map(|value| value.to_string());
    alike.entry((change.path, text(change.before), text(change.now))).or_default().push(node.to_owned());
}

fn listed(alike: Alike) -> Vec<ParameterChange> {
    let change = |((path, before, now), nodes)| ParameterChange { path, before, now, nodes };
    alike.into_iter().map(change).collect()
}

/// The nodes of a run that have a result, with its key, in order.
fn results(store: &Store, run: &RunRecord) -> Result<Vec<(String, Digest)>> {
    let nodes = store.run_nodes(run)?;
    Ok(nodes.into_iter().filter_map(|node| Some((node.result()?, node)).map(|(key, node)| (node.node, key))).collect())
}

fn changed_metrics(node: &str, before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<MetricChange> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |metric: &String| MetricChange {
        node: node.to_owned(),
        metric: metric.clone(),
        before: before.get(metric).copied(),
        now: now.get(metric).copied(),
        is_table: false,
    };
    names.into_iter().map(change).filter(|change| change.before != change.now).collect()
}

fn is_table(record: &Record) -> bool {
    record.recipe.value()["kind"] == "table"
}

/// The numbers in a node's result: in an output called `metrics`, and in a table. Nothing where such an output is lost.
fn metrics(store: &Store, record: &Record) -> Option<BTreeMap<String, f64>> {
    let text = |output: &str| match record.outputs.get(output) {
        Some(artifact) => Some(Some(std::fs::read_to_string(store.artifact(artifact).ok()?).ok()?)),
        None => Some(None),
    };
    let mut numbers = BTreeMap::new();
    if let Some(text) = text("metrics")? {
        add_numbers(&serde_json::from_str(&text).ok()?, "", &mut numbers);
    }
    if is_table(record)
        && let Some(text) = text("csv")?
    {
        numbers.extend(means(&text));
    }
    Some(numbers)
}

/// Every number in a JSON value by its path.
fn add_numbers(value: &Value, path: &str, numbers: &mut BTreeMap<String, f64>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| add_numbers(value, &below(name), numbers)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(place, value)| add_numbers(value, &below(&place.to_string()), numbers));
        }
        Value::Number(number) => numbers.extend(number.as_f64().map(|number| (path.to_owned(), number))),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_wherever_they_are() {
        let mut numbers = BTreeMap::new();
        let value = serde_json::json!({"accuracy": 50.5, "classes": "base", "top": {"k": [1, 5]}, "none": null});
        add_numbers(&value, "", &mut numbers);
        let numbers: Vec<(&str, f64)> = numbers.iter().map(|(name, number)| (name.as_str(), *number)).collect();
        assert_eq!(numbers, [("accuracy", 50.5), ("top.k.0", 1.0), ("top.k.1", 5.0)]);
    }
}
