//! What the store keeps for a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;

/// How a key's outputs were made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// blake3 of the manifest's canonical JSON.
    pub key: Digest,
    /// Everything that decides the result; kept so that `explain` can compare it.
    pub manifest: serde_json::Value,
    /// The artifacts by output name.
    pub outputs: BTreeMap<String, Artifact>,
    /// The node that ran.
    pub node: String,
    /// One line about the result, as the status line shows it.
    pub note: String,
    /// When it started, UTC.
    pub started: jiff::Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// The version of this program.
    pub version: String,
}

impl Record {
    /// The record is what its place says: of this key, which is the hash of its manifest.
    pub fn is_of(&self, key: &Digest) -> bool {
        self.key == *key && Digest::of(self.manifest.to_string().as_bytes()) == *key
    }
}

/// One output.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Artifact {
    /// A file or a folder.
    pub kind: ArtifactKind,
    /// blake3 of a file's content, or of a folder's listing.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// One file.
    File,
    /// A folder of files.
    Folder,
}
