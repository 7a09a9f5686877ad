//! Reads values into typed parameters with serde; a mistake keeps its place.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

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
    message: String,
    span: Option<Span>,
}

impl ReadError {
    fn or_at(mut self, span: &Span) -> ReadError {
        self.span.get_or_insert_with(|| span.clone());
        self
    }

    /// Words serde's message as ours, with a hint from the names it expected.
    fn into_diagnostic(self, value: &Value) -> Diagnostic {
        let span = self.span.as_ref().unwrap_or(&value.span);
        let words: Vec<&str> = self.message.split('`').skip(1).step_by(2).collect();
        // A tagged table is read through a buffer, which loses the places inside it: look them up again.
        let table = value.find(&|one| one.span.is(span) && matches!(one.data, Data::Table(_))).unwrap_or(value);
        for (prefix, noun) in [("unknown field", "key"), ("unknown variant", "value")] {
            if let (true, Some((word, expected))) = (self.message.starts_with(prefix), words.split_first()) {
                let key = table.entry(&[word]).map(|entry| &entry.span);
                let place = key.or_else(|| Some(&table.find(&|one| one.text() == Some(word))?.span));
                return Diagnostic::at(place.unwrap_or(span), format!("unknown {noun} `{word}`"))
                    .suggest(word, expected);
            }
        }
        let culprit = table.find(&|one| {
            let shown = match &one.data {
                Data::Text(text) => format!(": string {text:?},"),
                Data::Integer(value) => format!(": integer `{value}`,"),
                Data::Float(value) => format!(": floating point `{value}`,"),
                Data::Boolean(value) => format!(": boolean `{value}`,"),
                Data::Array(_) => ": sequence,".to_owned(),
                Data::Table(_) => return false,
            };
            self.message.contains(&shown)
        });
        let mut message = self.message.clone();
        for (rust, plain) in [
            ("missing field", "missing key"),
            ("duplicate field", "duplicate key"),
            ("type: map,", "type: table,"),
            ("a nonzero usize", "an integer from 1 up"),
            ("expected usize", "expected an integer from 0 up"),
            ("expected u64", "expected an integer from 0 up"),
            ("expected u32", "expected an integer from 0 up"),
            ("expected i64", "expected an integer"),
            ("expected f64", "expected a number"),
            ("expected f32", "expected a number"),
        ] {
            message = message.replace(rust, plain);
        }
        Diagnostic::at(culprit.map_or(span, |culprit| &culprit.span), message)
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: std::fmt::Display>(message: T) -> ReadError {
        ReadError { message: message.to_string(), span: None }
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
