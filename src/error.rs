//! Every way in which `maple-pipe` can fail: structured fields here, text only in `Display`. What is displayed may quote logs,
//! classes and names of files, so it is [`visible`].

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::text::visible;

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The exit code of a program that was stopped by SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// An error, with what a person needs to find and mend its cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation; `action` reads as in "could not {action}".
    #[error("could not {action} `{}`: {source}", visible(&path.to_string_lossy()))]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for.
    #[error("`{}` is not a valid {format}: {}", visible(&path.to_string_lossy()), visible(message))]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should have been, e.g. `split file`.
        format: &'static str,
        /// What is wrong, and where.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Anything else that is wrong with what the user gave; `hint` says what to do.
    #[error("{}", visible(message))]
    Invalid {
        /// A lower-case sentence naming the thing in backticks.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The parameter or input that is wrong, as the path of its keys in a TOML table, where it is one.
        key: Option<String>,
    },
    /// A file could not be downloaded; `hint` says how to get it otherwise.
    #[error("could not download `{}`: {}", visible(url), visible(message))]
    Download {
        /// Where from.
        url: String,
        /// Why not.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A remote could not be used for what was asked; `message` goes behind its name, as in "it answers `503`".
    #[error("the remote `{remote}` cannot be used: {}", visible(message))]
    Remote {
        /// Its address, without what is secret in it.
        remote: String,
        /// Why not.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The store holds an artifact no more, or holds other bytes than those that were made.
    #[error("the store has {} the artifact `{}`", if *lost { "lost" } else { "a damaged copy of" }, path.display())]
    Damaged {
        /// Where the artifact lies, or lay.
        path: PathBuf,
        /// Nothing is there.
        lost: bool,
    },
    /// A run ended with nodes that failed; each has been reported.
    #[error("{failed} {} failed", if *failed == 1 { "node" } else { "nodes" })]
    NodesFailed {
        /// How many.
        failed: usize,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
    /// A check found what it looks for; each finding has been printed.
    #[error("{}", visible(message))]
    Found {
        /// How much of what.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Mistakes in a pipeline and what it includes, each with its place.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Pipeline(Vec<crate::diagnostic::Diagnostic>),
    /// Something killed the process of a node.
    #[error("{}", visible(message))]
    Killed {
        /// Which process, how it ended, and the last that it wrote.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The memory of a device did not suffice for a node.
    #[error("out of memory: {}", visible(.0))]
    OutOfMemory(String),
    /// A card failed. Of what shares one by NVIDIA's service, all work ends when the work of one fails.
    #[error("{}", visible(.0))]
    CardFailed(String),
    /// libtorch failed. Its text alone is kept: naming its type here would link libtorch into every program.
    #[error("libtorch: {}", visible(.0))]
    Torch(String),
}

impl From<Vec<crate::diagnostic::Diagnostic>> for Error {
    fn from(mistakes: Vec<crate::diagnostic::Diagnostic>) -> Error {
        Error::Pipeline(mistakes)
    }
}

impl Error {
    /// What to do about it, where more can be said than the message says.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Error::Format { hint, .. }
            | Error::Invalid { hint, .. }
            | Error::Download { hint, .. }
            | Error::Remote { hint, .. }
            | Error::Found { hint, .. }
            | Error::Killed { hint, .. } => hint.as_deref().map(visible),
            Error::Damaged { .. } => {
                Some("`maple-pipe verify --remove` removes it; then `maple-pipe run` makes it again".into())
            }
            Error::OutOfMemory(_) => {
                Some("give it a smaller batch, or a device with more memory that no other program uses".into())
            }
            Error::CardFailed(_) => {
                Some("run it again; if the card fails again, `dmesg` may know more (`NVRM: Xid`)".into())
            }
            _ => None,
        }
    }

    /// The same, about this parameter or input: the path of its keys in a TOML table, e.g. `reader.file`.
    pub fn about(self, key: impl Into<String>) -> Error {
        match self {
            Error::Invalid { message, hint, .. } => Error::Invalid { message, hint, key: Some(key.into()) },
            other => other,
        }
    }

    /// The parameter or input that is wrong, where it is known.
    pub fn key(&self) -> Option<&str> {
        if let Error::Invalid { key, .. } = self { key.as_deref() } else { None }
    }

    /// The program's exit code: 2 where the user's input is wrong, 130 where the user stopped it, 1 where anything else went
    /// wrong: a node failed, a check found something, a disk is full, a server does not answer, libtorch failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Format { .. } | Error::Invalid { .. } | Error::Pipeline(_) => 2,
            Error::Io { source, .. } if names_a_wrong_path(source.kind()) => 2,
            Error::Interrupted => INTERRUPTED,
            Error::Io { .. }
            | Error::Download { .. }
            | Error::Remote { .. }
            | Error::Damaged { .. }
            | Error::NodesFailed { .. }
            | Error::Found { .. }
            | Error::Killed { .. }
            | Error::OutOfMemory(_)
            | Error::CardFailed(_)
            | Error::Torch(_) => 1,
        }
    }

    /// The same, with what to do about it, where nothing is said of that yet.
    pub fn with_hint(mut self, say: impl FnOnce() -> String) -> Error {
        if let Error::Format { hint, .. }
        | Error::Invalid { hint, .. }
        | Error::Download { hint, .. }
        | Error::Remote { hint, .. }
        | Error::Found { hint, .. } = &mut self
        {
            hint.get_or_insert_with(say);
        }
        self
    }

    /// The same, with what to do about a file that could not be downloaded.
    pub fn or_by_hand(self, way: impl FnOnce() -> String) -> Error {
        if let Error::Download { .. } = &self { self.with_hint(way) } else { self }
    }

    /// For `map_err` after a file operation: `fs::read(path).map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// A file that is not a valid `format`.
    pub fn format(path: impl AsRef<Path>, format: &'static str, message: impl ToString) -> Error {
        Error::Format { path: path.as_ref().to_owned(), format, message: message.to_string(), hint: None }
    }

    /// Wrong input, without a hint.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid { message: message.into(), hint: None, key: None }
    }

    /// Wrong input, and what to do about it.
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Invalid { message: message.into(), hint: Some(hint.into()), key: None }
    }
}

/// Whether the system refused a path because of what the user called it or may do with it.
fn names_a_wrong_path(kind: ErrorKind) -> bool {
    use ErrorKind::{
        AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
        ReadOnlyFilesystem,
    };
    matches!(
        kind,
        AlreadyExists
            | InvalidFilename
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_displayed_steers_no_terminal() {
        let steers = "\x1b[2J\u{9d}0;t\u{202e}";
        let source = || std::io::Error::from(ErrorKind::NotFound);
        let errors = [
            Error::io("read", steers)(source()),
            Error::format(steers, "split file", steers),
            Error::hinted(steers, steers),
            Error::Download { url: steers.into(), message: steers.into(), hint: Some(steers.into()) },
            Error::Found { message: steers.into(), hint: Some(steers.into()) },
            Error::Torch(steers.into()),
        ];
        for error in errors {
            let text = format!("{error}{}", error.hint().unwrap_or_default());
            assert!(text.contains("␛[2J�0;t�"), "{text}");
            assert!(!text.contains(['\x1b', '\u{9d}', '\u{202e}']), "{text}");
        }
    }

    /// A script that looks at the exit code must not take a full disk for a mistake in its input.
    #[test]
    fn two_is_the_users_input_and_nothing_else() {
        let io = |kind: ErrorKind| Error::io("write", "results")(kind.into()).exit_code();
        for kind in
            [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::IsADirectory, ErrorKind::AlreadyExists]
        {
            assert_eq!(io(kind), 2, "{kind:?}");
        }
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::BrokenPipe, ErrorKind::Other] {
            assert_eq!(io(kind), 1, "{kind:?}");
        }
        assert_eq!(Error::invalid("a stage has no `kind`").exit_code(), 2);
        assert_eq!(Error::format("split.json", "split file", "it is empty").exit_code(), 2);
        assert_eq!(Error::Torch("out of memory".into()).exit_code(), 1);
        let download = Error::Download { url: "http://x".into(), message: "no route".into(), hint: None };
        assert_eq!(download.exit_code(), 1);
        assert_eq!(Error::Damaged { path: "artifacts/ab/abcd".into(), lost: true }.exit_code(), 1);
        assert_eq!(Error::NodesFailed { failed: 1 }.exit_code(), 1);
        assert_eq!(Error::Interrupted.exit_code(), INTERRUPTED);
    }
}
