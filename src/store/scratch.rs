//! The scratch folder of one process. The claim beside it shows that the process lives; [`remove_dead`] removes what
//! dead ones left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::files::{Claim, Claimed, TEMPORARY, remove_folder, temporary_file};

/// This process's folder; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    _claim: Claim,
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
                return Ok(Scratch { folder, _claim: claim });
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

    /// An empty folder for one node.
    pub fn node(&self, number: usize) -> Result<PathBuf> {
        let path = self.folder.join(number.to_string());
        remove_folder(&path).map_err(Error::io("remove", &path))?;
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_folder(&self.folder);
    }
}

/// Whether an entry of `work`, a folder or its claim, belongs to no living process.
pub(super) fn is_dead(entry: &Path) -> bool {
    matches!(claim(&entry.with_extension("")), Ok(Claimed::Ours(_)))
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
    use super::*;

    #[test]
    fn removes_what_dead_runs_left_and_spares_the_living() {
        let work = tempfile::tempdir().unwrap();
        let alive = Scratch::new(work.path()).unwrap();
        let kept = alive.node(1).unwrap();
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
