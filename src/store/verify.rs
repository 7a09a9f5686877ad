//! Rehashes what is in the store.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use rayon::prelude::*;

use super::pixels::{PIXELS, seal};
use super::{Artifact, ArtifactKind, RECORDS, Record, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::remove;

/// What a look at every byte found.
#[derive(Debug, Default)]
pub struct Verification {
    /// How many artifacts were read.
    pub artifacts: usize,
    /// Their size.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Nodes that were made from something that is damaged now. Nobody knows whether they read it before or after.
    pub doubtful: Vec<Doubtful>,
}

/// A result that may have been computed from damaged bytes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Doubtful {
    /// The node.
    pub node: String,
    /// Its key.
    pub key: Digest,
    /// Its record.
    path: PathBuf,
}

/// Something that is not what it must be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fault {
    /// The outputs whose artifact it is; none where nothing refers to it, or for a record.
    pub outputs: Vec<Owner>,
    /// Where it is.
    pub path: PathBuf,
    /// It is not there at all.
    pub missing: bool,
}

/// An output of a node, when it had this key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// The node.
    pub node: String,
    /// The output.
    pub output: String,
    /// The node's key.
    pub key: Digest,
}

/// An artifact to be read, with all that is said to be it.
type Owners = HashMap<(ArtifactKind, Digest), Vec<Owner>>;

impl Store {
    /// Reads the artifacts of the records with these keys.
    pub fn verify(&self, keys: impl IntoIterator<Item = Digest>) -> Result<Verification> {
        let mut owners = Owners::new();
        let mut faults = Vec::new();
        for key in keys {
            match self.record(&key) {
                Some(record) => note_owner(&mut owners, &record),
                None => {
                    let path = self.record_path(&key);
                    faults.push(Fault { outputs: Vec::new(), missing: !path.exists(), path });
                }
            }
        }
        self.read_all(owners, faults)
    }

    /// Reads everything: all records, and all artifacts whether a record refers to them or not.
    pub fn verify_all(&self) -> Result<Verification> {
        let mut owners = Owners::new();
        let mut faults = Vec::new();
        for path in self.entries(RECORDS, 2)? {
            match self.key_of_record(&path).and_then(|key| self.record(&key)) {
                Some(record) => note_owner(&mut owners, &record),
                None => faults.push(Fault { outputs: Vec::new(), path, missing: false }),
            }
        }
        for (folder, kind) in [("folders", ArtifactKind::Folder), ("artifacts", ArtifactKind::File)] {
            for path in self.entries(folder, 2)? {
                if let Some(digest) = path.file_name().and_then(|name| Digest::parse(name.to_str()?)) {
                    owners.entry((kind, digest)).or_default();
                }
            }
        }
        for path in self.entries("pixels", 1)? {
            if path.extension().is_some_and(|extension| extension == PIXELS) && seal(&path)?.is_none() {
                faults.push(Fault { outputs: Vec::new(), path, missing: false });
            }
        }
        self.read_all(owners, faults)
    }

    fn read_all(&self, owners: Owners, mut faults: Vec<Fault>) -> Result<Verification> {
        let read: Vec<(u64, Option<Fault>)> = owners
            .into_par_iter()
            .map(|((kind, digest), mut outputs)| {
                let artifact = Artifact { kind, digest, size: 0 };
                let path = self.artifact_path(&artifact);
                outputs.sort();
                if !path.exists() {
                    return Ok((0, Some(Fault { outputs, path, missing: true })));
                }
                let (found, _) = Artifact::of(&path)?;
                let whole = found.is_same(&artifact);
                Ok((found.size, (!whole).then_some(Fault { outputs, path, missing: false })))
            })
            .collect::<Result<_>>()?;
        let (artifacts, bytes) = (read.len(), read.iter().map(|(size, _)| size).sum());
        faults.extend(read.into_iter().filter_map(|(_, fault)| fault));
        faults.sort();
        let doubtful = self.made_from(&faults.iter().filter_map(Fault::damaged).collect());
        Ok(Verification { artifacts, bytes, faults, doubtful })
    }

    /// What was made from artifacts with these digests. What was made from that in turn is what it should be: its key holds
    /// the digest of what it read.
    fn made_from(&self, damaged: &HashSet<Digest>) -> Vec<Doubtful> {
        if damaged.is_empty() {
            return Vec::new();
        }
        let records = self.records().into_iter();
        let doubtful = records.filter(|record| record.inputs().iter().any(|digest| damaged.contains(digest)));
        let mut doubtful: Vec<Doubtful> = doubtful
            .map(|record| Doubtful { path: self.record_path(&record.key), node: record.node.clone(), key: record.key })
            .collect();
        doubtful.sort();
        doubtful
    }

    /// Removes what is damaged, and the records of what left it and of what was made from it: the next run makes again what
    /// it needs, and nothing refers to what is lost.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_faults(&self, found: &Verification) -> Result<()> {
        // The records first: while the fault is there, all this can be found again.
        let owners = found.faults.iter().flat_map(|fault| &fault.outputs).map(|owner| self.record_path(&owner.key));
        for path in found.doubtful.iter().map(|doubtful| doubtful.path.clone()).chain(owners) {
            remove(&path).map_err(Error::io("remove", &path))?;
        }
        found.faults.iter().try_for_each(|fault| self.remove_damaged(&fault.path))
    }
}

impl Fault {
    /// The digest of an artifact that is there and holds other bytes.
    fn damaged(&self) -> Option<Digest> {
        let digest = || Digest::parse(self.path.file_name()?.to_str()?);
        (!self.missing).then(digest).flatten()
    }
}

fn note_owner(owners: &mut Owners, record: &Record) {
    for (name, artifact) in &record.outputs {
        let output = Owner { node: record.node.clone(), output: name.clone(), key: record.key };
        if artifact.kind == ArtifactKind::Folder {
            owners.entry((ArtifactKind::File, artifact.digest)).or_default().push(output.clone());
        }
        owners.entry((artifact.kind, artifact.digest)).or_default().push(output);
    }
}
