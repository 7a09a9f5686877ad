//! Reading ahead: while one processor makes a graph, the others read the records of the keys that the pipeline's nodes had
//! the last time, which mostly are the keys that they have now. What is not read in time is read when it is needed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rustc_hash::FxHashMap;

use super::pack::{Pack, RecordPath};
use super::record::Record;
use crate::digest::Digest;

/// The key that each node of a pipeline had when it was last fresh, by the node's name.
pub type LastKeys = HashMap<String, Digest>;

/// What was read ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// With the pipeline's name.
    last_keys: Option<(String, Arc<LastKeys>)>,
    /// By key; none where the record was asked for.
    records: FxHashMap<Digest, Option<Arc<Record>>>,
    pack: Arc<Pack>,
    /// Before anything was read.
    began: Option<SystemTime>,
}

/// More threads than this wait for each other.
const MOST_THREADS: usize = 8;
/// Records that a thread reads before it hands them over.
const PART: usize = 64;

impl Ahead {
    /// The record of a key, the first time that it is asked for: whoever asks again wants to know what is there now.
    pub fn record(&self, key: &Digest, path: RecordPath<'_>) -> Option<Arc<Record>> {
        let pack = {
            let mut read = self.read();
            if let Some(record) = read.records.insert(*key, None) {
                return record;
            }
            read.pack.clone()
        };
        pack.record(key, path)
    }

    #[cfg(test)]
    pub fn put(&self, record: Record) {
        self.read().records.insert(record.key, Some(Arc::new(record)));
    }

    /// The last keys of this pipeline.
    pub fn last_keys(&self, pipeline: &str) -> Option<Arc<LastKeys>> {
        self.read().last_keys.as_ref().filter(|(name, _)| name == pipeline).map(|(_, keys)| keys.clone())
    }

    /// The last keys are others now.
    pub fn forget_last_keys(&self) {
        self.read().last_keys = None;
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.0.lock().expect("nothing panics while it holds what was read")
    }
}

/// Where a store keeps what is read ahead.
pub(super) struct Sources<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The pipeline's pack.
    pub pack: PathBuf,
    /// Reads the pipeline's last keys.
    pub last_keys: &'a (dyn Fn() -> LastKeys + Sync),
    /// Where a record is.
    pub record_path: RecordPath<'a>,
    /// Reads a record from its file.
    pub record: &'a (dyn Fn(&Digest) -> Option<Arc<Record>> + Sync),
}

impl Ahead {
    /// Does some work, and reads meanwhile.
    pub fn read_during<T>(&self, sources: &Sources<'_>, work: impl FnOnce() -> T) -> T {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (processors - 1).min(MOST_THREADS);
        if threads == 0 {
            self.open_pack(sources);
            return work();
        }
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.read_all(sources, threads, &is_done));
            // Also where the work panics: its thread would be waited for.
            let _done = Done(&is_done);
            work()
        })
    }

    /// Reads the pipeline's pack and last keys, and their records until all are read or the work is done.
    fn read_all(&self, sources: &Sources<'_>, threads: usize, is_done: &AtomicBool) {
        let pack = self.open_pack(sources);
        let last_keys = Arc::new((sources.last_keys)());
        {
            let mut read = self.read();
            read.last_keys = Some((sources.pipeline.to_owned(), last_keys.clone()));
            read.records.reserve(last_keys.len());
        }
        let (packed, others): (Vec<Digest>, Vec<Digest>) = last_keys.values().partition(|key| pack.has(key));
        let copy_or_file = |key: &Digest| pack.record(key, sources.record_path).or_else(|| (sources.record)(key));
        self.read_records(&packed, threads, is_done, &copy_or_file);
        self.read_records(&others, threads, is_done, sources.record);
    }

    fn open_pack(&self, sources: &Sources<'_>) -> Arc<Pack> {
        let began = SystemTime::now();
        let pack = Arc::new(Pack::read(&sources.pack));
        let mut read = self.read();
        (read.pack, read.began) = (pack.clone(), Some(began));
        pack
    }

    /// Reads the records of these keys, part by part, which several threads share.
    fn read_records(
        &self,
        keys: &[Digest],
        threads: usize,
        is_done: &AtomicBool,
        record: &(dyn Fn(&Digest) -> Option<Arc<Record>> + Sync),
    ) {
        let next = AtomicUsize::new(0);
        let work = || loop {
            let first = next.fetch_add(PART, Relaxed);
            if first >= keys.len() || is_done.load(Relaxed) {
                return;
            }
            let part = keys[first..].iter().take(PART).take_while(|_| !is_done.load(Relaxed));
            let records: Vec<(Digest, Arc<Record>)> = part.filter_map(|key| Some((*key, record(key)?))).collect();
            let mut read = self.read();
            for (key, record) in records {
                read.records.entry(key).or_insert(Some(record));
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
    }

    /// A pack of the records that the pipeline's nodes have now, if it is worth writing.
    pub fn new_pack(&self, records: &[&Record], path: RecordPath<'_>) -> Option<String> {
        let (known, began) = {
            let read = self.read();
            (read.pack.len(), read.began?)
        };
        Pack::text(records, known, began, path)
    }
}

/// Says so when it is dropped.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |key: &Digest| folder.path().join(key.to_string());
        let records: HashMap<Digest, Arc<Record>> = (0..500)
            .map(|number| Arc::new(Record::example(&serde_json::json!(number))))
            .map(|record| (record.key, record))
            .collect();
        let keys = records.keys().enumerate().map(|(number, key)| (number.to_string(), *key));
        let last_keys: LastKeys = keys.chain([("gone".to_owned(), Digest::of(b"gone"))]).collect();
        let sources = Sources {
            pipeline: "quickstart",
            pack: folder.path().join("pack"),
            last_keys: &|| last_keys.clone(),
            record_path: &path,
            record: &|key| records.get(key).cloned(),
        };
        let processors = std::thread::available_parallelism().unwrap().get();
        // A work that ends at once, and one that goes on until all has been read.
        for is_long in [false, processors > 1] {
            let ahead = Ahead::default();
            let work = || {
                while is_long && ahead.read().records.len() < records.len() {
                    // Whoever asks without a pause holds up the reading.
                    std::thread::sleep(Duration::from_millis(1));
                }
                5
            };
            assert_eq!(ahead.read_during(&sources, work), 5);
            assert!(!is_long || ahead.read().records.len() == records.len());
            assert!(ahead.last_keys("another").is_none());
            assert!(ahead.last_keys("quickstart").is_none_or(|keys| *keys == last_keys));
            for key in last_keys.values() {
                let found = ahead.record(key, &path);
                assert!(found.is_none_or(|found| found.text() == records[key].text()));
            }
        }
    }

    #[test]
    fn a_record_is_handed_out_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |key: &Digest| folder.path().join(key.to_string());
        let record = Record::example(&serde_json::json!(0));
        std::fs::write(path(&record.key), record.text()).unwrap();
        let later = SystemTime::now() + Duration::from_secs(10);
        let text = Pack::text(&[&record], 0, later, &path).unwrap();
        let is_found = |ahead: &Ahead| ahead.record(&record.key, &path).is_some();
        for is_read_ahead in [false, true] {
            let ahead = Ahead::default();
            ahead.read().pack = Arc::new(Pack::parse(text.clone()));
            if is_read_ahead {
                ahead.put(record.clone());
            }
            assert_eq!([is_found(&ahead), is_found(&ahead)], [true, false], "{is_read_ahead}");
        }
    }
}
