//! Axes: named lists of values, which may carry attributes.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinates::{AxisValue, Float};
use crate::diagnostic::Diagnostic;
use crate::document::{Data, Entry, Table, Value};
use crate::files::bad_part_of_path;
use crate::store::LOG;

/// A named list that stages expand over.
#[derive(Clone, Debug)]
pub struct Axis {
    /// E.g. `dataset`.
    pub name: String,
    /// Its values, without repetition.
    pub values: Vec<AxisValue>,
    /// Its values as written in the file, before overrides.
    pub written: BTreeSet<AxisValue>,
    /// What is known of a value, for `{axis.attribute}`.
    attributes: BTreeMap<AxisValue, Table>,
}

impl Axis {
    /// Reads `name = [...]`. An override that names values which were written before keeps their attributes.
    pub(super) fn read(entry: &Entry, before: Option<&Axis>, mistakes: &mut Vec<Diagnostic>) -> Axis {
        let (name, value) = (&entry.key, &entry.value);
        let attributes = before.map_or_else(BTreeMap::new, |before| before.attributes.clone());
        let mut axis = Axis { name: name.clone(), values: Vec::new(), written: BTreeSet::new(), attributes };
        let Data::Array(elements) = &value.data else {
            let message = format!("axis `{name}` must be a list, not {}", value.type_name());
            mistakes.push(Diagnostic::at(&value.span, message).hint("for example `seed = [1, 2, 3]`"));
            return axis;
        };
        if elements.is_empty() {
            mistakes.push(Diagnostic::at(&value.span, format!("axis `{name}` has no values")));
        }
        for element in elements {
            match AxisValue::read(element) {
                Ok(value) if !axis.written.insert(value.clone()) => {
                    mistakes
                        .push(Diagnostic::at(&element.span, format!("axis `{name}` has the value `{value}` twice")));
                }
                Ok(value) => {
                    if let Data::Table(attributes) = &element.data {
                        axis.attributes.entry(value.clone()).or_default().overlay(attributes.clone());
                    }
                    axis.values.push(value);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if let Some(before) = before {
            axis.written = before.written.clone();
        }
        axis
    }

    /// What is known of a value.
    pub fn attributes(&self, value: &AxisValue) -> Option<&Table> {
        self.attributes.get(value)
    }

    /// Whether an override has narrowed the axis to other values.
    pub(super) fn is_narrowed_away(&self, value: &AxisValue) -> bool {
        self.written.contains(value) && !self.values.contains(value)
    }
}

impl AxisValue {
    /// Reads a value, or the `name` of a table of attributes.
    pub(super) fn read(value: &Value) -> Result<AxisValue, Diagnostic> {
        let name = match &value.data {
            Data::Table(attributes) => match attributes.get("name") {
                Some(name) => &name.value,
                None => {
                    let mistake = Diagnostic::at(&value.span, "an axis value with attributes needs a `name`");
                    return Err(mistake.hint("for example `{ name = \"pets\", manifest = \"pets.toml\" }`"));
                }
            },
            _ => value,
        };
        match &name.data {
            Data::Integer(integer) => Ok(AxisValue::Integer(*integer)),
            Data::Float(float) => Ok(AxisValue::Float(Float::new(*float).expect("documents hold finite numbers"))),
            Data::Text(text) => match bad_part_of_path(text, LOG) {
                Some(why) => {
                    let message = format!("an axis value is part of node names: {why}");
                    Err(Diagnostic::at(&name.span, message))
                }
                None => Ok(AxisValue::Text(text.as_str().into())),
            },
            _ => {
                let message = format!("an axis value is a string or a number, not {}", name.type_name());
                Err(Diagnostic::at(&name.span, message))
            }
        }
    }
}
