//! The scratch folder of one process. A lock shows that the process lives; [`remove_dead`] removes what dead ones left.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{TEMPORARY, temporary_file};
use crate::error::{Error, Result};

/// This process's folder; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder under `work`.
    pub fn new(work: &Path) -> Result<Scratch> {
        fs::create_dir_all(work).map_err(Error::io("create", work))?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Error::io("write in", work))?;
        // Locked under another name first: a lock that is there is held, or its run is dead.
        let (new, path) = (folder.path().join("new-lock"), folder.path().join("lock"));
        let lock = File::create(&new).map_err(Error::io("create", &new))?;
        lock.lock().map_err(Error::io("lock", &new))?;
        fs::rename(&new, &path).map_err(Error::io("create", &path))?;
        Ok(Scratch { folder, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file for what is about to be renamed to its place.
    pub fn file(&self) -> Result<NamedTempFile> {
        temporary_file(self.folder.path())
    }

    /// An empty folder for what is about to be renamed to its place.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.folder.path();
        let new =
            tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder).map_err(Error::io("write in", folder))?;
        Ok(new.keep())
    }

    /// An empty folder for one node.
    pub fn node(&self, number: usize) -> Result<PathBuf> {
        let path = self.folder.path().join(number.to_string());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }
}

/// Removes what dead runs left under `work`.
pub fn remove_dead(work: &Path) -> Result<()> {
    if !work.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(work).map_err(Error::io("read", work))? {
        let path = entry.map_err(Error::io("read", work))?.path();
        match File::open(path.join("lock")) {
            Ok(lock) => match lock.try_lock() {
                // Another run may be removing it too, so what is gone already is no mistake.
                Ok(()) => drop(fs::remove_dir_all(&path)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            },
            // Just made by another run that has not locked it yet, or left by one that died then: a minute decides.
            Err(_) if is_older_than_a_minute(&path) => drop(fs::remove_dir_all(&path)),
            Err(_) => {}
        }
    }
    Ok(())
}

fn is_older_than_a_minute(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_dead_runs_left_and_spares_the_living() {
        let work = tempfile::tempdir().unwrap();
        let alive = Scratch::new(work.path()).unwrap();
        let kept = alive.node(1).unwrap();
        let dead = work.path().join("run-dead");
        fs::create_dir(&dead).unwrap();
        File::create(dead.join("lock")).unwrap();
        remove_dead(work.path()).unwrap();
        assert!(kept.exists() && !dead.exists());
    }
}
