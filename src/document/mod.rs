//! TOML text as values that remember where they were written: parsed, included, overridden, and read into typed structs.

mod include;
mod overrides;
mod read;
mod value;

pub use include::{Binding, Bindings, Reader, gather, read_table, read_text};
pub use overrides::{parse as parse_override, set};
pub use value::{Data, Entry, Table, Value};
