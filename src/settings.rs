//! What a user has set for a computer and for a project, beside pipelines: the file `~/.config/maple-pipe/config.toml`, and over
//! it `maple-pipe.toml` in the project's folder. Nothing of it decides a result.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::document::{Data, Reader, Table, Value};
use crate::executor::ExecutorSettings;
use crate::remote::RemoteSettings;

/// The settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A program with its arguments that hears on its standard input how each run ended; nothing where it is empty.
    pub on_end: Vec<String>,
    /// Where nodes run.
    pub executor: ExecutorSettings,
    /// A store that a team shares.
    pub remote: RemoteSettings,
}

/// The variable that names another file than the user's own; with an empty value, none.
const USERS: &str = "MAPLE_PIPE_CONFIG";
/// The file of a project.
const PROJECTS: &str = "maple-pipe.toml";

impl Settings {
    /// Reads the settings of the user, and over them those of the project in this folder. A file that is not there sets nothing,
    /// unless `MAPLE_PIPE_CONFIG` names it.
    ///
    /// # Errors
    /// A file cannot be read, or holds a key or a value that means nothing.
    pub fn read(project: &Path) -> Result<Settings, Vec<Diagnostic>> {
        let own = Some(project.join(PROJECTS)).filter(|file| file.is_file());
        let (reader, mut table) = (Reader::default(), Table::default());
        for file in users_file().into_iter().chain(own) {
            table.overlay(reader.file(&file, None)?);
        }
        let source = SourceText { name: PROJECTS.to_owned(), folder: project.to_owned(), text: String::new() };
        let span = Span { source: Arc::new(source), range: 0..0 };
        Value { span, data: Data::Table(table) }.read().map_err(|mistake| vec![mistake])
    }
}

fn users_file() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(USERS) {
        return Some(PathBuf::from(named)).filter(|file| !file.as_os_str().is_empty());
    }
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(folder.join("maple-pipe/config.toml")).filter(|file| file.is_file())
}
