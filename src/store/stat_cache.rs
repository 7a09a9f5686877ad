//! Digests of input files, remembered by path, size, times and inode, so that an unchanged file is read once.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::{Digest, Listing, walk, write_atomically};
use crate::error::{Error, Result};

/// The cache, shared by threads; [`StatCache::save`] keeps it for the next process.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By absolute path.
    known: HashMap<String, Entry>,
    changed: bool,
}

/// What identifies a content without reading it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn of(path: &Path) -> Result<Stat> {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        Ok(Stat {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn changed_at(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.changed;
        SystemTime::UNIX_EPOCH + Duration::new(seconds.max(0) as u64, nanoseconds as u32)
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    stat: Stat,
    digest: Digest,
}

impl Entry {
    /// `<digest> <size> <inode> <modified: seconds nanoseconds> <changed: seconds nanoseconds> <path>`
    fn line(&self, path: &str) -> String {
        let Entry { digest, stat: Stat { size, inode, modified, changed } } = self;
        format!("{digest} {size} {inode} {} {} {} {} {path}\n", modified.0, modified.1, changed.0, changed.1)
    }

    fn parse(line: &str) -> Option<(String, Entry)> {
        let mut words = line.splitn(8, ' ');
        let digest = Digest::parse(words.next()?)?;
        let (size, inode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse().ok();
        let (modified, changed) = ((number()?, number()?), (number()?, number()?));
        Some((words.next()?.to_owned(), Entry { stat: Stat { size, inode, modified, changed }, digest }))
    }
}

/// A file written this recently might be written again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);

impl StatCache {
    /// The cache kept at `path`; what is missing or damaged is read again.
    pub fn open(path: PathBuf) -> StatCache {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let known = text.lines().filter_map(Entry::parse).collect();
        StatCache { path, entries: Mutex::new(Entries { known, changed: false }) }
    }

    /// The digest of a file's content.
    pub fn file(&self, path: &Path) -> Result<Digest> {
        let path = std::path::absolute(path).map_err(Error::io("resolve", path))?;
        self.stat(&path).map(|(digest, _)| digest)
    }

    /// The digests of all files at `folder/within`, for each of `within`.
    pub fn folder(&self, folder: &Path, within: &[String]) -> Result<Listing> {
        let folder = std::path::absolute(folder).map_err(Error::io("resolve", folder))?;
        let mut files = Vec::new();
        for part in within {
            files.extend(walk(&folder, Path::new(part))?);
        }
        let hashed: Vec<(String, Digest, u64)> = files
            .into_par_iter()
            .map(|(name, path)| self.stat(&path).map(|(digest, size)| (name, digest, size)))
            .collect::<Result<_>>()?;
        Ok(Listing::new(hashed))
    }

    /// The digest and size of the file at an absolute path.
    fn stat(&self, path: &Path) -> Result<(Digest, u64)> {
        let now = SystemTime::now();
        let stat = Stat::of(path)?;
        // A name that the cache cannot hold is read every time.
        let name = path.to_str().filter(|name| !name.contains('\n'));
        let known = name.and_then(|name| self.lock().known.get(name).copied());
        if let Some(entry) = known.filter(|entry| entry.stat == stat) {
            return Ok((entry.digest, stat.size));
        }
        let digest = Digest::of_file(path)?;
        let size = stat.size;
        // Remembered only if it was neither written just before nor while it was read.
        if let Some(name) = name
            && stat.changed_at() + SETTLED < now
            && Stat::of(path)? == stat
        {
            let mut entries = self.lock();
            entries.known.insert(name.to_owned(), Entry { stat, digest });
            entries.changed = true;
        }
        Ok((digest, size))
    }

    /// Keeps the cache, if it changed.
    pub fn save(&self) -> Result<()> {
        let mut entries = self.lock();
        if entries.changed {
            let text: String = entries.known.iter().map(|(path, entry)| entry.line(path)).collect();
            write_atomically(&self.path, text.as_bytes())?;
            entries.changed = false;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nothing panics while it holds the cache")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_content_is_seen_even_at_the_same_size() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("a"), StatCache::open(folder.path().join("cache")));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(cache.file(&path).unwrap(), Digest::of(b"one"));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(cache.file(&path).unwrap(), Digest::of(b"two"));
    }

    #[test]
    fn a_kept_cache_is_found_again() {
        let stat = Stat { size: 5, inode: 7, modified: (1, 2), changed: (3, 4) };
        let entry = Entry { stat, digest: Digest::of(b"1") };
        let (path, read) = Entry::parse(entry.line("/a b/c").trim_end()).unwrap();
        assert_eq!((path.as_str(), read.stat, read.digest), ("/a b/c", stat, entry.digest));
        assert!(Entry::parse("12 5 7").is_none());
    }

    #[test]
    fn only_what_is_named_counts() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images/a", "images/b", "other"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let cache = StatCache::open(folder.path().join("cache"));
        let listing = cache.folder(folder.path(), &["images".into()]).unwrap();
        let names: Vec<&String> = listing.entries().map(|(name, _)| name).collect();
        assert_eq!(names, ["images/a", "images/b"]);
    }
}
