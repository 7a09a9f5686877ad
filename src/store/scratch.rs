//! The scratch folder of one process. The claim beside it shows that the process lives; [`remove_dead`] removes what
//! dead ones left.
//!
//! To make and remove folders takes file systems longest of all that a small node needs, so folders are handed on from node to
//! node, and what has to go is removed while other nodes run.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, open, openat, unlinkat};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::files::{
    Claim, Claimed, Heartbeat, Links, Seats, TEMPORARY, is_like, is_new_folder, remove, remove_folder, temporary_file,
};

/// This process's folder; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    seats: Arc<Seats>,
    /// Folders for nodes that are free.
    spare: Mutex<Vec<PathBuf>>,
    /// How many things in the folder have been given a name.
    named: AtomicUsize,
    /// None before there is something to remove.
    janitors: Mutex<Option<Janitors>>,
    /// None where the disk had no room for it.
    _heartbeat: Option<Heartbeat>,
    _claim: Claim,
}

/// Threads that remove what is no longer needed. They mostly wait for the disk, which does many removals at once.
#[derive(Debug)]
struct Janitors {
    dead: Sender<PathBuf>,
    threads: Vec<JoinHandle<()>>,
}

/// How many things are removed at the same time.
const AT_ONCE: usize = 8;

impl Janitors {
    fn new() -> Janitors {
        let (dead, found) = mpsc::channel::<PathBuf>();
        let found = Arc::new(Mutex::new(found));
        let janitor = |_| {
            let found = found.clone();
            let next = move || locked(&found).recv();
            // What cannot be removed goes with the scratch, or is left to the next run.
            let work = move || {
                while let Ok(path) = next() {
                    let _ = remove_at_once(&path).or_else(|_| remove(&path));
                }
            };
            Builder::new().spawn(work).ok()
        };
        let threads = (0..AT_ONCE).filter_map(janitor).collect();
        Janitors { dead, threads }
    }

    fn remove(&self, path: PathBuf) {
        let _ = self.dead.send(path);
    }

    /// Waits until all is removed.
    fn end(self) {
        drop(self.dead);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Removes a file, a link or a folder with all in it, as [`remove`] does, but where a folder has many entries many at the same
/// time.
fn remove_at_once(path: &Path) -> std::io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    empty_at_once(&open(path, FOLDER, Mode::empty())?, AT_ONCE)?;
    fs::remove_dir(path)
}

/// How a folder is opened. Nothing in it is found by a path, in which somebody could put a link that leads elsewhere.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes what is in a folder, with so many threads.
fn empty_at_once(folder: &OwnedFd, threads: usize) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    let remove = |name: &CString, threads| match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {
            empty_at_once(&openat(folder, name, FOLDER, Mode::empty())?, threads)?;
            unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(Into::into)
        }
        removed => removed.map_err(Into::into),
    };
    if threads == 1 || names.len() < threads {
        return names.iter().try_for_each(|name| remove(name, threads));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut names = std::iter::from_fn(|| names.get(next.fetch_add(1, Relaxed)));
        names.try_for_each(|name| remove(name, 1))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).filter_map(|_| Builder::new().spawn_scoped(scope, work).ok()).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

impl Scratch {
    /// Makes a folder under `work`.
    pub fn new(work: &Path) -> Result<Scratch> {
        loop {
            let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos());
            let folder = work.join(format!("run-{}-{time}", std::process::id()));
            // Claimed before it is made and until it is gone: a folder that nobody claims is a dead run's.
            if let Claimed::Ours(claim) = claim(&folder)? {
                fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
                let (spare, named, janitors) = Default::default();
                let (seats, heartbeat) = (Seats::new(&folder), claim.heartbeat().ok());
                return Ok(Scratch { seats, folder, spare, named, janitors, _heartbeat: heartbeat, _claim: claim });
            }
        }
    }

    /// A file for what is about to be renamed to its place.
    pub fn file(&self) -> Result<NamedTempFile> {
        temporary_file(&self.folder)
    }

    /// An empty folder for what is about to be renamed to its place.
    pub fn folder(&self) -> Result<PathBuf> {
        let new = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.folder);
        Ok(new.map_err(Error::io("write in", &self.folder))?.keep())
    }

    /// A folder for one node. It is empty but for what [`Scratch::give_back`] kept.
    pub fn node(&self) -> Result<PathBuf> {
        if let Some(spare) = locked(&self.spare).pop() {
            return Ok(spare);
        }
        let path = self.name();
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }

    /// Takes the folder of a node back for another one, emptied. A folder in it whose name is in `kept` is emptied and stays, and
    /// its links go to [`Links`]; a file whose name is in `kept` stays as it is, for the next node to write over.
    pub fn give_back(&self, folder: PathBuf, kept: &[&str]) {
        if self.empty(&folder, kept).is_ok_and(|()| is_like(&folder, &self.folder)) {
            locked(&self.spare).push(folder);
        } else {
            self.throw_away(&folder);
        }
    }

    fn empty(&self, folder: &Path, kept: &[&str]) -> std::io::Result<()> {
        let links = Links::beside(folder);
        for entry in fs::read_dir(folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            let metadata = fs::symlink_metadata(&path)?;
            let is_kept = kept.iter().any(|name| entry == *name);
            if metadata.is_dir() && is_kept {
                for within in fs::read_dir(&path)? {
                    let within = within?.path();
                    links.take(&within).unwrap_or_else(|_| self.throw_away(&within));
                }
                if !is_new_folder(&path, &self.folder) {
                    self.throw_away(&path);
                }
            } else if !metadata.is_file() {
                self.throw_away(&path);
            } else if !is_kept || !self.is_as_written(&metadata) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// A file that has no other name, and the rights that a new one has.
    fn is_as_written(&self, file: &fs::Metadata) -> bool {
        const WITHOUT_EXECUTION: u32 = 0o666;
        let rights = |metadata: &fs::Metadata| metadata.mode() & 0o7777;
        let new = fs::metadata(&self.folder).map(|folder| rights(&folder) & WITHOUT_EXECUTION);
        file.nlink() == 1 && new.is_ok_and(|new| new == rights(file))
    }

    /// Removes something of this file system that is no longer needed, sooner or later, but it is gone from its place at once.
    pub fn throw_away(&self, path: &Path) {
        let away = self.name();
        if fs::rename(path, &away).is_err() {
            let _ = remove(path);
            return;
        }
        locked(&self.janitors).get_or_insert_with(Janitors::new).remove(away);
    }

    /// A path in the folder that nothing has.
    fn name(&self) -> PathBuf {
        self.folder.join(self.named.fetch_add(1, Relaxed).to_string())
    }

    /// Takes the claim whose file is `path`, unless somebody has it.
    pub(super) fn claim(&self, path: PathBuf) -> Result<Claimed> {
        self.seats.take(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let links = Links::beside(&self.name());
        if links.folder().exists() {
            self.throw_away(links.folder());
        }
        if let Some(janitors) = locked(&self.janitors).take() {
            janitors.end();
        }
        let _ = remove_folder(&self.folder);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an entry of `work`, a folder or its claim, belongs to no living process.
pub(super) fn is_dead(entry: &Path) -> bool {
    matches!(claim(&entry.with_extension("")), Ok(Claimed::Ours(_)))
}

/// Whether a process on another computer writes to the store, as far as one can know.
pub(super) fn is_used_elsewhere(work: &Path) -> bool {
    fs::read_dir(work).into_iter().flatten().flatten().any(|entry| Claim::is_elsewhere(&entry.path()))
}

/// Removes what dead runs left under `work`. What cannot be removed now, because a program of theirs is just being
/// killed, is left to the next run.
pub(super) fn remove_dead(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let folder = entry.path().with_extension("");
        if let Ok(Claimed::Ours(_claim)) = claim(&folder) {
            let _ = remove_folder(&folder);
        }
    }
}

fn claim(folder: &Path) -> Result<Claimed> {
    Claim::take(folder.with_extension("claim"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_thrown_away_is_gone_and_what_its_links_lead_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("data"), "1").unwrap();
        let scratch = Scratch::new(&folder.path().join("work")).unwrap();
        let link = |at: &Path| std::os::unix::fs::symlink(&precious, at).unwrap();
        let node = scratch.node().unwrap();
        for deep in ["inputs/a/b", "inputs/c", "else/where"] {
            fs::create_dir_all(node.join(deep)).unwrap();
            fs::write(node.join(deep).join("file"), "2").unwrap();
            link(&node.join(deep).join("link"));
        }
        link(&node.join("inputs/link"));
        link(&node.join("link"));
        fs::write(node.join("parameters.json"), "{}").unwrap();
        let kept = ["inputs", "parameters.json"];
        let handed_on = || {
            scratch.give_back(node.clone(), &kept);
            assert_eq!(scratch.node().unwrap(), node);
            let left = walkdir::WalkDir::new(&node).min_depth(1).sort_by_file_name().into_iter();
            left.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(handed_on(), kept);
        // What has other rights than a new one goes, and what has another name.
        let set = |name: &str, mode| fs::set_permissions(node.join(name), PermissionsExt::from_mode(mode)).unwrap();
        set("inputs", 0o500);
        assert_eq!(handed_on(), ["parameters.json"]);
        set("parameters.json", 0o600);
        assert!(handed_on().is_empty());
        fs::write(node.join("parameters.json"), "{}").unwrap();
        fs::hard_link(node.join("parameters.json"), folder.path().join("twin")).unwrap();
        assert!(handed_on().is_empty());
        fs::remove_file(folder.path().join("twin")).unwrap();
        fs::set_permissions(&node, PermissionsExt::from_mode(0o700)).unwrap();
        scratch.give_back(node.clone(), &kept);
        assert_ne!(scratch.node().unwrap(), node, "a folder of other rights is not handed on");
        link(&folder.path().join("thrown"));
        scratch.throw_away(&folder.path().join("thrown"));
        drop(scratch);
        assert_eq!(fs::read_dir(folder.path().join("work")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(precious.join("data")).unwrap(), "1");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn removes_what_dead_runs_left_and_spares_the_living() {
        let work = tempfile::tempdir().unwrap();
        let alive = Scratch::new(work.path()).unwrap();
        let kept = alive.node().unwrap();
        for dead in ["run-1-1", "run-1-2", "run-1-2.claim", "run-1-3.claim"] {
            if dead.ends_with("claim") {
                fs::write(work.path().join(dead), "").unwrap();
            } else {
                fs::create_dir_all(work.path().join(dead).join("1")).unwrap();
            }
        }
        let entries = || fs::read_dir(work.path()).unwrap().map(|entry| entry.unwrap().path());
        let (living, dead): (Vec<_>, Vec<_>) =
            entries().collect::<Vec<_>>().into_iter().partition(|path| !is_dead(path));
        assert_eq!((living.len(), dead.len()), (2, 4));
        remove_dead(work.path());
        assert!(kept.exists());
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 2);
        drop(alive);
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
    }
}
