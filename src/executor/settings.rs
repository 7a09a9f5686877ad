//! What a user may set of where nodes run.

use std::num::NonZeroUsize;

use serde::Deserialize;

/// `[executor]`: what commands that execute nodes do where their options say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorSettings {
    /// As `--jobs`.
    pub jobs: Option<NonZeroUsize>,
    /// As `--threads`.
    pub threads: Option<NonZeroUsize>,
    /// As `--devices`.
    pub devices: Option<String>,
}
