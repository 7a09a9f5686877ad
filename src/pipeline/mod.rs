//! TOML text to values that remember their place, and complaints that show the line.

pub mod diagnostic;
pub mod include;
mod read;
pub mod value;

pub use diagnostic::{Diagnostic, Source, Span};
pub use include::{Reader, gather};
pub use value::{Data, Entry, Table, Value};
