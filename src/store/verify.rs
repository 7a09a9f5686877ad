//! Rehashes what is in the store.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Artifact, ArtifactKind, Record, Store};
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
}

/// Something that is not what it must be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fault {
    /// The nodes and outputs whose artifact it is, as `node:output`; none where nothing refers to it, or for a record.
    pub outputs: Vec<String>,
    /// Where it is.
    pub path: PathBuf,
    /// It is not there at all.
    pub missing: bool,
}

/// An artifact to be read, with all that is said to be it.
type Owners = HashMap<(ArtifactKind, Digest), Vec<String>>;

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
        for path in self.entries("records", 2)? {
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
            if path.extension().is_some_and(|extension| extension == "pixels") && !is_sealed(&path)? {
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
        Ok(Verification { artifacts, bytes, faults })
    }
}

impl Fault {
    /// Removes what is damaged, so that the next run makes it again.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path).map_err(Error::io("remove", &self.path))
    }
}

/// Whether a file of prepared pixels ends with the hash of all before.
fn is_sealed(path: &Path) -> Result<bool> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len().saturating_sub(blake3::OUT_LEN as u64);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file.by_ref().take(length))?;
        let mut seal = Vec::new();
        file.read_to_end(&mut seal)?;
        Ok(hasher.finalize().as_bytes() == seal.as_slice())
    };
    read().map_err(Error::io("read", path))
}

fn note_owner(owners: &mut Owners, record: &Record) {
    let outputs: &BTreeMap<String, Artifact> = &record.outputs;
    for (name, artifact) in outputs {
        let output = format!("{}:{name}", record.node);
        if artifact.kind == ArtifactKind::Folder {
            owners.entry((ArtifactKind::File, artifact.digest)).or_default().push(output.clone());
        }
        owners.entry((artifact.kind, artifact.digest)).or_default().push(output);
    }
}
