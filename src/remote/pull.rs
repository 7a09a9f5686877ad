//! What comes from a remote into the local store. Nothing counts before its bytes have been compared with their digest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use super::{AT_ONCE, Fault, MOST_OF_BUNDLE, MOST_OF_RECORD, Remote, at_once, bundle_path, place, record_path};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::create_parent;
use crate::store::{Artifact, ArtifactKind, Listing, Output, Record, Store};

impl Remote {
    /// Reads what the runs of a pipeline last used: the answers to most questions, in one object.
    pub fn prepare(&self, pipeline: &Digest) {
        self.know();
        let path = bundle_path(pipeline);
        let Some((object, content)) = self.get(&path, MOST_OF_BUNDLE) else { return };
        let (bundle, is_whole) = Bundle::read(&content);
        if !is_whole {
            self.note(&path, Fault::Object("it is not what was written".to_owned()), false);
        }
        let mut state = self.state();
        state.records.extend(bundle.records.keys());
        state.bundle = bundle;
        state.bundle_object = Some(object);
    }

    /// The records of these keys, each with an artifact for each of its outputs, as far as the remote has them. What they name
    /// lies in the local store then, and so do they.
    pub fn pull(&self, store: &Store, wanted: &[(Digest, &[Output])]) -> Vec<Option<Record>> {
        let records = self.records(wanted);
        let mut artifacts: Vec<&Artifact> = records.values().flat_map(|record| record.outputs.values()).collect();
        artifacts.sort_by_key(|artifact| (artifact.digest, artifact.kind == ArtifactKind::File));
        artifacts.dedup();
        let held = store.holds(&artifacts);
        let lacking: Vec<&Artifact> =
            artifacts.into_iter().zip(held).filter_map(|(artifact, is_held)| (!is_held).then_some(artifact)).collect();
        let came = at_once(AT_ONCE, &lacking, |artifact| self.pull_artifact(store, artifact));
        let absent: HashSet<(ArtifactKind, Digest)> =
            lacking.iter().zip(came).filter(|(_, came)| !came).map(|(one, _)| (one.kind, one.digest)).collect();
        let is_whole = |record: &&Record| {
            !record.outputs.values().any(|artifact| absent.contains(&(artifact.kind, artifact.digest)))
        };
        let whole: Vec<&Record> = records.values().filter(is_whole).collect();
        let kept = at_once(AT_ONCE, &whole, |record| {
            let kept = store.adopt_record((*record).clone());
            self.state().traffic.pulled += usize::from(kept.is_ok());
            kept.map_err(|error| self.note("", Fault::Here(error.to_string()), false)).ok()
        });
        let kept: HashMap<Digest, Record> = kept.into_iter().flatten().map(|record| (record.key, record)).collect();
        let mut state = self.state();
        state.records.extend(kept.keys());
        // What a record names and the remote lacks is to be sent again, with the record.
        let lost: Vec<Digest> = records.keys().filter(|key| !kept.contains_key(key)).copied().collect();
        state.records.retain(|key| !lost.contains(key));
        state.damaged.extend(lost.iter().map(record_path));
        drop(state);
        wanted.iter().map(|(key, _)| kept.get(key).cloned()).collect()
    }

    /// The records of these keys that the remote has, and that are what the user requires. Nothing of what they name is pulled.
    pub fn peek(&self, wanted: &[(Digest, &[Output])]) -> Vec<Option<Record>> {
        let records = self.records(wanted);
        wanted.iter().map(|(key, _)| records.get(key).cloned()).collect()
    }

    fn records(&self, wanted: &[(Digest, &[Output])]) -> HashMap<Digest, Record> {
        let outputs: BTreeMap<Digest, &[Output]> = wanted.iter().copied().collect();
        let mut found: HashMap<Digest, Record> = HashMap::new();
        let mut unknown: Vec<Digest> = Vec::new();
        let state = self.state();
        for key in outputs.keys() {
            match state.bundle.records.get(key) {
                Some(record) => drop(found.insert(*key, record.clone())),
                None => unknown.push(*key),
            }
        }
        drop(state);
        let asked = at_once(AT_ONCE, &unknown, |key| self.record(key));
        found.extend(asked.into_iter().flatten().map(|record| (record.key, record)));
        let mut refused = 0;
        found.retain(|key, record| {
            let is_admitted = self.usage.required.admits(record.made_by.as_ref());
            refused += usize::from(!is_admitted);
            is_admitted && outputs[key].iter().all(|output| record.outputs.contains_key(&*output.name))
        });
        self.state().traffic.refused += refused;
        found
    }

    /// One record as an object of its own.
    pub(super) fn record(&self, key: &Digest) -> Option<Record> {
        let path = record_path(key);
        let (_, text) = self.get(&path, MOST_OF_RECORD)?;
        let record = String::from_utf8(text).ok().and_then(|text| Record::parse(&text, key));
        if record.is_none() {
            self.note(&path, Fault::Object("its checksum is another".to_owned()), false);
        }
        record
    }

    /// Brings an artifact into the local store; whether it is there now.
    fn pull_artifact(&self, store: &Store, artifact: &Artifact) -> bool {
        let pulled = match artifact.kind {
            ArtifactKind::File => self.pull_file(store, artifact),
            ArtifactKind::Folder => self.pull_folder(store, artifact),
        };
        let is_there = pulled.unwrap_or_else(|error| {
            self.note("", Fault::Here(error.to_string()), false);
            false
        });
        if is_there {
            self.state().artifacts.insert((artifact.kind, artifact.digest));
        }
        is_there
    }

    fn pull_file(&self, store: &Store, artifact: &Artifact) -> Result<bool> {
        let mut file = store.scratch()?.file()?;
        let place = file.path().to_owned();
        let path = place_of(artifact);
        if let Some(content) = self.small(&artifact.digest) {
            file.write_all(&content).map_err(Error::io("write", &place))?;
        } else if self.get_into(&path, artifact.size, &mut |chunk| file.write_all(chunk)).is_none() {
            return Ok(false);
        }
        self.adopt(store, artifact, &place)
    }

    fn pull_folder(&self, store: &Store, artifact: &Artifact) -> Result<bool> {
        let listing_path = place("artifacts", &artifact.digest, "");
        let listing = match self.small(&artifact.digest) {
            Some(content) => Some(content),
            // A listing has some hundred bytes for each file, which may be empty.
            None => self.get(&listing_path, MOST_OF_BUNDLE).map(|(_, content)| content),
        };
        let Some(text) = listing.map(|content| String::from_utf8(content).unwrap_or_default()) else {
            return Ok(false);
        };
        let listing = Listing::parse(&text).ok().filter(|listing| {
            listing.digest() == artifact.digest && listing.size() == artifact.size && listing.stays_inside()
        });
        let Some(listing) = listing else {
            self.note(&listing_path, Fault::Object("it is no listing of this folder".to_owned()), false);
            return Ok(false);
        };
        let scratch = store.scratch()?;
        let folder = scratch.folder()?;
        let mut files = Files::new(&folder, &listing)?;
        let path = place_of(artifact);
        // A folder of empty files has an object, too.
        let came = self.get_into(&path, artifact.size, &mut |chunk| files.take(chunk));
        let is_there = came.is_some() && files.end()? && self.adopt(store, artifact, &folder)?;
        if folder.exists() {
            scratch.throw_away(&folder);
        }
        Ok(is_there)
    }

    /// Takes what came into the local store, if it is what it should be.
    fn adopt(&self, store: &Store, artifact: &Artifact, path: &Path) -> Result<bool> {
        let is_it = store.adopt(path, artifact)?;
        if !is_it {
            self.note(&place_of(artifact), Fault::Object("its bytes are others".to_owned()), false);
        }
        Ok(is_it)
    }

    /// The bytes of an artifact that came with the bundle.
    fn small(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.state().bundle.artifacts.get(digest).cloned()
    }

    /// Brings the prepared pixels that the pipeline's runs used into the local store, where the user asked for it.
    pub fn pull_pixels(&self, store: &Store) {
        if !self.usage.pixels {
            return;
        }
        let names: Vec<String> = self.state().bundle.pixels.iter().cloned().collect();
        let lacking: Vec<String> = names.into_iter().filter(|name| !store.pixels().join(name).exists()).collect();
        at_once(AT_ONCE, &lacking, |name| {
            if let Err(error) = self.pull_pixel_file(store, name) {
                self.note("", Fault::Here(error.to_string()), false);
            }
        });
    }

    fn pull_pixel_file(&self, store: &Store, name: &str) -> Result<()> {
        let mut file = store.scratch()?.file()?;
        let (place, path) = (file.path().to_owned(), pixel_path(name));
        let came = self.get_into(&path, u64::MAX, &mut |chunk| file.write_all(chunk)).is_some();
        if came && !store.adopt_pixels(&place, name)? {
            self.note(&path, Fault::Object("its bytes are others".to_owned()), false);
        }
        Ok(())
    }
}

/// Where the content of an artifact lies.
pub(super) fn place_of(artifact: &Artifact) -> String {
    match artifact.kind {
        ArtifactKind::File => place("artifacts", &artifact.digest, ""),
        ArtifactKind::Folder => place("folders", &artifact.digest, ""),
    }
}

pub(super) fn pixel_path(name: &str) -> String {
    format!("pixels/{name}")
}

/// The files of a folder on their way into it, one behind the other.
struct Files {
    /// Those to come, the next one last: path, bytes, and whether it can be executed.
    rest: Vec<(PathBuf, u64, bool)>,
    /// The one that is being written, and how many bytes it still lacks.
    current: Option<(File, u64)>,
}

impl Files {
    fn new(folder: &Path, listing: &Listing) -> Result<Files> {
        for empty in listing.empty_folders().map(|name| folder.join(name)) {
            std::fs::create_dir_all(&empty).map_err(Error::io("create", &empty))?;
        }
        let files = listing.files().map(|(name, file)| (folder.join(name), file.size, file.executable));
        let mut rest: Vec<_> = files.collect();
        rest.reverse();
        Ok(Files { rest, current: None })
    }

    /// Writes the next bytes of all.
    fn take(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        while !chunk.is_empty() {
            match &mut self.current {
                Some((file, lacking)) if *lacking > 0 => {
                    let length = chunk.len().min(usize::try_from(*lacking).unwrap_or(usize::MAX));
                    file.write_all(&chunk[..length])?;
                    *lacking -= length as u64;
                    chunk = &chunk[length..];
                }
                _ => {
                    if !self.begin()? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins the next file; whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        let Some((path, size, executable)) = self.rest.pop() else { return Ok(false) };
        create_parent(&path).map_err(io::Error::other)?;
        let file = File::create_new(&path)?;
        file.set_permissions(Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        self.current = Some((file, size));
        Ok(true)
    }

    /// Makes the empty files at the end; whether all is there.
    fn end(mut self) -> Result<bool> {
        let mut is_whole = true;
        loop {
            is_whole &= self.current.take().is_none_or(|(_, lacking)| lacking == 0);
            if !is_whole || !self.begin().map_err(Error::io("write", Path::new("folder")))? {
                return Ok(is_whole);
            }
        }
    }
}
