//! Digests of input files, remembered by path, size, times and inode, so that an unchanged file is read once.
//!
//! Each folder has a file of its own in the cache. Its first line holds a fingerprint of all names, sizes, times and
//! inodes with the digest that the folder's listing had then: while the fingerprint matches, nothing else is read. The other
//! lines hold the digest of each file, for when something has changed. Both parts carry a checksum; what is damaged counts
//! as absent.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rayon::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use serde::{Deserialize, Serialize};

use super::listing::{Listed, Listing};
use super::walk::{Found, Stat, Tree, walk};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// The cache, shared by threads; [`Store::keep_digests`](super::Store::keep_digests) keeps it for the next
/// process.
#[derive(Debug)]
pub struct StatCache {
    folder: PathBuf,
    known: Mutex<HashMap<Place, Known>>,
    clock: fn() -> SystemTime,
    /// Files of which the content has been read, and files of which it is to be, those included.
    read: AtomicUsize,
    wanted: AtomicUsize,
}

/// What is remembered together, in one file.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
enum Place {
    /// Single files, by absolute path.
    Files,
    /// A folder of which these files and folders count; files go by their path below it.
    Folder(String, Vec<String>),
}

/// What is remembered of a place.
#[derive(Debug, Default)]
struct Known {
    /// Of a folder: how it looked, and the digest that its listing had then.
    listing: Option<(Fingerprint, Digest)>,
    /// Read when first needed.
    files: Option<Arc<Files>>,
    changed: bool,
}

/// blake3 of what identifies the contents of all files of a folder without reading them.
type Fingerprint = Digest;
/// By name.
type Files = HashMap<String, Entry>;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    stat: Stat,
    digest: Digest,
}

impl StatCache {
    /// The cache kept in `folder`; what is missing or damaged is read again.
    pub fn open(folder: PathBuf) -> StatCache {
        let (read, wanted) = Default::default();
        StatCache { folder, known: Mutex::default(), clock: SystemTime::now, read, wanted }
    }

    /// How many files have been read, of how many, while some are being read.
    pub fn progress(&self) -> Option<(usize, usize)> {
        let (read, wanted) = (self.read.load(Relaxed), self.wanted.load(Relaxed));
        (read < wanted).then_some((read, wanted))
    }

    /// The digest of a file's content.
    pub fn file(&self, path: &Path) -> Result<Digest> {
        let now = (self.clock)();
        let path = std::path::absolute(path).map_err(Error::io("resolve", path))?;
        let stat = Stat::of(&path)?;
        // A name that the cache cannot hold is read every time.
        let name = path.to_str().filter(|name| !name.contains('\n'));
        let known = name.and_then(|name| self.files(&Place::Files).get(name).copied());
        if let Some(entry) = known.filter(|entry| entry.stat == stat) {
            return Ok(entry.digest);
        }
        self.wanted.fetch_add(1, Relaxed);
        let (entry, settled) = self.read(CWD, &path, &path, stat, now)?;
        if let (Some(name), true) = (name, settled) {
            let mut known = self.lock();
            let known = known.entry(Place::Files).or_default();
            Arc::make_mut(known.files.get_or_insert_default()).insert(name.to_owned(), entry);
            known.changed = true;
        }
        Ok(entry.digest)
    }

    /// The digest of the listing of all files at `folder/within`, for each of `within`.
    pub fn folder(&self, folder: &Path, within: &[String]) -> Result<Digest> {
        let now = (self.clock)();
        let place = Place::folder(folder, within)?;
        let found = walk(folder, within)?;
        match self.remembered(&place) {
            Some((known, digest)) if known == fingerprint(&found) => Ok(digest),
            _ => Ok(self.read_changed(folder, place, found, now)?.digest()),
        }
    }

    /// The digests of all files at `folder/within`, for each of `within`.
    pub fn listing(&self, folder: &Path, within: &[String]) -> Result<Listing> {
        let now = (self.clock)();
        self.read_changed(folder, Place::folder(folder, within)?, walk(folder, within)?, now)
    }

    /// Hashes a file, which is at `name` in a folder, and is called `path` to people. What it gives may be remembered only if the
    /// file was neither written just before nor while it was read.
    fn read(
        &self,
        folder: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        stat: Stat,
        now: SystemTime,
    ) -> Result<(Entry, bool)> {
        let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut file = File::from(file.map_err(|error| Error::io("read", path)(error.into()))?);
        let digest = Digest::of_open_file(&mut file, stat.size, path);
        self.read.fetch_add(1, Relaxed);
        // A file that took this one's place has another inode, and the one that was read has changed by it.
        let after = file.metadata().map_err(Error::io("read", path))?;
        let settled = stat.is_settled_at(now) && Stat::from(&after) == stat;
        Ok((Entry { stat, digest: digest? }, settled))
    }

    /// Reads what is not known of the files found in a folder, and remembers it.
    fn read_changed(&self, folder: &Path, place: Place, found: Tree, now: SystemTime) -> Result<Listing> {
        let fingerprint = fingerprint(&found);
        let before = self.files(&place);
        let known = |file: &Found| before.get(&file.name).filter(|entry| entry.stat == file.stat);
        self.wanted.fetch_add(found.files.iter().filter(|file| known(file).is_none()).count(), Relaxed);
        // Relative to the folder, ten thousands of files are opened faster.
        let opened = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(|error| Error::io("read", folder)(error.into()))?;
        let read = |file: Found| {
            let (entry, settled) = match known(&file) {
                Some(entry) => (*entry, true),
                None => self.read(opened.as_fd(), Path::new(&file.name), &folder.join(&file.name), file.stat, now)?,
            };
            Ok((file, entry, settled))
        };
        let files: Vec<(Found, Entry, bool)> = found.files.into_par_iter().map(read).collect::<Result<_>>()?;
        let listed = files.iter().map(|(Found { name, stat, executable }, entry, _)| {
            (name.clone(), Listed { digest: entry.digest, size: stat.size, executable: *executable })
        });
        let listing = Listing::new(listed, found.empty_folders);
        let all_settled = files.iter().all(|(_, _, settled)| *settled);
        let settled = files.into_iter().filter_map(|(file, entry, settled)| settled.then_some((file.name, entry)));
        let after = Known {
            listing: all_settled.then(|| (fingerprint, listing.digest())),
            files: Some(Arc::new(settled.collect())),
            changed: true,
        };
        let mut known = self.lock();
        let known = known.entry(place).or_default();
        if known.listing != after.listing || known.files != after.files {
            *known = after;
        }
        Ok(listing)
    }

    /// How a folder looked, and the digest that its listing had then.
    fn remembered(&self, place: &Place) -> Option<(Fingerprint, Digest)> {
        let mut known = self.lock();
        let known = known.entry(place.clone()).or_insert_with(|| {
            let head = first_line(&self.path(place)).and_then(|line| Head::parse(&line));
            Known { listing: head.and_then(|head| head.listing), ..Known::default() }
        });
        known.listing
    }

    /// The files that are remembered of a place.
    fn files(&self, place: &Place) -> Arc<Files> {
        let mut known = self.lock();
        let known = known.entry(place.clone()).or_default();
        known.files.get_or_insert_with(|| Arc::new(self.kept_files(place))).clone()
    }

    fn kept_files(&self, place: &Place) -> Files {
        let text = fs::read_to_string(self.path(place)).unwrap_or_default();
        text.split_once('\n').and_then(|(_, body)| parse_files(body)).unwrap_or_default()
    }

    /// Keeps what changed, by way of `write`, and forgets files and folders that are gone.
    pub(super) fn save(&self, write: &(dyn Fn(&Path, &[u8]) -> Result<()> + Sync)) -> Result<()> {
        let mut known = self.lock();
        let mut changed: Vec<_> = known.iter_mut().filter(|(_, known)| known.changed).collect();
        if changed.is_empty() {
            return Ok(());
        }
        changed.par_iter_mut().try_for_each(|(place, known)| {
            let files = known.files.get_or_insert_default();
            if **place == Place::Files {
                // Another process may have kept other files meanwhile.
                let mut all = self.kept_files(place);
                all.extend(files.iter().map(|(name, entry)| (name.clone(), *entry)));
                all.retain(|name, _| Path::new(name).exists());
                *files = Arc::new(all);
            }
            let head = Head { place: (*place).clone(), listing: known.listing };
            write(&self.path(place), (head.line() + &files_text(files)).as_bytes())?;
            known.changed = false;
            Ok::<(), Error>(())
        })?;
        for file in fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))?.flatten() {
            let head = first_line(&file.path()).and_then(|line| Head::parse(&line));
            if head.is_some_and(|head| matches!(head.place, Place::Folder(folder, _) if !Path::new(&folder).exists())) {
                // Another process may have done so already.
                let _ = fs::remove_file(file.path());
            }
        }
        Ok(())
    }

    /// The cache's file for a place.
    fn path(&self, place: &Place) -> PathBuf {
        self.folder.join(Digest::of(json(place).as_bytes()).to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Known>> {
        self.known.lock().expect("nothing panics while it holds the cache")
    }
}

impl Place {
    fn folder(folder: &Path, within: &[String]) -> Result<Place> {
        let folder = std::path::absolute(folder).map_err(Error::io("resolve", folder))?;
        Ok(Place::Folder(folder.to_string_lossy().into_owned(), within.to_owned()))
    }
}

fn fingerprint(found: &Tree) -> Fingerprint {
    let mut bytes = Vec::new();
    for Found { name, stat, executable } in &found.files {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'\n');
        bytes.extend(stat.numbers().iter().flat_map(|number| number.to_le_bytes()));
        // No name begins with a line break, and no file's ends with `/`.
        bytes.extend(executable.then_some(b'\n'));
    }
    for name in &found.empty_folders {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b"/\n");
    }
    Digest::of(&bytes)
}

/// The first line of a place's file.
#[derive(Deserialize, Serialize)]
struct Head {
    place: Place,
    listing: Option<(Fingerprint, Digest)>,
}

impl Head {
    fn line(&self) -> String {
        let text = json(self);
        format!("{} {text}\n", Digest::of(text.as_bytes()))
    }

    fn parse(line: &str) -> Option<Head> {
        serde_json::from_str(checked(line.split_once(' ')?)?).ok()
    }
}

fn first_line(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?).read_line(&mut line).ok()?;
    line.pop().filter(|last| *last == '\n').map(|_| line)
}

/// Checksum, then `<digest> <six numbers> <name>` a line.
fn files_text(files: &Files) -> String {
    let mut text = String::new();
    for (name, Entry { stat, digest }) in files {
        let _ = writeln!(text, "{digest} {stat} {name}");
    }
    format!("{}\n{text}", Digest::of(text.as_bytes()))
}

fn parse_files(text: &str) -> Option<Files> {
    let line = |line: &str| {
        let mut words = line.splitn(8, ' ');
        let digest = Digest::parse(words.next()?)?;
        let stat = Stat::read(&mut words)?;
        Some((words.next()?.to_owned(), Entry { stat, digest }))
    };
    checked(text.split_once('\n')?)?.split_terminator('\n').map(line).collect()
}

/// The text, if it has this checksum.
fn checked<'t>((checksum, text): (&str, &'t str)) -> Option<&'t str> {
    (Digest::parse(checksum)? == Digest::of(text.as_bytes())).then_some(text)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it is plain data")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::files::write_atomically;
    use crate::watch::watch;

    /// A folder `data`, and a cache beside it that takes the files for settled: the clock is set forward.
    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Fixture {
            let fixture = Fixture(tempfile::tempdir().unwrap());
            fs::create_dir(fixture.data()).unwrap();
            fixture
        }

        fn data(&self) -> PathBuf {
            self.0.path().join("data")
        }

        fn file(&self, name: &str) -> PathBuf {
            self.data().join(name)
        }

        fn cache(&self) -> StatCache {
            let clock = || SystemTime::now() + Duration::from_secs(10);
            StatCache { clock, ..StatCache::open(self.0.path().join("cache")) }
        }

        /// Writes a file so that its times show it, as they do with a clock that tells the truth.
        fn write(&self, name: &str, text: &str, after: &mut (i64, i64)) {
            let path = self.file(name);
            loop {
                fs::write(&path, text).unwrap();
                let changed = Stat::of(&path).unwrap().changed;
                if changed > *after {
                    *after = changed;
                    return;
                }
            }
        }

        fn kept(&self) -> Vec<PathBuf> {
            fs::read_dir(self.0.path().join("cache")).unwrap().map(|file| file.unwrap().path()).collect()
        }
    }

    const ALL: [String; 1] = [String::new()];

    #[test]
    fn how_far_the_reading_is_shows_while_it_takes_long() {
        let (fixture, mut after) = (Fixture::new(), (0, 0));
        for number in 0..3 {
            fixture.write(&number.to_string(), "content", &mut after);
        }
        let cache = fixture.cache();
        // One more file, which is read when somebody has been told of the others.
        let (sender, receiver) = mpsc::channel();
        let (reading, data) = (&cache, fixture.data());
        let work = move || {
            let digest = reading.folder(&data, &ALL).unwrap();
            reading.wanted.fetch_add(1, Relaxed);
            while receiver.recv().unwrap() != (3, 4) {}
            reading.read.fetch_add(1, Relaxed);
            digest
        };
        let mut say = || cache.progress().into_iter().for_each(|progress| _ = sender.send(progress));
        let digest = watch(Duration::from_millis(1), &mut say, work);
        assert_eq!(cache.progress(), None);
        assert_eq!(cache.folder(&fixture.data(), &ALL).unwrap(), digest);
        assert_eq!((cache.read.load(Relaxed), cache.wanted.load(Relaxed)), (4, 4), "nothing is read again");
    }

    #[test]
    fn a_file_written_just_now_is_read_again() {
        let fixture = Fixture::new();
        let (path, cache) = (fixture.file("a"), StatCache::open(fixture.0.path().join("cache")));
        for text in ["one", "two"] {
            fs::write(&path, text).unwrap();
            assert_eq!(cache.file(&path).unwrap(), Digest::of(text.as_bytes()));
            assert_eq!(
                cache.folder(&fixture.data(), &ALL).unwrap(),
                Listing::of_folder(&fixture.data()).unwrap().digest()
            );
        }
        cache.save(&write_atomically).unwrap();
        assert!(StatCache::open(fixture.0.path().join("cache")).files(&Place::Files).is_empty());
    }

    #[test]
    fn only_what_is_named_counts() {
        let fixture = Fixture::new();
        fs::create_dir(fixture.file("images")).unwrap();
        for name in ["images/a", "images/b", "other"] {
            fs::write(fixture.file(name), name).unwrap();
        }
        let listing = fixture.cache().listing(&fixture.data(), &["images".into()]).unwrap();
        let names: Vec<&String> = listing.files().map(|(name, _)| name).collect();
        assert_eq!(names, ["images/a", "images/b"]);
    }

    #[test]
    fn what_was_kept_is_not_read_again() {
        let fixture = Fixture::new();
        fs::write(fixture.file("a"), "one").unwrap();
        let place = Place::folder(&fixture.data(), &ALL).unwrap();
        let cache = fixture.cache();
        let digest = cache.folder(&fixture.data(), &ALL).unwrap();
        cache.file(&fixture.file("a")).unwrap();
        cache.save(&write_atomically).unwrap();
        let cache = fixture.cache();
        assert_eq!(cache.remembered(&place).unwrap().1, digest);
        assert_eq!(cache.files(&place)["a"].digest, Digest::of(b"one"));
        assert_eq!(cache.files(&Place::Files).len(), 1);
    }

    #[test]
    fn no_damage_gives_a_wrong_digest() {
        let fixture = Fixture::new();
        for name in ["a", "b c"] {
            fs::write(fixture.file(name), name).unwrap();
        }
        let cache = fixture.cache();
        let digest = cache.folder(&fixture.data(), &ALL).unwrap();
        cache.save(&write_atomically).unwrap();
        let [kept] = &fixture.kept()[..] else { panic!("one folder, one file") };
        let whole = fs::read(kept).unwrap();
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged
        });
        let truncated = (0..whole.len()).map(|length| whole[..length].to_vec());
        for damaged in flipped.chain(truncated) {
            fs::write(kept, damaged).unwrap();
            assert_eq!(fixture.cache().folder(&fixture.data(), &ALL).unwrap(), digest);
            assert_eq!(fixture.cache().listing(&fixture.data(), &ALL).unwrap().digest(), digest);
        }
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let fixture = Fixture::new();
        fs::create_dir(fixture.file("folder")).unwrap();
        for name in ["a", "b", "folder/c"] {
            fs::write(fixture.file(name), name).unwrap();
        }
        let cache = fixture.cache();
        cache.file(&fixture.file("a")).unwrap();
        cache.folder(&fixture.file("folder"), &ALL).unwrap();
        cache.save(&write_atomically).unwrap();
        assert_eq!(fixture.kept().len(), 2);
        fs::remove_file(fixture.file("a")).unwrap();
        fs::remove_dir_all(fixture.file("folder")).unwrap();
        cache.file(&fixture.file("b")).unwrap();
        cache.save(&write_atomically).unwrap();
        assert_eq!(fixture.kept().len(), 1);
        assert_eq!(fixture.cache().files(&Place::Files).len(), 1);
    }

    #[test]
    fn two_processes_may_save_at_once() {
        let fixture = Fixture::new();
        for name in ["a", "b"] {
            fs::write(fixture.file(name), name).unwrap();
        }
        let digest = Listing::of_folder(&fixture.data()).unwrap().digest();
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let fixture = &fixture;
                scope.spawn(move || {
                    for _ in 0..50 {
                        let cache = fixture.cache();
                        assert_eq!(cache.file(&fixture.file(name)).unwrap(), Digest::of(name.as_bytes()));
                        assert_eq!(cache.folder(&fixture.data(), &ALL).unwrap(), digest);
                        cache.lock().values_mut().for_each(|known| known.changed = true);
                        cache.save(&write_atomically).unwrap();
                    }
                });
            }
        });
        assert_eq!(fixture.kept().len(), 2);
        // One after the other, both are kept.
        for cache in [fixture.cache(), fixture.cache()] {
            cache.file(&fixture.file("a")).unwrap();
            cache.file(&fixture.file("b")).unwrap();
            cache.save(&write_atomically).unwrap();
        }
        assert_eq!(fixture.cache().files(&Place::Files).len(), 2);
    }

    /// Something that happens to a folder.
    #[derive(Clone, Debug)]
    enum Step {
        /// A text of one length, so that only times tell.
        Write(usize, u8),
        /// Sets the time of the last change back to when the world began.
        Disguise(usize),
        Rename(usize, usize),
        Remove(usize),
        /// Another process takes over.
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        let name = 0..4_usize;
        prop_oneof![
            (name.clone(), b'a'..b'd').prop_map(|(name, text)| Step::Write(name, text)),
            name.clone().prop_map(Step::Disguise),
            (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
            name.prop_map(Step::Remove),
            Just(Step::Reopen),
        ]
    }

    proptest! {
        #[test]
        fn every_change_is_noticed(steps in prop::collection::vec(step(), 1..30)) {
            let (fixture, mut latest) = (Fixture::new(), (0, 0));
            let mut cache = fixture.cache();
            let name = |number: usize| ["a", "b", "c", "d"][number];
            for step in steps {
                match step {
                    Step::Write(number, text) => {
                        fixture.write(name(number), std::str::from_utf8(&[text]).unwrap(), &mut latest);
                    }
                    Step::Disguise(number) => {
                        if let Ok(file) = File::options().write(true).open(fixture.file(name(number))) {
                            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                        }
                    }
                    Step::Rename(from, to) => {
                        let _ = fs::rename(fixture.file(name(from)), fixture.file(name(to)));
                    }
                    Step::Remove(number) => {
                        let _ = fs::remove_file(fixture.file(name(number)));
                    }
                    Step::Reopen => {
                        cache.save(&write_atomically).unwrap();
                        cache = fixture.cache();
                    }
                }
                let expected = Listing::of_folder(&fixture.data()).unwrap();
                prop_assert_eq!(cache.folder(&fixture.data(), &ALL).unwrap(), expected.digest());
                prop_assert_eq!(&cache.listing(&fixture.data(), &ALL).unwrap(), &expected);
                for (name, file) in expected.files() {
                    prop_assert_eq!(cache.file(&fixture.file(name)).unwrap(), file.digest);
                }
            }
        }
    }
}
