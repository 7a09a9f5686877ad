//! Packs: the records that a pipeline's nodes had the last time, in one file, since to open ten thousands takes longer than
//! to read them. A pack holds copies. Each stands behind the times, the size and the inode that the record's file had when it
//! was copied: a file that was replaced, written to or removed since has others, and the copy counts for nothing.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::record::Record;
use super::walk::Stat;
use crate::digest::Digest;

/// The file of the record of a key.
pub(super) type RecordPath<'a> = &'a (dyn Fn(&Digest) -> PathBuf + Sync);

/// A pack that was read.
#[derive(Debug, Default)]
pub(super) struct Pack {
    text: String,
    /// Where in the text the copies are, by key.
    copies: FxHashMap<Digest, Copy>,
    /// How many were asked for and did not count.
    spoiled: AtomicUsize,
}

/// Where in the text a copy is.
#[derive(Debug)]
struct Copy {
    /// What is said of the record's file.
    stat: Range<usize>,
    record: Range<usize>,
}

/// What a record's text begins with, up to its key.
const KEY: &str = "{\"key\":\"";
/// Digits of a digest.
const DIGITS: usize = 64;

impl Pack {
    /// The text of a pack of those among these records whose files have not changed since `before` they were read; none if
    /// they are hardly more than the `known` ones, which a pack has already.
    pub fn text(records: &[&Record], known: usize, before: SystemTime, path: RecordPath<'_>) -> Option<String> {
        if !are_many(records.len(), known) {
            return None;
        }
        let mut records = records.to_vec();
        records.sort_by_key(|record| record.key);
        records.dedup_by_key(|record| record.key);
        let copy = |record: &&Record| {
            // What changes within the clock's resolution would not show.
            let stat = Stat::of(&path(&record.key)).ok().filter(|stat| stat.is_settled_at(before))?;
            Some(format!("{stat} {}", record.text()))
        };
        let copies: Vec<String> = records.par_iter().filter_map(copy).collect();
        are_many(copies.len(), known).then(|| copies.concat())
    }

    /// The pack in this file; one without copies, where it cannot be read.
    pub fn read(file: &Path) -> Pack {
        fs::read_to_string(file).map(Pack::parse).unwrap_or_default()
    }

    /// How many copies it has that count, as far as that is known.
    pub fn len(&self) -> usize {
        self.copies.len().saturating_sub(self.spoiled.load(Relaxed))
    }

    /// Whether it has a copy of the record of this key.
    pub fn has(&self, key: &Digest) -> bool {
        self.copies.contains_key(key)
    }

    /// The record of this key, unless the copy is damaged, or the record's file has changed.
    pub fn record(&self, key: &Digest, path: RecordPath<'_>) -> Option<Arc<Record>> {
        let copy = self.copies.get(key)?;
        let record = self.unspoiled(copy, key, &path(key));
        if record.is_none() {
            self.spoiled.fetch_add(1, Relaxed);
        }
        record.map(Arc::new)
    }

    fn unspoiled(&self, copy: &Copy, key: &Digest, file: &Path) -> Option<Record> {
        let then = Stat::read(&mut self.text[copy.stat.clone()].split(' '))?;
        if Stat::of(file).ok()? != then {
            return None;
        }
        Record::parse_copy(&self.text[copy.record.clone()], key)
    }

    /// The pack with this text.
    pub fn parse(text: String) -> Pack {
        let mut copies = FxHashMap::default();
        let mut end = 0;
        for line in text.split_inclusive('\n') {
            let start = end;
            end += line.len();
            let Some(place) = line.find('{').map(|place| start + place) else { continue };
            let key = text[place..end].strip_prefix(KEY).and_then(|rest| Digest::parse(rest.get(..DIGITS)?));
            copies.extend(key.map(|key| (key, Copy { stat: start..place, record: place..end })));
        }
        Pack { text, copies, spoiled: AtomicUsize::new(0) }
    }
}

/// Whether so many records are worth a pack in place of one with the `known` ones.
fn are_many(records: usize, known: usize) -> bool {
    const PART: usize = 16;
    records > known + records / PART
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::files::write_atomically;

    /// A folder of so many records.
    struct Fixture {
        folder: tempfile::TempDir,
        records: Vec<Record>,
    }

    impl Fixture {
        fn new(count: usize) -> Fixture {
            let records = (0..count).map(|number| Record::example(&serde_json::json!(number))).collect();
            let fixture = Fixture { folder: tempfile::tempdir().unwrap(), records };
            fixture.records.iter().for_each(|record| fixture.keep(record));
            fixture
        }

        fn path(&self, key: &Digest) -> PathBuf {
            self.folder.path().join(key.to_string())
        }

        /// As a store does: as a whole.
        fn keep(&self, record: &Record) {
            write_atomically(&self.path(&record.key), record.text().as_bytes()).unwrap();
        }

        fn pack(&self, before: SystemTime) -> Option<String> {
            Pack::text(&self.records.iter().collect::<Vec<_>>(), 0, before, &|key| self.path(key))
        }

        /// The places of the records of which this pack has copies that count.
        fn packed(&self, text: Option<String>) -> Vec<usize> {
            let pack = text.map(Pack::parse).unwrap_or_default();
            let is_packed = |record: &Record| {
                let found = pack.record(&record.key, &|key| self.path(key));
                assert!(pack.has(&record.key) || found.is_none());
                found.is_some_and(|found| found.text() == record.text())
            };
            (0..self.records.len()).filter(|&place| is_packed(&self.records[place])).collect()
        }
    }

    /// Long after all changes.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(10)
    }

    #[test]
    fn copies_count_of_files_that_have_not_changed() {
        let fixture = Fixture::new(6);
        let pack = fixture.pack(later());
        assert_eq!(fixture.packed(pack.clone()), [0, 1, 2, 3, 4, 5]);
        let path = |place: usize| fixture.path(&fixture.records[place].key);
        fs::remove_file(path(0)).unwrap();
        fixture.keep(&fixture.records[1]);
        // What stays as long, in the same file.
        fs::File::options().write(true).open(path(2)).unwrap().write_all(b"XX").unwrap();
        fs::File::options().write(true).open(path(3)).unwrap().set_len(0).unwrap();
        fs::set_permissions(path(4), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fixture.packed(pack.clone()), [5]);
        // They are few among what there is: the pack is written again.
        let pack = Pack::parse(pack.unwrap());
        let found = fixture.records.iter().filter_map(|record| pack.record(&record.key, &|key| fixture.path(key)));
        assert_eq!((pack.copies.len(), found.count(), pack.len()), (6, 1, 1));
    }

    #[test]
    fn what_may_have_changed_since_it_was_read_is_not_packed() {
        let fixture = Fixture::new(3);
        // Within the resolution of the clock.
        assert_eq!(fixture.pack(SystemTime::now()), None);
        fs::remove_file(fixture.path(&fixture.records[1].key)).unwrap();
        assert_eq!(fixture.packed(fixture.pack(later())), [0, 2]);
    }

    #[test]
    fn a_pack_is_written_when_many_records_are_new() {
        let fixture = Fixture::new(64);
        for (count, known, is_written) in
            [(0, 0, false), (1, 0, true), (64, 60, false), (64, 59, true), (20, 64, false)]
        {
            let records: Vec<&Record> = fixture.records[..count].iter().collect();
            let text = Pack::text(&records, known, later(), &|key| fixture.path(key));
            assert_eq!(text.is_some(), is_written, "{count} {known}");
        }
    }

    #[test]
    fn no_damage_gives_a_wrong_record() {
        let fixture = Fixture::new(3);
        let whole = fixture.pack(later()).unwrap();
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut damaged = whole.clone().into_bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            String::from_utf8(damaged).unwrap_or_default()
        });
        let truncated = (0..whole.len()).map(|length| whole[..length].to_owned());
        let wide = (0..whole.len() - 3).map(|start| whole[..start].to_owned() + "\u{20ac}" + &whole[start + 3..]);
        for damaged in flipped.chain(truncated).chain(wide) {
            let pack = Pack::parse(damaged);
            let found = |record: &Record| pack.record(&record.key, &|key| fixture.path(key));
            let found = fixture.records.iter().filter_map(|record| Some((record, found(record)?)));
            assert!(found.into_iter().all(|(record, found)| found.text() == record.text()));
        }
    }
}
