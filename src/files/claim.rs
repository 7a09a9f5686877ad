//! Claims on keys: a node is computed by one process at a time, whichever runs share the store.
//!
//! A claim is a lock on a file that names its owner. The system frees the lock of a process that dies, so a dead owner's
//! claim can be taken at once.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{create_parent, uninterrupted};
use crate::error::{Error, Result};
use crate::made_by::host;

/// The right to compute a key; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: File,
}

/// Whether a key could be claimed.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Claim),
    /// Another process has it: who, as far as is known, e.g. `process 4711 on host`.
    Elsewhere(String),
}

/// Who has a claim.
#[derive(Clone, Debug)]
pub struct Holder {
    /// As far as is known, e.g. `process 4711 on host`.
    pub who: String,
    /// Since when.
    pub since: SystemTime,
}

impl Claim {
    /// Who has the claim whose file is `path`; nobody, where it is free.
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut file = File::open(path).ok()?;
        match uninterrupted(|| file.try_lock_shared().map_err(Into::into)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let since = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
                Some(Holder { who: owner(&mut file), since })
            }
            _ => None,
        }
    }

    /// Takes the claim whose file is `path`, unless somebody has it.
    ///
    /// # Errors
    /// When the file cannot be written or locked.
    pub fn take(path: PathBuf) -> Result<Claimed> {
        loop {
            let mut file = open(&path)?;
            match uninterrupted(|| file.try_lock().map_err(Into::into)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Claimed::Elsewhere(owner(&mut file)));
                }
                Err(error) => return Err(Error::io("lock", &path)(error)),
            }
            if let Some(claim) = Claim::of_locked(file, &path)? {
                return Ok(Claimed::Ours(claim));
            }
        }
    }

    /// Takes the claim whose file is `path` as soon as nobody has it.
    ///
    /// # Errors
    /// When the file cannot be written or locked.
    pub fn wait(path: &Path) -> Result<Claim> {
        loop {
            let file = open(path)?;
            uninterrupted(|| file.lock()).map_err(Error::io("lock", path))?;
            if let Some(claim) = Claim::of_locked(file, path)? {
                return Ok(claim);
            }
        }
    }

    /// The claim behind a locked file. Its last owner may have removed the file between our opening and our locking it: then
    /// it counts for nothing.
    fn of_locked(mut file: File, path: &Path) -> Result<Option<Claim>> {
        if !is_at(&file, path) {
            return Ok(None);
        }
        let owner = format!("process {} on {}", std::process::id(), host());
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        written.map_err(Error::io("write", path))?;
        Ok(Some(Claim { path: path.to_owned(), _lock: file }))
    }
}

impl Drop for Claim {
    /// Removes the file while it is still locked, so that nobody can have claimed it meanwhile.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whom a claim's file names.
fn owner(file: &mut File) -> String {
    let mut owner = String::new();
    let _ = file.read_to_string(&mut owner);
    if owner.is_empty() { "another process".to_owned() } else { owner }
}

fn open(path: &Path) -> Result<File> {
    create_parent(path)?;
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    open.map_err(Error::io("write", path))
}

/// The open file is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => identity(ours) == identity(there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_nothing_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ab/abcd");
        let Claimed::Ours(claim) = Claim::take(path.clone()).unwrap() else { panic!() };
        match Claim::take(path.clone()).unwrap() {
            Claimed::Elsewhere(owner) => assert!(owner.contains(&std::process::id().to_string()), "{owner}"),
            Claimed::Ours(_) => panic!(),
        }
        let holder = Claim::holder(&path).unwrap();
        assert!(holder.who.contains(&std::process::id().to_string()), "{holder:?}");
        drop(claim);
        assert!(!path.exists());
        // Nobody has what is not there, or what a dead owner left.
        assert!(Claim::holder(&path).is_none());
        fs::write(&path, "process 1 on nowhere").unwrap();
        assert!(Claim::holder(&path).is_none());
        assert!(matches!(Claim::take(path).unwrap(), Claimed::Ours(_)));
    }

    #[test]
    fn who_waits_has_it_alone_when_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _claim = Claim::wait(&path).unwrap();
                        assert!(matches!(Claim::take(path.clone()).unwrap(), Claimed::Elsewhere(_)));
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn many_threads_never_hold_the_same_claim() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 200 {
                        if let Claimed::Ours(_claim) = Claim::take(folder.path().join("key")).unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
