//! Packs: the records that a pipeline's nodes had the last time, in one file, since to open ten thousands takes longer than
//! to read them. A pack holds copies. It says how each folder of `records/` looked when they were copied: a folder in which a
//! record was made, replaced or removed since looks otherwise, and what the pack has of it counts for nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirEntry};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::checked::{line, parse_line};
use super::record::Record;
use super::walk::Stat;
use crate::digest::Digest;

/// How the folders of records look at one time, by name.
#[derive(Debug)]
pub(super) struct Looks {
    stats: HashMap<String, Stat>,
    at: SystemTime,
}

impl Looks {
    /// How the folders in `records/` look now.
    pub fn of(records: &Path) -> Looks {
        let at = SystemTime::now();
        let folders = fs::read_dir(records).into_iter().flatten().flatten();
        let look = |folder: DirEntry| Some((folder.file_name().into_string().ok()?, Stat::of(&folder.path()).ok()?));
        Looks { stats: folders.filter_map(look).collect(), at }
    }

    /// The folders that look the same later, and cannot have changed in between.
    fn unchanged(&self, later: &Looks) -> BTreeMap<String, [i64; 6]> {
        // What changes within the clock's resolution would not show.
        let is_same = |name: &String, stat: &Stat| stat.is_settled_at(self.at) && later.stats.get(name) == Some(stat);
        let folders = self.stats.iter().filter(|(name, stat)| is_same(name, stat));
        folders.map(|(name, stat)| (name.clone(), stat.numbers())).collect()
    }
}

/// A pack that was read, as far as it holds.
#[derive(Debug, Default)]
pub(super) struct Pack {
    text: String,
    /// Where in the text the records are, by key.
    places: HashMap<Digest, Range<usize>>,
}

/// The first line, behind its checksum.
#[derive(Deserialize, Serialize)]
struct Head {
    /// How the folders of the records looked, by name.
    folders: BTreeMap<String, [i64; 6]>,
}

/// What a record's text begins with, up to its key.
const KEY: &str = "{\"key\":\"";
/// Digits of a digest.
const DIGITS: usize = 64;

impl Pack {
    /// The text of a pack of those among these records whose folders have not changed since `before` they were read; none if
    /// they are hardly more than the `known` ones, which a pack has already. `records/` is in `folder`.
    pub fn text(records: &[&Record], known: usize, before: &Looks, folder: &Path) -> Option<String> {
        if !are_many(records.len(), known) {
            return None;
        }
        let folders = before.unchanged(&Looks::of(folder));
        let mut records = records.to_vec();
        records.retain(|record| folders.contains_key(folder_of(&record.key.to_string())));
        records.sort_by_key(|record| record.key);
        records.dedup_by_key(|record| record.key);
        if !are_many(records.len(), known) {
            return None;
        }
        let lines: Vec<String> = records.par_iter().map(|record| record.text()).collect();
        Some(line(&Head { folders }) + &lines.concat())
    }

    /// A pack that holds.
    #[cfg(test)]
    pub fn of(record: &Record) -> Pack {
        let text = record.text();
        Pack { places: [(record.key, 0..text.len())].into(), text }
    }

    /// What of a pack in this file holds while the folders of records look like this.
    pub fn read(path: &Path, looks: &Looks) -> Pack {
        fs::read_to_string(path).ok().and_then(|text| Pack::parse(text, looks)).unwrap_or_default()
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has a record of this key.
    pub fn has(&self, key: &Digest) -> bool {
        self.places.contains_key(key)
    }

    /// The record of this key, unless it is damaged.
    pub fn record(&self, key: &Digest) -> Option<Arc<Record>> {
        Record::parse(&self.text[self.places.get(key)?.clone()], key).map(Arc::new)
    }

    fn parse(text: String, looks: &Looks) -> Option<Pack> {
        let (first, _) = text.split_once('\n')?;
        let Head { mut folders } = parse_line(first)?;
        folders.retain(|name, numbers| looks.stats.get(name).is_some_and(|stat| stat.numbers() == *numbers));
        let mut places = HashMap::new();
        let mut start = first.len() + 1;
        for line in text[start..].split_inclusive('\n') {
            let place = start..start + line.len();
            start = place.end;
            let key = line.strip_prefix(KEY).and_then(|rest| rest.get(..DIGITS));
            if let Some(key) = key.filter(|key| folders.contains_key(folder_of(key))).and_then(Digest::parse) {
                places.insert(key, place);
            }
        }
        Some(Pack { text, places })
    }
}

/// Whether so many records are worth a pack in place of one with the `known` ones.
fn are_many(records: usize, known: usize) -> bool {
    const PART: usize = 16;
    records > known + records / PART
}

/// The folder below `records/` of the record with this key.
fn folder_of(key: &str) -> &str {
    &key[..2]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

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

        fn folder(&self) -> PathBuf {
            self.folder.path().join("records")
        }

        fn file(&self, record: &Record) -> PathBuf {
            let key = record.key.to_string();
            self.folder().join(folder_of(&key)).join(key)
        }

        /// As a store does: as a whole.
        fn keep(&self, record: &Record) {
            crate::files::write_atomically(&self.file(record), record.text().as_bytes()).unwrap();
        }

        /// How the folders look, long after they changed.
        fn later(&self) -> Looks {
            Looks { at: SystemTime::now() + Duration::from_secs(10), ..Looks::of(&self.folder()) }
        }

        fn pack(&self, before: &Looks) -> Option<String> {
            Pack::text(&self.records.iter().collect::<Vec<_>>(), 0, before, &self.folder())
        }

        /// The places of the records that this pack has.
        fn packed(&self, text: &Option<String>) -> Vec<usize> {
            let pack = text.clone().and_then(|text| Pack::parse(text, &Looks::of(&self.folder()))).unwrap_or_default();
            let is_packed = |record: &Record| {
                let found = pack.record(&record.key);
                assert_eq!(found.is_some(), pack.has(&record.key));
                found.is_some_and(|found| found.text() == record.text())
            };
            self.all().into_iter().filter(|&place| is_packed(&self.records[place])).collect()
        }

        fn all(&self) -> Vec<usize> {
            (0..self.records.len()).collect()
        }

        /// The places of the records that are in other folders than this one.
        fn elsewhere(&self, place: usize) -> Vec<usize> {
            let folder = |place: usize| folder_of(&self.records[place].key.to_string()).to_owned();
            self.all().into_iter().filter(|&other| folder(other) != folder(place)).collect()
        }
    }

    #[test]
    fn a_pack_holds_for_the_folders_that_have_not_changed() {
        let fixture = Fixture::new(600);
        let changes: [&dyn Fn(&Record); 3] =
            [&|record| fs::remove_file(fixture.file(record)).unwrap(), &|record| fixture.keep(record), &|record| {
                fs::write(fixture.file(record).with_extension("other"), "").unwrap()
            }];
        for (place, change) in changes.iter().enumerate() {
            let pack = fixture.pack(&fixture.later());
            assert_eq!(fixture.packed(&pack), fixture.all());
            change(&fixture.records[place]);
            assert_eq!(fixture.packed(&pack), fixture.elsewhere(place), "{place}");
        }
    }

    #[test]
    fn what_may_have_changed_since_it_was_read_is_not_packed() {
        let fixture = Fixture::new(600);
        // Within the resolution of the clock.
        assert_eq!(fixture.pack(&Looks::of(&fixture.folder())), None);
        let before = fixture.later();
        fs::remove_file(fixture.file(&fixture.records[7])).unwrap();
        assert_eq!(fixture.packed(&fixture.pack(&before)), fixture.elsewhere(7));
    }

    #[test]
    fn a_pack_is_written_when_many_records_are_new() {
        let fixture = Fixture::new(64);
        for (count, known, is_written) in
            [(0, 0, false), (1, 0, true), (64, 60, false), (64, 59, true), (20, 64, false)]
        {
            let records: Vec<&Record> = fixture.records[..count].iter().collect();
            let text = Pack::text(&records, known, &fixture.later(), &fixture.folder());
            assert_eq!(text.is_some(), is_written, "{count} {known}");
        }
    }

    #[test]
    fn no_damage_gives_a_wrong_record() {
        let fixture = Fixture::new(3);
        let (whole, looks) = (fixture.pack(&fixture.later()).unwrap(), Looks::of(&fixture.folder()));
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut damaged = whole.clone().into_bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            String::from_utf8(damaged).unwrap_or_default()
        });
        let truncated = (0..whole.len()).map(|length| whole[..length].to_owned());
        for damaged in flipped.chain(truncated) {
            let pack = Pack::parse(damaged, &looks).unwrap_or_default();
            let found = fixture.records.iter().filter_map(|record| Some((record, pack.record(&record.key)?)));
            assert!(found.into_iter().all(|(record, found)| found.text() == record.text()));
        }
    }
}
