//! What this computer has of what pipelines need, and what a pipeline lacks: each thing with its state and the command that
//! mends it.

mod data;
mod machine;
mod pipeline;
mod store;

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

pub use data::{data_root, weights};
pub use machine::machine;
pub use pipeline::{graph, mistakes};
pub use store::{results, store};

/// How one thing stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be, or not needed.
    Ok,
    /// Runs will do without it, or less well.
    Warning,
    /// Runs need it.
    Missing,
}

/// What was found of one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// What was looked at, e.g. `libtorch`.
    pub subject: &'static str,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The same for programs.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Finding {
    fn new(state: State, subject: &'static str, text: impl Into<String>) -> Finding {
        Finding { state, subject, text: text.into(), hint: None, details: Value::Null }
    }

    fn ok(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding::new(State::Ok, subject, text)
    }

    fn warning(subject: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding::new(State::Warning, subject, text).hint(hint)
    }

    fn missing(subject: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding::new(State::Missing, subject, text).hint(hint)
    }

    /// An error in the way.
    pub fn of_error(subject: &'static str, error: &Error) -> Finding {
        let finding = Finding::new(State::Missing, subject, error.to_string());
        match error.hint() {
            Some(hint) => finding.hint(hint),
            None => finding,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Finding {
        Finding { hint: Some(hint.into()), ..self }
    }

    fn details(self, details: Value) -> Finding {
        Finding { details, ..self }
    }
}
