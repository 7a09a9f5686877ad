//! Text behind its checksum, so that any damage shows.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

/// The text, if it has this checksum.
pub fn checked<'t>((checksum, text): (&str, &'t str)) -> Option<&'t str> {
    (Digest::parse(checksum)? == Digest::of(text.as_bytes())).then_some(text)
}

/// A value as a line of JSON behind its checksum.
pub fn line(value: &impl Serialize) -> String {
    let text = json(value);
    format!("{} {text}\n", Digest::of(text.as_bytes()))
}

/// Reads a line that [`line()`] made, without its end; none if it is damaged.
pub fn parse_line<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(checked(line.split_once(' ')?)?).ok()
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data")
}
