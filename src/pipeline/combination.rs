//! Combinations of axis values: what `only`, `exclude` and `extra` of a stage list.

use super::axis::Axis;
use crate::coordinates::{AxisValue, Coordinates};
use crate::diagnostic::{Diagnostic, Span};
use crate::document::{Data, Entry, Value};

/// More nodes than this are a slip: they would fill the memory before anything is said.
pub const MANY_NODES: usize = 250_000;

/// Some values of some axes; it stands for every choice of one value an axis.
#[derive(Clone, Debug)]
pub struct Combination {
    values: Vec<(String, Vec<AxisValue>)>,
    span: Span,
}

impl Combination {
    /// Reads the table, or list of tables, of `only`, `exclude` or `extra`; `axes` are the stage's.
    pub(super) fn read(entry: &Entry, axes: &[&Axis], mistakes: &mut Vec<Diagnostic>) -> Vec<Combination> {
        let tables = match &entry.value.data {
            Data::Array(tables) => tables.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        // Only `extra` goes beyond what the axes have.
        let is_open = entry.key == "extra";
        let mut combinations = Vec::new();
        for value in tables {
            let Data::Table(table) = &value.data else {
                let message = format!("`{}` must be a table of axis values, not {}", entry.key, value.type_name());
                let hint = "for example `{ method = \"clip\" }`, or a list of such tables";
                mistakes.push(Diagnostic::at(&value.span, message).hint(hint));
                continue;
            };
            let mut combination = Combination { values: Vec::new(), span: value.span.clone() };
            for entry in table.entries() {
                let Some(axis) = axes.iter().find(|axis| axis.name == entry.key) else {
                    let known: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
                    let message = format!("`{}` is not an axis of this stage", entry.key);
                    mistakes.push(Diagnostic::at(&entry.span, message).suggest(&entry.key, &known));
                    continue;
                };
                combination.values.push((entry.key.clone(), choices(&entry.value, axis, is_open, mistakes)));
            }
            // What is empty, if only after a mistake, means nothing.
            if !combination.values.is_empty() {
                combinations.push(combination);
            }
        }
        combinations
    }

    /// Whether the coordinates have one of its values on each of its axes.
    pub fn holds(&self, coordinates: &Coordinates) -> bool {
        self.values.iter().all(|(axis, values)| values.contains(&coordinates[axis]))
    }

    /// Every choice of one value an axis, without values that an override has narrowed away.
    pub(super) fn expand(&self, axes: &[&Axis], mistakes: &mut Vec<Diagnostic>) -> Vec<Coordinates> {
        if self.values.iter().map(|(_, values)| values.len() as f64).product::<f64>() > MANY_NODES as f64 {
            mistakes.push(Diagnostic::at(&self.span, format!("these are more than {MANY_NODES} combinations")));
            return Vec::new();
        }
        let mut all = vec![Coordinates::new()];
        for axis in axes {
            let Some((_, values)) = self.values.iter().find(|(name, _)| *name == axis.name) else {
                let message = format!("this combination has no value of axis `{}`", axis.name);
                mistakes.push(Diagnostic::at(&self.span, message).hint("give one for each of the stage's `axes`"));
                return Vec::new();
            };
            let values = values.iter().filter(|value| !axis.is_narrowed_away(value));
            all = product(&all, &axis.name, &values.collect::<Vec<_>>());
        }
        all
    }
}

/// Each of the coordinates with each of the values.
pub fn product(coordinates: &[Coordinates], axis: &str, values: &[&AxisValue]) -> Vec<Coordinates> {
    let with = |coordinates: &Coordinates, value: &AxisValue| {
        let mut coordinates = coordinates.clone();
        coordinates.insert(axis.to_owned(), value.clone());
        coordinates
    };
    coordinates.iter().flat_map(|one| values.iter().map(move |value| with(one, value))).collect()
}

/// One value, or a list of values. They are compared with the axis as written: that an override has narrowed a value
/// away is no mistake.
fn choices(value: &Value, axis: &Axis, is_open: bool, mistakes: &mut Vec<Diagnostic>) -> Vec<AxisValue> {
    let one = std::slice::from_ref(value);
    let elements = if let Data::Array(elements) = &value.data { elements } else { one };
    let mut choices = Vec::new();
    for element in elements {
        match AxisValue::read(element) {
            Ok(value) if !is_open && !axis.written.contains(&value) => {
                let written: Vec<String> = axis.written.iter().map(ToString::to_string).collect();
                let message = format!("axis `{}` has no value `{value}`", axis.name);
                mistakes.push(Diagnostic::at(&element.span, message).suggest(&value.to_string(), &written));
            }
            Ok(value) => choices.push(value),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    choices
}
