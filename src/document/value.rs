//! TOML values that remember where they were written, so that every later complaint can show the line.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::coordinates::AxisValue;
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where it was written.
    pub span: Span,
    /// What it is.
    pub data: Data,
}

/// The kinds of TOML value that a pipeline may hold (dates are refused).
#[derive(Clone, Debug)]
pub enum Data {
    /// `true`, `false`
    Boolean(bool),
    /// `16`
    Integer(i64),
    /// `0.0035`
    Float(f64),
    /// `"text"`
    Text(String),
    /// `[1, 2]`
    Array(Vec<Value>),
    /// `{ a = 1 }` or `[a]`
    Table(Table),
}

/// A table in the order it was written.
#[derive(Clone, Debug, Default)]
pub struct Table(pub(super) Vec<Entry>);

/// A key, its place, and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub span: Span,
    /// The value.
    pub value: Value,
}

impl From<&AxisValue> for Data {
    fn from(value: &AxisValue) -> Data {
        match value {
            AxisValue::Integer(value) => Data::Integer(*value),
            AxisValue::Float(value) => Data::Float(value.get()),
            AxisValue::Text(value) => Data::Text(value.to_string()),
        }
    }
}

impl Table {
    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entry with this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Takes the entry with this key out.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let position = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(position))
    }

    /// Puts an entry in, in place of one with the same key.
    pub fn put(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|existing| existing.key == entry.key) {
            Some(existing) => *existing = entry,
            None => self.0.push(entry),
        }
    }

    /// Lays `over` on top: its values win, tables are merged.
    pub fn overlay(&mut self, over: Table) {
        for entry in over.0 {
            match (self.0.iter_mut().find(|existing| existing.key == entry.key), entry) {
                (
                    Some(Entry { value: Value { data: Data::Table(below), .. }, .. }),
                    Entry { value: Value { data: Data::Table(above), .. }, .. },
                ) => below.overlay(above),
                (Some(existing), entry) => *existing = entry,
                (None, entry) => self.0.push(entry),
            }
        }
    }
}

impl Value {
    /// The elements of a list; any other value is the only one of its own.
    pub fn elements(&self) -> &[Value] {
        match &self.data {
            Data::Array(elements) => elements,
            _ => std::slice::from_ref(self),
        }
    }

    /// What a person calls this kind of value.
    pub fn type_name(&self) -> &'static str {
        match self.data {
            Data::Boolean(_) => "a boolean",
            Data::Integer(_) => "an integer",
            Data::Float(_) => "a float",
            Data::Text(_) => "a string",
            Data::Array(_) => "an array",
            Data::Table(_) => "a table",
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The first value, this one or one inside it, that is `wanted`.
    pub fn find<'v>(&'v self, wanted: &dyn Fn(&Value) -> bool) -> Option<&'v Value> {
        if wanted(self) {
            return Some(self);
        }
        match &self.data {
            Data::Array(values) => values.iter().find_map(|value| value.find(wanted)),
            Data::Table(table) => table.0.iter().find_map(|entry| entry.value.find(wanted)),
            _ => None,
        }
    }

    /// Where the parameter stands that has this path of keys, which may hold `.` themselves; it starts in this table or in one
    /// inside it.
    pub fn place_of(&self, path: Option<&str>) -> Option<&Span> {
        let (path, Data::Table(table)) = (path?, &self.data) else { return None };
        let here = table.entries().iter().find_map(|entry| match path.strip_prefix(&*entry.key)? {
            "" => Some(&entry.value.span),
            below => entry.value.place_of(Some(below.strip_prefix('.')?)),
        });
        here.or_else(|| table.entries().iter().find_map(|entry| entry.value.place_of(Some(path))))
    }

    /// The entry at a path of keys that starts in this table or in one inside it.
    pub fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let Data::Table(table) = &self.data else { return None };
        let (first, rest) = path.split_first()?;
        let here =
            table.get(first).and_then(|entry| if rest.is_empty() { Some(entry) } else { entry.value.entry(rest) });
        here.or_else(|| table.0.iter().find_map(|entry| entry.value.entry(path)))
    }
}

/// Parses a TOML text; all syntax errors at once.
pub fn parse(source: &Arc<SourceText>) -> Result<Table, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let place = |range| Span { source: source.clone(), range };
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|error| Diagnostic {
                span: error.span().map(place),
                ..Diagnostic::new(format!("invalid TOML: {}", error.message().lines().next().unwrap_or_default()))
            })
            .collect());
    }
    let mut mistakes = Vec::new();
    let table = convert_table(table.get_ref(), source, 0, &mut mistakes);
    if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
}

/// `offset`: where the parsed text starts in its source.
fn convert_table(
    table: &DeTable<'_>,
    source: &Arc<SourceText>,
    offset: usize,
    mistakes: &mut Vec<Diagnostic>,
) -> Table {
    let place = |range: Range<usize>| Span { source: source.clone(), range: range.start + offset..range.end + offset };
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            span: place(key.span()),
            value: convert(value.get_ref(), place(value.span()), source, offset, mistakes),
        })
        .collect();
    entries.sort_by_key(|entry| entry.span.range.start);
    Table(entries)
}

pub(super) fn convert(
    value: &DeValue<'_>,
    span: Span,
    source: &Arc<SourceText>,
    offset: usize,
    mistakes: &mut Vec<Diagnostic>,
) -> Value {
    let data = match value {
        DeValue::Boolean(value) => Data::Boolean(*value),
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => Data::Integer(value),
            Err(error) => {
                mistakes.push(Diagnostic::at(&span, format!("`{integer}` is not a 64-bit integer: {error}")));
                Data::Integer(0)
            }
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(value) if value.is_finite() => Data::Float(value),
            _ => {
                mistakes.push(Diagnostic::at(&span, format!("`{float}` is not a finite number")));
                Data::Float(0.0)
            }
        },
        DeValue::Datetime(_) => {
            mistakes.push(Diagnostic::at(&span, "dates have no meaning here").hint("quote it to make it a string"));
            Data::Text(String::new())
        }
        DeValue::Array(values) => Data::Array(
            values
                .iter()
                .map(|value| {
                    let range = value.span().start + offset..value.span().end + offset;
                    convert(value.get_ref(), Span { source: source.clone(), range }, source, offset, mistakes)
                })
                .collect(),
        ),
        DeValue::Table(table) => Data::Table(convert_table(table, source, offset, mistakes)),
    };
    Value { span, data }
}

/// A table for tests.
#[cfg(test)]
pub(super) fn table(text: &str) -> Value {
    let source = Arc::new(SourceText { name: "x.toml".into(), folder: "".into(), text: text.into() });
    let data = Data::Table(parse(&source).unwrap());
    Value { span: Span { source, range: 0..0 }, data }
}
