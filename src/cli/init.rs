//! `maple-pipe init`: a project with what ships.

use std::path::{Path, PathBuf};

use clap::Args;

use super::terminal::{display, say};
use crate::error::Result;
use crate::shell;
use crate::shipped::{self, Written};
use crate::text::{columns, plural};

/// Write the pipelines, methods, manifests and published numbers that ship to a folder; what is there stays as it is
#[derive(Args, Debug)]
pub(super) struct Init {
    /// The folder, which is made if it is not there
    #[arg(default_value = ".")]
    folder: PathBuf,
}

impl Init {
    pub(super) fn run(self) -> Result<()> {
        write_shipped(&self.folder)?;
        say_next(
            &self.folder,
            &[
                ("maple-pipe run pipelines/quickstart.toml", "a first table, without data"),
                ("maple-pipe data list", "the papers' data sets: which are there"),
                ("maple-pipe doctor pipelines/base2novel.toml", "what this computer lacks for the papers' tables"),
            ],
        );
        Ok(())
    }
}

/// Writes what ships to a folder, and says what it wrote.
pub(super) fn write_shipped(folder: &Path) -> Result<()> {
    let Written { new, same, kept } = shipped::write(folder)?;
    if new > 0 {
        let folders: Vec<&str> = shipped::folders().collect();
        say(&format!("wrote {} to {}: {}", plural(new, "file", "files"), display(folder), folders.join(", ")));
    }
    if same > 0 {
        say(&format!("{} there already", plural(same, "file that ships is", "files that ship are")));
    }
    if !kept.is_empty() {
        say(&format!("kept {} from what ships:", plural(kept.len(), "file that differs", "files that differ")));
        kept.iter().for_each(|path| say(&format!("  {}", path.display())));
    }
    Ok(())
}

/// Says which commands to try next in `folder`, and what they show.
pub(super) fn say_next(folder: &Path, commands: &[(&str, &str)]) {
    let row = |(command, what): &(&str, &str)| vec![format!("  {command}"), format!("# {what}")];
    let rows: Vec<Vec<String>> = commands.iter().map(row).collect();
    say("\nNext:");
    if folder != Path::new(".") {
        say(&format!("  cd {}", shell::word(&folder.to_string_lossy())));
    }
    say(columns(&rows).trim_end());
}
