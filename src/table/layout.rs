//! How a table is arranged in LaTeX.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How data sets are arranged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// In bands of a page's width, one below the other.
    #[default]
    Bands,
    /// Side by side, all in one table.
    Wide,
}
