//! What goes from the local store to a remote: artifacts first, then the record that names them, so that whoever finds a record
//! finds the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use memmap2::Mmap;

use super::bundle::{Bundle, SMALL};
use super::pull::{pixel_path, place_of};
use super::{AT_ONCE, FORMAT, FORMAT_PATH, RELIABLE, Remote, at_once, bundle_path, place, record_path};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::{Artifact, ArtifactKind, Record, Store};

impl Remote {
    /// Sends a result, unless the remote is known to have it. [`Remote::prepare`] comes first.
    pub fn send(&self, store: &Store, record: &Record) {
        if !self.takes() || self.state().records.contains(&record.key) {
            return;
        }
        if std::mem::take(&mut self.state().lacks_format) {
            self.put(FORMAT_PATH, format!("{FORMAT}\n").into_bytes().into());
        }
        let mut artifacts = record.outputs.values();
        let sent: Result<bool> =
            artifacts.try_fold(true, |all, artifact| Ok(all && self.send_artifact(store, artifact)?));
        match sent {
            Ok(true) => {
                let record = Record { unsynced: None, ..record.clone() };
                if self.put(&record_path(&record.key), record.text().into_bytes().into()) {
                    let mut state = self.state();
                    state.records.insert(record.key);
                    state.traffic.sent += 1;
                }
            }
            Ok(false) => {}
            Err(error) => self.note_here(&error),
        }
    }

    /// Sends what the remote lacks of the results of a pipeline's nodes, and what answers for all of them at once. Pixels that
    /// were read or written since `since` go with them, where the user asked for it.
    pub fn send_all(&self, store: &Store, pipeline: &Digest, nodes: &BTreeMap<String, Record>, since: SystemTime) {
        if !self.takes() {
            return;
        }
        let state = self.state();
        let unknown: BTreeMap<Digest, &Record> =
            nodes.values().filter(|record| !state.records.contains(&record.key)).map(|one| (one.key, one)).collect();
        drop(state);
        let unknown: Vec<&Record> = unknown.into_values().collect();
        at_once(AT_ONCE, &unknown, |record| {
            let path = record_path(&record.key);
            if !self.state().damaged.contains(&path) && self.look(&path).is_some() {
                self.state().records.insert(record.key);
            }
        });
        at_once(AT_ONCE, &unknown, |record| self.send(store, record));
        let pixels = self.send_pixels(store, since);
        self.send_bundle(store, pipeline, nodes, pixels);
    }

    /// Replaces the bundle, unless it is the same. It holds what the remote has alone.
    fn send_bundle(
        &self,
        store: &Store,
        pipeline: &Digest,
        nodes: &BTreeMap<String, Record>,
        pixels: BTreeSet<String>,
    ) {
        let (before, object) = {
            let state = self.state();
            (state.bundle.clone(), state.bundle_object.clone())
        };
        let mut known: BTreeMap<String, Record> = BTreeMap::new();
        // Nodes that this run was not about stay.
        for (node, key) in before.nodes.iter().filter(|(node, _)| !nodes.contains_key(*node)) {
            known.extend(before.records.get(key).map(|record| (node.clone(), record.clone())));
        }
        let state = self.state();
        let there = nodes.iter().filter(|(_, record)| state.records.contains(&record.key));
        known.extend(there.map(|(node, record)| (node.clone(), Record { unsynced: None, ..record.clone() })));
        drop(state);
        let pixels: BTreeSet<String> = before.pixels.union(&pixels).cloned().collect();
        let keys: BTreeMap<&String, Digest> = known.iter().map(|(node, record)| (node, record.key)).collect();
        let is_same =
            keys.into_iter().eq(before.nodes.iter().map(|(node, key)| (node, *key))) && pixels == before.pixels;
        let is_new = object.is_some_and(|object| object.age() < RELIABLE);
        if known.is_empty() || is_same && is_new && !self.state().damaged.contains(&bundle_path(pipeline)) {
            return;
        }
        let read = |digest: &Digest| {
            before.artifacts.get(digest).cloned().or_else(|| {
                let artifact = Artifact { kind: ArtifactKind::File, digest: *digest, size: 0 };
                let path = store.artifact_path(&artifact);
                let is_small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= SMALL);
                is_small.then(|| std::fs::read(path).ok()).flatten().filter(|content| Digest::of(content) == *digest)
            })
        };
        let bundle = Bundle { pixels, ..Bundle::new(&known, read) };
        let content = bundle.write().expect("an archive in memory can be written");
        if self.put(&bundle_path(pipeline), content.into()) {
            self.state().bundle = bundle;
        }
    }

    /// Sends an artifact, unless the remote is known to have it; whether it has it now.
    fn send_artifact(&self, store: &Store, artifact: &Artifact) -> Result<bool> {
        if self.state().artifacts.contains(&(artifact.kind, artifact.digest)) {
            return Ok(true);
        }
        let path = store.artifact(artifact)?;
        let is_sent = match artifact.kind {
            ArtifactKind::File => self.send_file(&place_of(artifact), &path)?,
            ArtifactKind::Folder => {
                let listing = store.listing(artifact)?;
                // One object for the whole folder: many of its files are small.
                let mut all = store.scratch()?.file()?;
                for (name, _) in listing.files() {
                    let file = path.join(name);
                    let mut file = File::open(&file).map_err(Error::io("read", &file))?;
                    std::io::copy(&mut file, all.as_file_mut()).map_err(Error::io("write in", store.root()))?;
                }
                let text = listing.text().into_bytes();
                self.put(&place("artifacts", &artifact.digest, ""), text.into())
                    && self.send_file(&place_of(artifact), all.path())?
            }
        };
        if is_sent {
            self.state().artifacts.insert((artifact.kind, artifact.digest));
        }
        Ok(is_sent)
    }

    /// Sends a file, unless an object of its size has been at its place for a short time.
    fn send_file(&self, path: &str, file: &Path) -> Result<bool> {
        let size = std::fs::metadata(file).map_err(Error::io("read", file))?.len();
        // To ask whether something small is there takes as long as to send it.
        if size > SMALL
            && !self.state().damaged.contains(path)
            && self.look(path).is_some_and(|there| there.size == size && there.age() < RELIABLE)
        {
            return Ok(true);
        }
        Ok(self.takes() && self.put(path, content(file, size)?))
    }

    /// Sends prepared pixels, where the user asked for it; the names of those that the remote has now.
    fn send_pixels(&self, store: &Store, since: SystemTime) -> BTreeSet<String> {
        let files: Vec<(String, PathBuf)> = match self.usage.pixels && self.takes() {
            true => store.pixels_since(since).into_iter().collect(),
            false => Vec::new(),
        };
        let sent = at_once(AT_ONCE, &files, |(name, path)| {
            let sent = self.send_file(&pixel_path(name), path);
            sent.map_err(|error| self.note_here(&error)).is_ok_and(|is_sent| is_sent)
        });
        files.into_iter().zip(sent).filter(|(_, is_sent)| *is_sent).map(|((name, _), _)| name).collect()
    }

    /// Something of the local store cannot be read. What it belongs to is not sent; all else is.
    fn note_here(&self, error: &Error) {
        let message = format!("a result could not be sent to the remote `{}`: {error}", self.name);
        self.state().tell(message, "`maple-pipe verify` reads the store, and says what is damaged".to_owned());
    }
}

/// The bytes of a file of the store's, which nobody changes. A large one is mapped and not read.
fn content(path: &Path, size: u64) -> Result<Bytes> {
    const LARGE: u64 = 1 << 20;
    if size < LARGE {
        return std::fs::read(path).map(Bytes::from).map_err(Error::io("read", path));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: what lies in a store or in this process's scratch is replaced and never written to.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
    let map = unsafe { Mmap::map(&file) };
    map.map(Bytes::from_owner).map_err(Error::io("read", path))
}
