//! What commands print: data to standard output, everything else to standard error.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};
use crate::terminal::{bars, error_word};
pub(super) use crate::terminal::{print, print_raw, say, warning_word};

pub(super) fn complain(error: &Error) {
    match error {
        Error::Pipeline(_) => say(&error.to_string()),
        // Every failed node has been reported where it failed.
        Error::NodesFailed { .. } | Error::Interrupted => {}
        _ => {
            say(&format!("{}: {error}", error_word()));
            if let Some(hint) = error.hint() {
                say(&format!("hint: {hint}"));
            }
        }
    }
}

/// For commands that must wait for others.
pub(super) fn say_waiting() {
    say("another command is using the store, waiting for it to end");
}

pub(super) fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::format("standard output", "JSON value", error))?;
    print(&(text + "\n"))
}

/// The progress of a download on standard error, which nobody sees unless that is a terminal.
pub(super) fn download_bar(name: &str) -> ProgressBar {
    bar("{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left").with_message(name.to_owned())
}

/// A bar on standard error, which nobody sees before it moves, nor where that is no terminal.
pub(super) fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    ProgressBar::with_draw_target(None, bars()).with_style(style)
}

/// A path as short as it can be said from the folder one is in.
pub(super) fn display(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
