//! What a node reads, with the digests that its key holds.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Artifact, StatCache, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// One input of a node that is in its key, and how it was when the key was made of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// What another node left.
    Artifact {
        /// The input's name, `port.output`.
        input: String,
        /// What it was.
        artifact: Artifact,
    },
    /// A file of the user's.
    File {
        /// Where it lies.
        path: PathBuf,
        /// Of its content.
        digest: Digest,
    },
    /// Files and folders in a folder of the user's.
    Folder {
        /// Where it lies.
        path: PathBuf,
        /// What is read of it.
        within: Vec<String>,
        /// Of its listing.
        digest: Digest,
    },
}

impl Reading {
    /// Looks whether a node that has read its input read what its key says.
    ///
    /// # Errors
    /// It has changed, or cannot be read.
    pub fn check(&self, store: &Store, cache: &StatCache) -> Result<()> {
        let (path, before, now) = match self {
            Reading::Artifact { input, artifact } => {
                return match store.artifact(artifact) {
                    Err(Error::Damaged { path, .. }) => {
                        let message = format!("its input `{input}` changed while it ran: `{}`", path.display());
                        let hint = "a command must not write to its inputs, but to a copy; `maple-pipe run` makes the \
                                    input again";
                        Err(Error::hinted(message, hint))
                    }
                    looked => looked.map(drop),
                };
            }
            Reading::File { path, digest } => (path, digest, cache.file(path)?),
            Reading::Folder { path, within, digest } => (path, digest, cache.folder(path, within)?),
        };
        if now == *before {
            return Ok(());
        }
        let message = format!("`{}` changed while the node read it", path.display());
        Err(Error::hinted(message, "run again when it no longer changes"))
    }
}
