//! The store: content-addressed artifacts and the records of what made them.
//!
//! ```text
//! artifacts/ab/abcd...        a file, under the blake3 of its content
//! folders/ab/abcd.../         a folder, under the blake3 of its listing (which is an artifact)
//! records/ab/abcd....json     what the node with this key left; written last, so that it proves the rest
//! packs/<pipeline>            copies of the records that its nodes had the last time, which are read faster
//! claims/abcd...              locked by the process that computes this key
//! partial/abcd.../            what an unfinished node resumes from
//! work/run-<...>/             scratch of a command that writes, with its claim beside it
//! state/<pipeline>.json       the key each node had when it was last fresh, for `explain`
//! logs/<pipeline>/<node>.log  what a worker wrote to its standard error
//! tensorboard/<pipeline>/<node>/<key>/  event files: what training and evaluation tell TensorBoard while they run
//! pixels/<digest>.pixels  decoded images, many a file; may be removed at any time
//! runs/<id>.jsonl             what each run did
//! jobs/<name>/                what runs have handed to a queue, such as a cluster's, until it has ended
//! live/<id>.jsonl             what a run has done so far, locked by it; what is not locked is of a run that was killed
//! differs/<node>/             outputs that came out otherwise when they were made again, until the next `gc`
//! lock                        held by commands that use the store, so that nothing is removed under them
//! inputs/                     digests of input files by path, size, times and inode
//! verified/                   digests of artifacts as they were last read, in the same way
//! format                      the number of this layout
//! ```

mod ahead;
mod garbage;
mod journal;
mod listing;
mod lock;
mod materialise;
mod pack;
mod pixels;
mod reading;
mod record;
mod run_record;
mod scratch;
mod shelf;
mod stat_cache;
mod verify;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ahead::Ahead;
pub use ahead::LastKeys;
pub use garbage::{Garbage, Leftovers, Needed, Unneeded};
pub use journal::Journal;
pub use listing::Listing;
pub use lock::Lock;
pub use reading::Reading;
pub use record::{Artifact, ArtifactKind, CanonicalJson, Output, Record};
pub use run_record::{Commit, End, Invocation, NodeEnd, RunNode, RunRecord};
pub use scratch::Scratch;
pub use shelf::{LocalShelf, Shelf};
pub use stat_cache::StatCache;
pub use verify::{Doubtful, Fault, Owner, Verification};
pub use walk::Stat;

use rayon::prelude::*;

use crate::boot::Boot;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{
    Claim, Claimed, Holder, create_parent, read_small, remove, remove_folder, sync, sync_parent, write_atomically,
    write_by_way_of,
};

/// The format of a store that this program makes and reads.
pub const FORMAT: u32 = 1;

/// The folder of records.
const RECORDS: &str = "records";
/// What the names of logs end with, behind the name of a node.
pub const LOG: &str = ".log";
/// What the names of files in `state/` end with, behind the name of a pipeline.
pub const STATE: &str = ".json";

/// The store in one folder; any number of processes may share it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Where its artifacts are.
    shelf: LocalShelf,
    /// Of this process; made when something is first written.
    scratch: OnceLock<Scratch>,
    ahead: Ahead,
}

impl Store {
    /// The store at `root`; nothing is created before something is written.
    ///
    /// # Errors
    /// `root` is there and is no folder, or may not be read.
    pub fn open(root: &Path) -> Result<Store> {
        match fs::read_dir(root).map_err(|error| error.kind()) {
            Err(ErrorKind::NotADirectory) => {
                return Err(Error::hinted(
                    format!("the store `{}` is not a folder", root.display()),
                    "name another with `--store`",
                ));
            }
            // What cannot be read is not what is not there: all in it would seem never to have run.
            Err(ErrorKind::PermissionDenied) => return Err(may_not_be_read("the store", root)),
            _ => {}
        }
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        let shelf = LocalShelf::new(&root);
        let store = Store { root, shelf, scratch: OnceLock::new(), ahead: Ahead::default() };
        match store.format()? {
            Some(format) if format > FORMAT => Err(Error::hinted(
                format!(
                    "the store `{}` has format {format}, and this program knows those up to {FORMAT}",
                    store.root.display()
                ),
                "use the newer maple-pipe that made it, or name another store with `--store`",
            )),
            _ => Ok(store),
        }
    }

    /// The format that the store says it has; nothing where it does not, which all stores before this line did not.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn format(&self) -> Result<Option<u32>> {
        Ok(read_small(&self.root.join("format"))?.and_then(|text| text.trim().parse().ok()))
    }

    /// Says the format, in a store that does not.
    fn keep_format(&self) {
        let path = self.root.join("format");
        if !path.exists() {
            // Whoever comes later says it, where this fails.
            let _ = write_atomically(&path, format!("{FORMAT}\n").as_bytes());
        }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where this process makes what it then moves into the store, so that whatever it leaves unfinished goes with it.
    pub fn scratch(&self) -> Result<&Scratch> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        let new = Scratch::new(&self.work())?;
        self.keep_format();
        // Another thread's may have come first: then this one is removed again.
        Ok(self.scratch.get_or_init(|| new))
    }

    /// The record of `key`, if it is there with an artifact for each of `outputs`.
    ///
    /// # Errors
    /// The record or an artifact is there, as far as one can know, and may not be read.
    pub fn look_up(&self, key: &Digest, outputs: &[Output]) -> Result<Option<Arc<Record>>> {
        if let Some(record) = self.read_ahead(key)
            && self.missing(&record, outputs).is_none()
        {
            return Ok(self.checked_after_a_reboot(record));
        }
        let Some(record) = self.read_record_file(key)? else { return Ok(None) };
        if let Some(missing) = self.missing(&record, outputs) {
            let places = record.outputs.get(missing).map_or_else(Vec::new, |artifact| self.places(artifact));
            let denied =
                |path: &PathBuf| fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
            return match places.iter().find(|path| denied(path)) {
                Some(path) => Err(may_not_be_read("the artifact", path)),
                None => Ok(None),
            };
        }
        Ok(self.checked_after_a_reboot(record))
    }

    /// As [`Store::look_up`], where what may not be read counts as absent.
    pub fn valid_record(&self, key: &Digest, outputs: &[Output]) -> Option<Arc<Record>> {
        self.look_up(key, outputs).unwrap_or_default()
    }

    /// Between two boots a file that was not synced may have lost its content and not its size, so the contents are hashed
    /// once.
    fn checked_after_a_reboot(&self, mut record: Arc<Record>) -> Option<Arc<Record>> {
        if record.unsynced.as_ref().is_none_or(|boot| Boot::current() == Some(boot)) {
            return Some(record);
        }
        if !record.outputs.values().all(|artifact| self.shelf.is_intact(artifact)) {
            return None;
        }
        Arc::make_mut(&mut record).unsynced = None;
        // A store that cannot be written is hashed every time.
        let _ = self.write(&self.record_path(&record.key), record.text().as_bytes());
        Some(record)
    }

    /// The record of `key`, if it is there; a damaged one counts as absent.
    ///
    /// # Errors
    /// It may not be read.
    pub fn read_record(&self, key: &Digest) -> Result<Option<Arc<Record>>> {
        self.read_ahead(key).map_or_else(|| self.read_record_file(key), |record| Ok(Some(record)))
    }

    fn read_ahead(&self, key: &Digest) -> Option<Arc<Record>> {
        self.ahead.record(key, &|key| self.record_path(key))
    }

    fn read_record_file(&self, key: &Digest) -> Result<Option<Arc<Record>>> {
        let path = self.record_path(key);
        match read_small(&path) {
            Ok(text) => Ok(text.and_then(|text| Record::parse(&text, key)).map(Arc::new)),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
                Err(may_not_be_read("the record", &path))
            }
            Err(error) => Err(error),
        }
    }

    /// The record of `key`, if it is there and readable; a damaged one counts as absent.
    pub fn record(&self, key: &Digest) -> Option<Arc<Record>> {
        self.read_record(key).unwrap_or_default()
    }

    /// Every readable record, in no order.
    pub fn records(&self) -> Vec<Arc<Record>> {
        let files = self.entries(RECORDS, 2).unwrap_or_default();
        files.par_iter().filter_map(|path| self.record(&self.key_of_record(path)?)).collect()
    }

    /// The first of `outputs` that the record lacks or the store has lost or holds in another size.
    pub fn missing<'o>(&self, record: &Record, outputs: &'o [Output]) -> Option<&'o str> {
        let artifacts: Vec<Option<&Artifact>> =
            outputs.iter().map(|output| record.outputs.get(&*output.name)).collect();
        let mut held = self.shelf.has(&artifacts.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
        let is_held = |artifact: &Option<&Artifact>| artifact.is_some() && held.next() == Some(true);
        let lacking = artifacts.iter().map(is_held).position(|is_held| !is_held);
        lacking.map(|place| &*outputs[place].name)
    }

    /// Where an artifact lies.
    pub fn artifact_path(&self, artifact: &Artifact) -> PathBuf {
        self.shelf.path(artifact)
    }

    /// Where an artifact can be read, after its bytes have been compared with its digest; what has not changed since it
    /// was last compared is not read again.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the store has lost it, or holds other bytes.
    pub fn artifact(&self, artifact: &Artifact) -> Result<PathBuf> {
        self.shelf.get(artifact)
    }

    /// The digests of a folder artifact's files.
    pub fn listing(&self, artifact: &Artifact) -> Result<Listing> {
        self.shelf.listing(artifact)
    }

    /// Removes a damaged artifact, so that the next run makes it again, and what unfinished nodes would resume from, because
    /// nobody knows which of it was computed from the damage.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_damaged(&self, path: &Path) -> Result<()> {
        remove(path).map_err(Error::io("remove", path))?;
        for entry in fs::read_dir(self.root.join("partial")).into_iter().flatten().flatten() {
            // Who works on it goes on with what it has read already, and is looked at when it is done.
            if let Some(key) = entry.file_name().to_str().and_then(Digest::parse)
                && let Ok(Claimed::Ours(_claim)) = self.claim(&key)
            {
                remove(&entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(())
    }

    /// Takes a node's outputs out of its scratch folder, then writes the record. What took long to make is on the disk when
    /// this returns. When the rest gets there is left to the system, which is much quicker; the record says so, and after a
    /// reboot [`Store::valid_record`] looks twice.
    ///
    /// # Errors
    /// A declared output is missing, or the store cannot be written: then there is no record.
    pub fn commit(&self, mut record: Record, outputs: &BTreeMap<String, PathBuf>) -> Result<Record> {
        const LONG: f64 = 1.0;
        record.unsynced = Boot::current().filter(|_| record.seconds < LONG).cloned();
        for (name, path) in outputs {
            let artifact = self.shelf.put(path, self.scratch()?, record.unsynced.is_none())?;
            record.outputs.insert(name.clone(), artifact);
        }
        let path = self.record_path(&record.key);
        self.write(&path, record.text().as_bytes())?;
        if record.unsynced.is_none() {
            sync(&path)?;
            sync_parent(&path);
        }
        // The node is done: what it would have resumed from may go, and another run may be removing it too.
        let _ = remove_folder(&self.partial(&record.key));
        Ok(record)
    }

    /// Which of these artifacts are there and have the right size.
    pub fn holds(&self, artifacts: &[&Artifact]) -> Vec<bool> {
        self.shelf.has(artifacts)
    }

    /// Takes a file or a folder that came from elsewhere, and lies in this process's scratch, if it is the artifact that it is
    /// said to be; whether it is.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn adopt(&self, path: &Path, artifact: &Artifact) -> Result<bool> {
        self.shelf.adopt(path, artifact, self.scratch()?)
    }

    /// Keeps a record that came from elsewhere; its artifacts are here already. When all that gets to the disk is left to the
    /// system, as in [`Store::commit`].
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn adopt_record(&self, mut record: Record) -> Result<Record> {
        record.unsynced = Boot::current().cloned();
        self.write(&self.record_path(&record.key), record.text().as_bytes())?;
        Ok(record)
    }

    /// Where an unfinished node keeps what it resumes from.
    pub fn partial(&self, key: &Digest) -> PathBuf {
        self.root.join("partial").join(key.to_string())
    }

    /// The right to compute `key`, unless another process has it.
    pub fn claim(&self, key: &Digest) -> Result<Claimed> {
        self.scratch()?.claim(self.claims().join(key.to_string()))
    }

    /// Who computes a key now, if anybody does.
    pub fn computing(&self, key: &Digest) -> Option<Holder> {
        Claim::holder(&self.claims().join(key.to_string()))
    }

    /// Where the log of a node's worker is.
    pub fn log(&self, pipeline: &str, node: &str) -> PathBuf {
        self.root.join("logs").join(pipeline).join(format!("{node}{LOG}"))
    }

    /// Where the event files of a node with this key are: in a folder whose name ends with the key's first digits, after the
    /// `label` that it had when it was first made.
    pub fn events(&self, pipeline: &str, node: &str, key: &Digest, label: Option<&str>) -> PathBuf {
        let folder = self.root.join("tensorboard").join(pipeline).join(node);
        let short = key.short();
        let before = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let own = |path: &PathBuf| path.is_dir() && key_of_events(path) == Some(short.as_str());
        before.into_iter().find(own).unwrap_or_else(|| match label {
            Some(label) => folder.join(format!("{label}{BEFORE_KEY}{short}")),
            None => folder.join(short),
        })
    }

    /// Moves an output that came out otherwise than before, or the log of such an attempt, to where it can be looked
    /// at; returns that place.
    pub fn keep_differing(&self, node: &str, path: &Path) -> Result<PathBuf> {
        let place = self.root.join("differs").join(node).join(path.file_name().unwrap_or_default());
        remove(&place).map_err(Error::io("replace", &place))?;
        create_parent(&place)?;
        fs::rename(path, &place).map_err(Error::io("keep", &place))?;
        Ok(place)
    }

    /// Removes what commands left that were killed.
    pub fn remove_dead(&self) {
        scratch::remove_dead(&self.work());
        for entry in fs::read_dir(self.claims()).into_iter().flatten().flatten() {
            // Taken over, it goes when it is dropped. Its owner may have died between the record and what follows it.
            if let Some(key) = entry.file_name().to_str().and_then(Digest::parse)
                && let Ok(Claimed::Ours(_claim)) = Claim::take(entry.path())
                && self.record(&key).is_some()
            {
                let _ = remove_folder(&self.partial(&key));
            }
        }
    }

    /// Where what was handed to queues is.
    pub fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    /// Where scratch folders of runs are.
    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The folder of the stat cache.
    pub fn stat_cache(&self) -> PathBuf {
        self.root.join("inputs")
    }

    /// The key that each node of a pipeline had when it was last fresh.
    pub fn last_keys(&self, pipeline: &str) -> Arc<LastKeys> {
        self.ahead.last_keys(pipeline).unwrap_or_else(|| Arc::new(self.read_last_keys(pipeline)))
    }

    fn read_last_keys(&self, pipeline: &str) -> LastKeys {
        let text = fs::read(self.state_path(pipeline)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Remembers the keys for [`Store::last_keys`].
    pub fn remember_keys(&self, pipeline: &str, keys: &LastKeys) -> Result<()> {
        self.ahead.forget_last_keys();
        let path = self.state_path(pipeline);
        let sorted: BTreeMap<_, _> = keys.iter().collect();
        let text = serde_json::to_string(&sorted).map_err(|error| Error::format(&path, "state", error))?;
        self.write(&path, text.as_bytes())
    }

    /// Packs the records that the nodes of a pipeline have, where they are read faster the next time.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn keep_records(&self, pipeline: &str, records: &[&Record]) -> Result<()> {
        let pack = self.ahead.new_pack(records, &|key| self.record_path(key));
        pack.map_or(Ok(()), |text| self.write(&self.pack_path(pipeline), text.as_bytes()))
    }

    /// Keeps what a stat cache of this store has learned, and what was learned of its artifacts.
    pub fn keep_digests(&self, cache: &StatCache) -> Result<()> {
        [cache, self.shelf.read()].into_iter().try_for_each(|cache| cache.save(&|path, bytes| self.write(path, bytes)))
    }

    /// Writes a file of the store by way of the scratch folder, without syncing it: it carries a checksum, or is worth
    /// little. After a power failure it may be old, absent or damaged.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        create_parent(path)?;
        write_by_way_of(self.scratch()?.file()?, path, bytes, false)
    }

    /// The folder of packs.
    fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    fn pack_path(&self, pipeline: &str) -> PathBuf {
        self.packs().join(pipeline)
    }

    fn state_path(&self, pipeline: &str) -> PathBuf {
        self.root.join("state").join(format!("{pipeline}{STATE}"))
    }

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.place(RECORDS, key).with_extension("json")
    }

    fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        shelf::place(&self.root, kind, digest)
    }
}

/// What stands before the key in the name of a folder of event files.
const BEFORE_KEY: &str = "-";

/// The first digits of the key whose event files lie in this folder.
fn key_of_events(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()?.rsplit(BEFORE_KEY).next()
}

fn may_not_be_read(what: &str, path: &Path) -> Error {
    Error::hinted(
        format!("{what} `{}` may not be read: permission denied", path.display()),
        "ask its owner for the right to read the store (`chmod -R a+rX`), or name another with `--store`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store, and the record of a node that left the file `train.json` and the folder `files` in `seconds`.
    fn committed(seconds: f64) -> (tempfile::TempDir, Store, Record) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let (file, files) = (folder.path().join("train.json"), folder.path().join("files"));
        fs::create_dir(&files).unwrap();
        fs::write(&file, "one").unwrap();
        fs::write(files.join("a"), "two").unwrap();
        let record = Record { seconds, ..Record::example(&serde_json::json!({"kind": "fewshot"})) };
        let outputs = BTreeMap::from([("train".to_owned(), file), ("files".to_owned(), files)]);
        let record = store.commit(record, &outputs).unwrap();
        (folder, store, record)
    }

    fn reboot(store: &Store, record: &Record) {
        let boot = Some(serde_json::from_str("\"an earlier one\"").unwrap());
        let record = Record { unsynced: boot, ..record.clone() };
        fs::write(store.record_path(&record.key), record.text()).unwrap();
    }

    #[test]
    fn what_took_long_is_synced() {
        assert_eq!(committed(0.1).2.unsynced.as_ref(), Boot::current());
        assert_eq!(committed(10.0).2.unsynced, None);
    }

    #[test]
    fn after_a_reboot_contents_are_hashed_once() {
        let (_folder, store, record) = committed(0.1);
        assert!(store.valid_record(&record.key, &[]).is_some());
        reboot(&store, &record);
        assert!(store.valid_record(&record.key, &[]).is_some());
        assert_eq!(store.record(&record.key).unwrap().unsynced, None);
    }

    #[test]
    fn what_a_power_failure_took_counts_as_absent() {
        for (output, inside) in [("train", ""), ("files", "a")] {
            let (_folder, store, record) = committed(0.1);
            let path = store.artifact_path(&record.outputs[output]).join(inside);
            let path = if inside.is_empty() { store.artifact_path(&record.outputs[output]) } else { path };
            fs::remove_file(&path).unwrap();
            fs::write(&path, "\0\0\0").unwrap();
            assert!(store.valid_record(&record.key, &[]).is_some(), "sizes are all that is looked at");
            reboot(&store, &record);
            assert!(store.valid_record(&record.key, &[]).is_none());
        }
    }

    #[test]
    fn a_copy_of_a_record_without_its_artifacts_counts_for_nothing() {
        let (_folder, store, record) = committed(0.1);
        let lost = Artifact { digest: Digest::of(b"lost"), ..record.outputs["train"].clone() };
        let copy = Record { outputs: [("train".to_owned(), lost)].into(), ..record.clone() };
        store.ahead.put(copy);
        let output = Output { name: "train".into(), path: "train.json".into(), kind: ArtifactKind::File };
        assert_eq!(store.look_up(&record.key, &[output]).unwrap().unwrap().text(), record.text());
    }
}
