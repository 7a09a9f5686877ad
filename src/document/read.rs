//! Reads values into typed parameters with serde; a mistake keeps its place.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::value::{Data, Entry, Value};
use crate::diagnostic::{Diagnostic, Span};

impl Value {
    /// Deserializes into `T`; the mistake, if any, carries its place.
    pub fn read<'de, T: de::Deserialize<'de>>(&'de self) -> Result<T, Diagnostic> {
        T::deserialize(self).map_err(|error| error.into_diagnostic(self))
    }
}

/// A serde error with the place it belongs to, set by the innermost value that knows it.
#[derive(Debug)]
pub struct ReadError {
    problem: Box<Problem>,
    span: Option<Span>,
}

/// What is wrong with a value.
#[derive(Debug)]
enum Problem {
    /// A key or a word that is none of those expected.
    Unknown { noun: &'static str, word: String, expected: &'static [&'static str] },
    /// A key is missing.
    Missing(&'static str),
    /// A key stands twice.
    Duplicate(&'static str),
    /// A value is not of the type or size that is expected.
    Invalid { what: &'static str, found: Found, shown: String, expected: String },
    /// Anything else that a type says of itself.
    Other(String),
}

/// A value that is not what was expected, as far as it can be looked for.
#[derive(Debug, PartialEq)]
enum Found {
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List,
    Other,
}

impl Found {
    fn new(unexpected: &Unexpected<'_>) -> Found {
        match unexpected {
            Unexpected::Bool(value) => Found::Boolean(*value),
            Unexpected::Unsigned(value) => Found::Integer((*value).into()),
            Unexpected::Signed(value) => Found::Integer((*value).into()),
            Unexpected::Float(value) => Found::Float(*value),
            Unexpected::Str(text) => Found::Text((*text).to_owned()),
            Unexpected::Seq => Found::List,
            _ => Found::Other,
        }
    }

    fn is(&self, data: &Data) -> bool {
        match (self, data) {
            (Found::Boolean(found), Data::Boolean(value)) => found == value,
            (Found::Integer(found), Data::Integer(value)) => *found == i128::from(*value),
            (Found::Float(found), Data::Float(value)) => found == value,
            (Found::Text(found), Data::Text(value)) => found == value,
            (Found::List, Data::Array(_)) => true,
            _ => false,
        }
    }
}

/// What Rust's types are called in print.
fn plain(expected: &str) -> &str {
    match expected {
        "a nonzero usize" => "an integer from 1 up",
        "usize" | "u64" | "u32" => "an integer from 0 up",
        "i64" => "an integer",
        "f64" | "f32" => "a number",
        other => other,
    }
}

impl ReadError {
    fn or_at(mut self, span: &Span) -> ReadError {
        self.span.get_or_insert_with(|| span.clone());
        self
    }

    /// The mistake at its place, with a hint from the names that were expected.
    fn into_diagnostic(self, value: &Value) -> Diagnostic {
        let message = self.to_string();
        let span = self.span.as_ref().unwrap_or(&value.span);
        // A tagged table is read through a buffer, which loses the places inside it: look them up again.
        let table = value.find(&|one| one.span.is(span) && matches!(one.data, Data::Table(_))).unwrap_or(value);
        match &*self.problem {
            Problem::Unknown { word, expected, .. } => {
                let key = table.entry(&[word]).map(|entry| &entry.span);
                let place = key.or_else(|| Some(&table.find(&|one| one.text() == Some(word))?.span));
                Diagnostic::at(place.unwrap_or(span), message).suggest(word, expected)
            }
            Problem::Invalid { found, .. } => {
                let culprit = table.find(&|one| found.is(&one.data));
                Diagnostic::at(culprit.map_or(span, |culprit| &culprit.span), message)
            }
            Problem::Missing(_) => Diagnostic { is_missing_key: true, ..Diagnostic::at(span, message) },
            Problem::Duplicate(_) | Problem::Other(_) => Diagnostic::at(span, message),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.problem {
            Problem::Unknown { noun, word, .. } => write!(formatter, "unknown {noun} `{word}`"),
            Problem::Missing(key) => write!(formatter, "missing key `{key}`"),
            Problem::Duplicate(key) => write!(formatter, "duplicate key `{key}`"),
            Problem::Invalid { what, shown, expected, .. } => {
                write!(formatter, "invalid {what}: {shown}, expected {}", plain(expected))
            }
            Problem::Other(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> ReadError {
        ReadError { problem: Box::new(problem), span: None }
    }
}

fn invalid(what: &'static str, unexpected: &Unexpected<'_>, expected: &dyn Expected) -> ReadError {
    let shown = if let Unexpected::Map = unexpected { "table".to_owned() } else { unexpected.to_string() };
    Problem::Invalid { what, found: Found::new(unexpected), shown, expected: expected.to_string() }.into()
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        Problem::Other(message.to_string()).into()
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        invalid("type", &unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> ReadError {
        invalid("value", &unexpected, expected)
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> ReadError {
        Problem::Unknown { noun: "value", word: word.to_owned(), expected }.into()
    }

    fn unknown_field(word: &str, expected: &'static [&'static str]) -> ReadError {
        Problem::Unknown { noun: "key", word: word.to_owned(), expected }.into()
    }

    fn missing_field(key: &'static str) -> ReadError {
        Problem::Missing(key).into()
    }

    fn duplicate_field(key: &'static str) -> ReadError {
        Problem::Duplicate(key).into()
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.data {
            Data::Boolean(value) => visitor.visit_bool(*value),
            Data::Integer(value) if *value >= 0 => visitor.visit_u64(*value as u64),
            Data::Integer(value) => visitor.visit_i64(*value),
            Data::Float(value) => visitor.visit_f64(*value),
            Data::Text(text) => visitor.visit_str(text),
            Data::Array(values) => visitor.visit_seq(Elements(values.iter())),
            Data::Table(table) => visitor.visit_map(Entries { entries: table.0.iter(), value: None }),
        }
        .map_err(|error: ReadError| error.or_at(&self.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.data {
            Data::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Data::Table(table) => visitor
                .visit_enum(de::value::MapAccessDeserializer::new(Entries { entries: table.0.iter(), value: None })),
            _ => self.deserialize_any(visitor),
        }
        .map_err(|error: ReadError| error.or_at(&self.span))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Elements<'de>(std::slice::Iter<'de, Value>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.0.next().map(|value| seed.deserialize(value)).transpose()
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Value>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key: StrDeserializer<'_, ReadError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.or_at(&entry.span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        seed.deserialize(self.value.take().expect("a value follows its key"))
    }
}

#[cfg(test)]
mod tests {
    use crate::document::value::table;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Shots {
        shots: u32,
        #[serde(default)]
        rate: f64,
    }

    #[test]
    fn reads_typed_values() {
        assert_eq!(table("shots = 16\nrate = 1").read::<Shots>().unwrap(), Shots { shots: 16, rate: 1.0 });
    }

    #[test]
    fn mistakes_carry_their_place() {
        let mistake = table("shots = 16\nshot = 1").read::<Shots>().unwrap_err();
        assert_eq!(mistake.message, "unknown key `shot`");
        assert_eq!(mistake.hint.unwrap(), "did you mean `shots`?");
        assert_eq!(mistake.span.unwrap().range, 11..15);
        let mistake = table("shots = \"many\"").read::<Shots>().unwrap_err();
        assert_eq!(mistake.message, "invalid type: string \"many\", expected an integer from 0 up");
        assert_eq!(mistake.span.unwrap().range, 8..14);
    }
}
