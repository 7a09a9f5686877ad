//! The store: content-addressed artifacts and the records of what made them.
//!
//! ```text
//! artifacts/ab/abcd...        a file, under the blake3 of its content
//! folders/ab/abcd.../         a folder, under the blake3 of its listing (which is an artifact)
//! records/ab/abcd....json     what the node with this key left; written last, so that it proves the rest
//! partial/abcd.../            what an unfinished node resumes from
//! work/<random>/              scratch of a run, removed by the next one if the run died
//! state/<pipeline>.json       the key each node had when it was last fresh, for `explain`
//! logs/<pipeline>/<node>.log  what a worker wrote to its standard error
//! stat-cache                  digests of input files by path, size, times and inode
//! ```

mod digest;
mod listing;
mod record;
mod scratch;
mod stat_cache;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use digest::Digest;
pub use listing::Listing;
use listing::walk;
pub use record::{Artifact, ArtifactKind, Record};
pub use scratch::{Scratch, remove_dead};
pub use stat_cache::StatCache;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::stage::Output;

/// The store in one folder; any number of processes may share it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`; nothing is created before something is written.
    ///
    /// # Errors
    /// `root` is there and is no folder.
    pub fn open(root: &Path) -> Result<Store> {
        if root.exists() && !root.is_dir() {
            return Err(Error::hinted(
                format!("the store `{}` is not a folder", root.display()),
                "name another with `--store`",
            ));
        }
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        Ok(Store { root })
    }

    /// The record of `key`, if it is there with an artifact for each of `outputs`.
    pub fn valid_record(&self, key: &Digest, outputs: &[Output]) -> Option<Record> {
        let record = self.record(key)?;
        self.missing(&record, outputs).is_none().then_some(record)
    }

    /// The record of `key`, if it is there and readable; a damaged one counts as absent.
    pub fn record(&self, key: &Digest) -> Option<Record> {
        let text = fs::read_to_string(self.record_path(key)).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        record.is_of(key).then_some(record)
    }

    /// The first of `outputs` that the record lacks or the store has lost or holds in another size.
    pub fn missing<'o>(&self, record: &Record, outputs: &'o [Output]) -> Option<&'o str> {
        let held = |output: &&Output| record.outputs.get(&*output.name).is_some_and(|artifact| self.holds(artifact));
        outputs.iter().find(|output| !held(output)).map(|output| &*output.name)
    }

    /// Where an artifact lies.
    pub fn artifact_path(&self, artifact: &Artifact) -> PathBuf {
        match artifact.kind {
            ArtifactKind::File => self.place("artifacts", &artifact.digest),
            ArtifactKind::Folder => self.place("folders", &artifact.digest),
        }
    }

    /// The digests of a folder artifact's files.
    pub fn listing(&self, artifact: &Artifact) -> Result<Listing> {
        Listing::read(&self.place("artifacts", &artifact.digest))
    }

    /// Takes a node's outputs out of its scratch folder, then writes the record.
    ///
    /// # Errors
    /// A declared output is missing, or the store cannot be written: then there is no record.
    pub fn commit(&self, mut record: Record, outputs: &BTreeMap<String, PathBuf>) -> Result<Record> {
        for (name, path) in outputs {
            record.outputs.insert(name.clone(), self.adopt(path)?);
        }
        let path = self.record_path(&record.key);
        let text = serde_json::to_string_pretty(&record).map_err(|error| Error::format(&path, "record", error))?;
        write_atomically(&path, (text + "\n").as_bytes())?;
        // The node is done: what it would have resumed from may go, and another run may be removing it too.
        let _ = fs::remove_dir_all(self.partial(&record.key));
        Ok(record)
    }

    /// Moves a file or folder into the store, under its digest.
    fn adopt(&self, path: &Path) -> Result<Artifact> {
        let metadata = fs::metadata(path).map_err(Error::io("find the output", path))?;
        let artifact = if metadata.is_dir() {
            let listing = Listing::of_folder(path)?;
            let files: Vec<&String> = listing.entries().map(|(file, _)| file).collect();
            files.par_iter().try_for_each(|file| sync(&path.join(file)))?;
            let artifact = Artifact { kind: ArtifactKind::Folder, digest: listing.digest(), size: listing.size() };
            write_atomically(&self.place("artifacts", &artifact.digest), listing.text().as_bytes())?;
            artifact
        } else {
            sync(path)?;
            Artifact { kind: ArtifactKind::File, digest: Digest::of_file(path)?, size: metadata.len() }
        };
        let place = self.artifact_path(&artifact);
        create_parent(&place)?;
        protect(path)?;
        match artifact.kind {
            // What lies there has the same content, unless it is damaged: then this mends it.
            ArtifactKind::File => fs::rename(path, &place).map_err(Error::io("move into the store", &place))?,
            ArtifactKind::Folder => self.adopt_folder(path, &artifact, &place)?,
        }
        sync_parent(&place);
        Ok(artifact)
    }

    /// A folder cannot be renamed over another: an intact one stays, a damaged one is moved out of the way.
    fn adopt_folder(&self, path: &Path, artifact: &Artifact, place: &Path) -> Result<()> {
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io("move into the store", to));
        if place.exists() && !self.holds(artifact) {
            // Beside the new folder, so that it goes with this run's scratch.
            let _ = fs::rename(place, path.with_extension("damaged"));
        }
        // Another run may put the same folder there at any moment.
        if self.holds(artifact) {
            Ok(())
        } else {
            rename(path, place).or_else(|error| if self.holds(artifact) { Ok(()) } else { Err(error) })
        }
    }

    /// The artifact is there with the right size; a folder, with all its files in their sizes.
    fn holds(&self, artifact: &Artifact) -> bool {
        let path = self.artifact_path(artifact);
        let is_whole =
            |path: &Path, size: u64| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == size);
        match artifact.kind {
            ArtifactKind::File => is_whole(&path, artifact.size),
            ArtifactKind::Folder => self
                .listing(artifact)
                .is_ok_and(|listing| listing.sizes().par_bridge().all(|(file, size)| is_whole(&path.join(file), size))),
        }
    }

    /// Where an unfinished node keeps what it resumes from.
    pub fn partial(&self, key: &Digest) -> PathBuf {
        self.root.join("partial").join(key.to_string())
    }

    /// Where the log of a node's worker is.
    pub fn log(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("logs").join(pipeline).join(format!("{node}.log"))
    }

    /// Where scratch folders of runs are.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The file of the stat cache.
    pub fn stat_cache(&self) -> PathBuf {
        self.root.join("stat-cache")
    }

    /// The key that each node of a pipeline had when it was last fresh.
    pub fn last_keys(&self, pipeline: &str) -> BTreeMap<String, Digest> {
        fs::read_to_string(self.state_path(pipeline))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Remembers the keys for [`Store::last_keys`].
    pub fn remember_keys(&self, pipeline: &str, keys: &BTreeMap<String, Digest>) -> Result<()> {
        let path = self.state_path(pipeline);
        let text = serde_json::to_string(keys).map_err(|error| Error::format(&path, "state", error))?;
        write_atomically(&path, text.as_bytes())
    }

    fn state_path(&self, pipeline: &str) -> PathBuf {
        self.root.join("state").join(format!("{pipeline}.json"))
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.place("records", key).with_extension("json")
    }

    fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(kind).join(&name[..2]).join(name)
    }
}

/// Copies an artifact to `target`, replacing what is there; the store's own copy is never linked to, so that editing
/// the result cannot damage it.
pub fn materialise(source: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(source).map_err(Error::io("read", source))?;
    if fs::read(target).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    write_atomically(target, &bytes)
}

/// Writes `bytes` to a temporary file beside `path`, syncs it, and renames it to `path`.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(Error::io("write in", folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    sync_parent(path);
    Ok(())
}

fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Makes a rename durable; file systems that cannot sync a folder do without.
fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| fs::File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// Makes files read-only, so that no program changes an artifact by accident.
fn protect(path: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(path) {
        let entry = entry.map_err(|error| Error::io("read", path)(error.into()))?;
        if entry.file_type().is_file() {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o444);
            fs::set_permissions(entry.path(), permissions).map_err(Error::io("protect", entry.path()))?;
        }
    }
    Ok(())
}
