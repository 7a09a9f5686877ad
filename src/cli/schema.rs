//! `maple-pipe schema`: what may stand in a TOML file, for editors.

use clap::{Args, ValueEnum};

use super::terminal::print;
use crate::error::Result;
use crate::reference::{manual, schema};

/// Print the JSON Schema of pipelines, with which editors complete and check them
#[derive(Args, Debug)]
pub(super) struct SchemaCommand {
    /// The kind of file
    #[arg(default_value = "pipeline")]
    file: File,
    /// Print the reference of all files as Markdown instead
    #[arg(long, conflicts_with = "file")]
    markdown: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// A pipeline
    Pipeline,
    /// A method, as in `pipelines/methods/`
    Method,
    /// A data set, as in `data-manifests/`
    Manifest,
}

impl SchemaCommand {
    pub(super) fn run(self) -> Result<()> {
        if self.markdown {
            return print(&manual::markdown());
        }
        let schema = match self.file {
            File::Pipeline => schema::pipeline(),
            File::Method => schema::method(),
            File::Manifest => schema::manifest(),
        };
        print(&format!("{schema:#}\n"))
    }
}
