//! JSON and CSV in files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::foreign::read_foreign_text;
use crate::error::{Error, Result};

/// Reads a JSON file.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    const FORMAT: &str = "artifact";
    serde_json::from_str(&read_foreign_text(path, FORMAT)?).map_err(|error| Error::format(path, FORMAT, error))
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::format(path, "JSON value", error))?;
    std::fs::write(path, text + "\n").map_err(Error::io("write", path))
}

/// Plain structs as CSV, their fields' names as its header.
pub fn csv(rows: impl IntoIterator<Item: Serialize>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).expect("a vector takes all writes");
    }
    String::from_utf8(writer.into_inner().expect("a vector takes all writes")).expect("only text was written")
}

/// Reads the rows of a CSV file with a header.
///
/// # Errors
/// The file cannot be read, or a row is none of these.
pub fn read_csv<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let rows = csv::Reader::from_path(path).and_then(|reader| reader.into_deserialize().collect());
    rows.map_err(|error| Error::format(path, "CSV file", error))
}
