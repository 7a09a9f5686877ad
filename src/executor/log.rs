//! What a node's process prints.

use std::fs::File;
use std::path::Path;
use std::process::ExitStatus;

use crate::error::{Error, Result};

/// An empty log, opened twice: for what a process prints, and for its errors.
pub(super) fn log_file(path: &Path) -> Result<(File, File)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let file = File::create(path).map_err(Error::io("create", path))?;
    let again = file.try_clone().map_err(Error::io("open", path))?;
    Ok((file, again))
}

/// How a process ended that did not do its work.
pub(super) fn ended(what: &str, status: ExitStatus, log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(10)..];
    let tail: String = tail.iter().map(|line| format!("\n  | {line}")).collect();
    format!("{what} ended with {status}{tail}")
}
