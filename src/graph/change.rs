//! The difference of two recipes, value by value.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// One line of difference between two recipes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// E.g. `parameters.method.learning_rate`.
    pub path: String,
    /// Before; absent where it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Now; absent where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Value>,
}

/// What differs between two recipes, in the order of their paths.
pub fn changes(before: &Value, now: &Value) -> Vec<Change> {
    let (before, now) = (leaves(before), leaves(now));
    let mut paths: Vec<&String> = before.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    let value = |leaves: &BTreeMap<String, &Value>, path: &String| leaves.get(path).map(|&value| value.clone());
    paths
        .into_iter()
        .filter(|path| before.get(*path) != now.get(*path))
        .map(|path| Change { path: path.clone(), before: value(&before, path), now: value(&now, path) })
        .collect()
}

/// Every leaf of a JSON value by its path.
fn leaves(value: &Value) -> BTreeMap<String, &Value> {
    fn walk<'v>(value: &'v Value, path: String, leaves: &mut BTreeMap<String, &'v Value>) {
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
                    let place = format!("{path}[{}]", name.join(", "));
                    one.get("key").into_iter().for_each(|key| walk(key, format!("{place}.key"), leaves));
                    walk(&one["digest"], place, leaves);
                }
            }
            leaf => drop(leaves.insert(path, leaf)),
        }
    }
    let mut found = BTreeMap::new();
    walk(value, String::new(), &mut found);
    found
}

impl Change {
    /// Characters of a value that fit in a line which says more than this value.
    const SHORT: usize = 40;

    /// `parameters`, `inputs`, `version`.
    pub fn section(&self) -> &str {
        self.path.split('.').next().unwrap_or_default()
    }

    /// The path within its section; nothing where the section is the value.
    pub fn within(&self) -> &str {
        self.path.split_once('.').map_or("", |(_, within)| within)
    }

    /// The value before, as people read it.
    pub fn before(&self) -> String {
        self.text(self.before.as_ref())
    }

    /// The value now, as people read it.
    pub fn now(&self) -> String {
        self.text(self.now.as_ref())
    }

    fn text(&self, value: Option<&Value>) -> String {
        match value {
            None => "nothing".to_owned(),
            // A digest is as good as its first digits to a reader.
            Some(Value::String(digest)) if self.section() == "inputs" && digest.len() == 64 => digest[..12].to_owned(),
            Some(value) => value.to_string(),
        }
    }
}

impl fmt::Display for Change {
    /// `parameters.shots 16 -> 8`. Of an input the name is enough: digests tell nobody anything.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: String| match text.char_indices().nth(Change::SHORT) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        };
        formatter.write_str(&self.path)?;
        if self.section() == "inputs" {
            return Ok(());
        }
        write!(formatter, " {} -> {}", short(self.before()), short(self.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(before: &Value, now: &Value) -> Vec<String> {
        changes(before, now).iter().map(Change::to_string).collect()
    }

    #[test]
    fn changes_name_paths_and_values() {
        let before = json!({"parameters": {"shots": 16, "seed": 1}, "inputs": {}, "version": 1});
        let now = json!({"parameters": {"shots": 8, "seed": 1, "classes": "base"}, "inputs": {}, "version": 2});
        let expected = ["parameters.classes nothing -> \"base\"", "parameters.shots 16 -> 8", "version 1 -> 2"];
        assert_eq!(lines(&before, &now), expected);
    }

    #[test]
    fn a_long_value_is_cut_in_one_line_and_whole_elsewhere() {
        let before = json!({"parameters": {"caption": "é".repeat(99), "seed": 1}});
        let change = &changes(&before, &json!({"parameters": {"seed": 1}}))[0];
        assert_eq!(change.to_string(), format!("parameters.caption \"{}... -> nothing", "é".repeat(39)));
        assert_eq!(change.before(), format!("\"{}\"", "é".repeat(99)));
        assert_eq!((change.section(), change.within()), ("parameters", "caption"));
    }

    #[test]
    fn collected_inputs_are_told_apart_by_coordinates() {
        let one = |seed: i64, digest: &str| json!({"coordinates": {"seed": seed}, "digest": digest});
        let before = json!({"inputs": {"evals.metrics": [one(1, "a"), one(2, "b")]}});
        let now = json!({"inputs": {"evals.metrics": [one(2, "b"), one(1, "c")]}});
        assert_eq!(lines(&before, &now), ["inputs.evals.metrics[seed=1]"]);
    }
}
