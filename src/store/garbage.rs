//! What nobody needs any more, and its removal: first the records, then what only they needed, so that whenever this is
//! interrupted every record still proves what it names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walkdir::WalkDir;

use super::scratch::is_dead;
use super::{Artifact, ArtifactKind, RECORDS, Store, key_of_events};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{open_folders, remove, remove_folder};

/// How long prepared pixels stay that nobody reads.
const KEPT_PIXELS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What must stay.
#[derive(Debug, Default)]
pub struct Needed {
    /// The records with these keys and their artifacts.
    pub keys: HashSet<Digest>,
    /// What nodes with these keys resume from.
    pub partial: HashSet<Digest>,
    /// Logs, as [`Store::log`] names them.
    pub logs: HashSet<PathBuf>,
    /// The records of these runs.
    pub runs: HashSet<String>,
}

/// What may go.
#[derive(Debug)]
pub struct Garbage {
    /// By the name of the node that left it.
    pub results: BTreeMap<String, Unneeded>,
    /// The rest.
    pub leftovers: BTreeMap<Leftovers, Unneeded>,
    /// Records that stay.
    pub kept: usize,
    /// In the order of removal.
    paths: Vec<PathBuf>,
}

/// What may go that is no node's result.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Leftovers {
    /// What nodes would have resumed from.
    Partial,
    /// Logs of nodes that are gone.
    Logs,
    /// Event files of results that are gone.
    Events,
    /// Prepared pixels that nobody has read for long.
    Pixels,
    /// Records of runs.
    Runs,
    /// What killed commands left, and damaged records.
    Fragments,
    /// Outputs that came out otherwise when they were made again.
    Differing,
}

/// How much may go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unneeded {
    /// Results, files or folders.
    pub count: usize,
    /// What they take.
    pub bytes: u64,
}

impl Unneeded {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

impl Store {
    /// Finds what may go. Whoever calls this has the store alone, or what others are making seems to be garbage.
    pub fn garbage(&self, needed: &Needed) -> Result<Garbage> {
        let mut garbage = Garbage { results: BTreeMap::new(), leftovers: BTreeMap::new(), kept: 0, paths: Vec::new() };
        let mut kept: HashSet<PathBuf> = HashSet::new();
        let mut makers: HashMap<PathBuf, String> = HashMap::new();
        for path in self.entries(RECORDS, 2)? {
            let record = self.key_of_record(&path).map(|key| self.read_record(&key)).transpose()?.flatten();
            let Some(record) = record else {
                garbage.leave(Leftovers::Fragments, path);
                continue;
            };
            let places = record.outputs.values().flat_map(|artifact| self.places(artifact));
            if needed.keys.contains(&record.key) {
                garbage.kept += 1;
                kept.extend(places);
            } else {
                makers.extend(places.map(|place| (place, record.node.clone())));
                garbage.results.entry(record.node.clone()).or_default().add(size(&path));
                garbage.paths.push(path);
            }
        }
        for path in [self.entries("folders", 2)?, self.entries("artifacts", 2)?].concat() {
            match makers.get(&path) {
                _ if kept.contains(&path) => {}
                Some(node) => {
                    garbage.results.get_mut(node).expect("every maker has a result").bytes += size(&path);
                    garbage.paths.push(path);
                }
                None => garbage.leave(Leftovers::Fragments, path),
            }
        }
        let partial: HashSet<PathBuf> = needed.partial.iter().map(|key| self.partial(key)).collect();
        let runs: HashSet<PathBuf> =
            needed.runs.iter().flat_map(|id| [self.run_path(id), self.journal_path(id)]).collect();
        let mut dead = self.entries("work", 1)?;
        // Who reads a store that cannot be locked, or that was not there yet, has scratch, too.
        dead.retain(|path| is_dead(path));
        let logs: Vec<PathBuf> = self.entries_below("logs")?;
        let rest = [
            (Leftovers::Partial, self.entries("partial", 1)?, &partial),
            (Leftovers::Pixels, self.entries("pixels", 1)?, &self.pixels_in_use()?),
            (Leftovers::Logs, logs, &needed.logs),
            (Leftovers::Runs, [self.entries("runs", 1)?, self.entries("live", 1)?].concat(), &runs),
            (Leftovers::Fragments, dead, &HashSet::new()),
            (Leftovers::Differing, self.entries("differs", 1)?, &HashSet::new()),
        ];
        let curves: HashSet<String> = needed.keys.union(&needed.partial).map(Digest::short).collect();
        for file in self.entries_below("tensorboard")? {
            let key = file.parent().and_then(key_of_events);
            if !key.is_some_and(|key| curves.contains(key)) {
                garbage.leave(Leftovers::Events, file);
            }
        }
        for (what, paths, kept) in rest {
            for path in paths.into_iter().filter(|path| !kept.contains(path)) {
                garbage.leave(what, path);
            }
        }
        Ok(garbage)
    }

    /// Prepared pixels that were read in the last [`KEPT_PIXELS`].
    fn pixels_in_use(&self) -> Result<HashSet<PathBuf>> {
        let recent = |path: &PathBuf| {
            let age = fs::metadata(path).ok()?.modified().ok()?.elapsed().unwrap_or_default();
            Some(age < KEPT_PIXELS && path.extension()? == "pixels")
        };
        Ok(self.entries("pixels", 1)?.into_iter().filter(|path| recent(path) == Some(true)).collect())
    }

    /// The key that a record's place says it is of.
    pub(super) fn key_of_record(&self, path: &Path) -> Option<Digest> {
        let key = Digest::parse(path.file_stem()?.to_str()?)?;
        (self.record_path(&key) == *path).then_some(key)
    }

    /// Where an artifact is: for a folder, the folder and its listing.
    pub(super) fn places(&self, artifact: &Artifact) -> Vec<PathBuf> {
        let listing = (artifact.kind == ArtifactKind::Folder).then(|| self.place("artifacts", &artifact.digest));
        listing.into_iter().chain([self.artifact_path(artifact)]).collect()
    }

    /// What is exactly so deep below one of the store's folders.
    pub(super) fn entries(&self, folder: &str, depth: usize) -> Result<Vec<PathBuf>> {
        found(WalkDir::new(self.root.join(folder)).min_depth(depth).max_depth(depth), |_| true)
    }

    /// All files below one of the store's folders.
    fn entries_below(&self, folder: &str) -> Result<Vec<PathBuf>> {
        found(WalkDir::new(self.root.join(folder)), |entry| !entry.file_type().is_dir())
    }
}

impl Garbage {
    /// All bytes that would be free.
    pub fn bytes(&self) -> u64 {
        self.results.values().chain(self.leftovers.values()).map(|unneeded| unneeded.bytes).sum()
    }

    /// Removes it all, and returns what could not be removed.
    ///
    /// # Errors
    /// A record cannot be removed: what it names must stay.
    pub fn remove(&self, store: &Store) -> Result<Vec<Error>> {
        let away = store.scratch()?.folder()?;
        let (records, work) = (store.root.join(RECORDS), store.work());
        let mut left = Vec::new();
        for path in &self.paths {
            let removed = if path.is_dir() && !path.starts_with(&work) {
                // As a whole first, so that there is never half a folder.
                let moved = away.join(left.len().to_string());
                moved_away(path, &moved).and_then(|()| remove(&moved))
            } else {
                remove(path)
            };
            match removed.map_err(Error::io("remove", path)) {
                Err(error) if path.starts_with(&records) => return Err(error),
                Err(error) => left.push(error),
                // The folders above go when the last thing in them has gone.
                Ok(()) => path.ancestors().skip(1).take_while(|folder| fs::remove_dir(folder).is_ok()).for_each(drop),
            }
        }
        if !self.results.is_empty() {
            // They hold copies of records. What cannot be removed counts for nothing all the same.
            let _ = remove_folder(&store.packs());
        }
        // Claims, too.
        store.remove_dead();
        Ok(left)
    }

    fn leave(&mut self, what: Leftovers, path: PathBuf) {
        self.leftovers.entry(what).or_default().add(size(&path));
        self.paths.push(path);
    }
}

/// Moves a folder, also one that programs have made read-only.
fn moved_away(folder: &Path, to: &Path) -> std::io::Result<()> {
    fs::rename(folder, to).or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied => open_folders(folder).and_then(|()| fs::rename(folder, to)),
        _ => Err(error),
    })
}

/// Bytes in a file, or in all files of a folder, as far as they can be seen. What has gone meanwhile, such as another
/// command's temporary file, takes no room.
fn size(path: &Path) -> u64 {
    let files = WalkDir::new(path).into_iter().flatten().filter(|entry| !entry.file_type().is_dir());
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn found(walk: WalkDir, is_wanted: impl Fn(&walkdir::DirEntry) -> bool) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in walk.sort_by_file_name() {
        match entry {
            Ok(entry) if is_wanted(&entry) => paths.push(entry.into_path()),
            Ok(_) => {}
            // A store in which nothing of this kind was ever written.
            Err(error) if error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound) => {}
            Err(error) => {
                let path = error.path().unwrap_or(Path::new("")).to_owned();
                return Err(Error::io("read", path)(error.into()));
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;

    /// Commits a node with a folder of its own and a file that all nodes share.
    fn commit(store: &Store, folder: &Path, node: &str) -> Digest {
        let record = Record { node: node.to_owned(), ..Record::example(&serde_json::json!(node)) };
        let (file, own) = (folder.join("file"), folder.join("own"));
        fs::write(&file, "shared").unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(own.join("a"), node).unwrap();
        fs::write(own.join("b"), "b").unwrap();
        let outputs = [("file".to_owned(), file), ("own".to_owned(), own)].into();
        store.commit(record, &outputs).unwrap().key
    }

    #[test]
    fn an_interrupted_removal_leaves_only_records_that_hold() {
        let whole = |store: &Store| {
            let verification = store.verify_all().unwrap();
            assert!(verification.faults.is_empty(), "{:?}", verification.faults);
        };
        let mut steps = 0..;
        loop {
            let step = steps.next().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            let _lock = store.have_alone(|| panic!()).unwrap();
            let keys = ["kept", "gone", "gone too"].map(|node| commit(&store, folder.path(), node));
            fs::create_dir_all(store.partial(&keys[0])).unwrap();
            fs::create_dir_all(store.partial(&keys[1])).unwrap();
            fs::write(store.root().join("artifacts/.new-1"), "unfinished").unwrap();
            let needed = Needed { keys: [keys[0]].into(), partial: [keys[0]].into(), ..Needed::default() };
            let mut garbage = store.garbage(&needed).unwrap();
            assert_eq!((garbage.results.len(), garbage.kept), (2, 1));
            let all = garbage.paths.len();
            garbage.paths.truncate(step);
            assert!(garbage.remove(&store).unwrap().is_empty());
            whole(&store);
            let rest = store.garbage(&needed).unwrap();
            assert!(rest.remove(&store).unwrap().is_empty());
            whole(&store);
            assert!(store.garbage(&needed).unwrap().paths.is_empty());
            assert!(store.partial(&keys[0]).exists() && !store.partial(&keys[1]).exists());
            let record = store.record(&keys[0]).unwrap();
            assert_eq!(record.outputs.len(), 2);
            if step == all {
                return;
            }
        }
    }
}
