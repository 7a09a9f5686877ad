//! Who uses the store. Commands that need what is in it share it; one that removes things has it alone.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::time::Duration;

use super::Store;
use super::ahead::Sources;
use super::scratch::is_used_elsewhere;
use crate::error::{Error, Result};
use crate::files::uninterrupted;

/// Held until it is dropped, or its process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    /// Absent where the store cannot be written, so that nobody can remove anything either, and where there is none.
    file: Option<File>,
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that is being started holds a copy of it until its program runs.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // What cannot be unlocked is unlocked when the last copy is closed.
            let _ = file.unlock();
        }
    }
}

/// How often one who waits looks for processes on other computers.
const LOOK: Duration = Duration::from_secs(1);

impl Lock {
    /// The same lock; a store that was not there yet is made, and held. One process must not hold two: where a file system
    /// knows locks by their process, to give up one is to give up both.
    ///
    /// # Errors
    /// The store cannot be made.
    pub fn or_of_new(self, store: &Store, waiting: impl FnOnce()) -> Result<Lock> {
        if self.file.is_some() { Ok(self) } else { store.share(waiting) }
    }
}

impl Store {
    /// Waits until nobody has the store alone. `waiting` is called if that takes time.
    pub fn share(&self, waiting: impl FnOnce()) -> Result<Lock> {
        match self.lock_file() {
            Ok(file) => self.hold(file, File::try_lock_shared, File::lock_shared, waiting),
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                Ok(Lock { file: None })
            }
            Err(error) => Err(Error::io("lock", &self.root)(error)),
        }
    }

    /// As [`Store::share`], for a command that only reads: it makes no store where there is none, of which nothing can be
    /// removed.
    pub fn share_if_there(&self, waiting: impl FnOnce()) -> Result<Lock> {
        if self.root.is_dir() { self.share(waiting) } else { Ok(Lock { file: None }) }
    }

    /// Does some work, and meanwhile reads what [`Store::look_up`] will be asked for when the nodes of this pipeline are
    /// inspected. It holds for as long as the store is held, since nothing is removed from it so long.
    pub fn reading_ahead<T>(&self, _held: &Lock, pipeline: &str, work: impl FnOnce() -> T) -> T {
        let sources = Sources {
            pipeline,
            pack: self.pack_path(pipeline),
            last_keys: &|| self.read_last_keys(pipeline),
            record_path: &|key| self.record_path(key),
            // Whoever needs what cannot be read complains.
            record: &|key| self.read_record_file(key).ok().flatten(),
        };
        self.ahead.read_during(&sources, work)
    }

    /// Waits until nobody else uses the store. `waiting` is called if that takes time.
    pub fn have_alone(&self, waiting: impl FnOnce()) -> Result<Lock> {
        let mut waiting = Some(waiting);
        let mut say = || waiting.take().into_iter().for_each(|say| say());
        loop {
            let file = self.lock_file().map_err(Error::io("lock", &self.root))?;
            let lock = self.hold(file, File::try_lock, File::lock, &mut say)?;
            // The locks of other computers may not show here.
            if !is_used_elsewhere(&self.work()) {
                return Ok(lock);
            }
            drop(lock);
            say();
            std::thread::sleep(LOOK);
        }
    }

    fn hold(
        &self,
        file: File,
        try_lock: fn(&File) -> Result<(), TryLockError>,
        lock: fn(&File) -> std::io::Result<()>,
        waiting: impl FnOnce(),
    ) -> Result<Lock> {
        match uninterrupted(|| try_lock(&file).map_err(Into::into)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                waiting();
                uninterrupted(|| lock(&file)).map_err(Error::io("lock", &self.root))?;
            }
            Err(error) => return Err(Error::io("lock", &self.root)(error)),
        }
        Ok(Lock { file: Some(file) })
    }

    fn lock_file(&self) -> std::io::Result<File> {
        let path = self.root.join("lock");
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.root)?;
                File::options().append(true).create(true).open(&path)
            }
            opened => opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_share_and_one_waits_to_have_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let shared = [store.share(|| panic!()).unwrap(), store.share(|| panic!()).unwrap()];
        let (told, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let alone = scope.spawn(|| store.have_alone(|| told.send(()).unwrap()).unwrap());
            waits.recv().unwrap();
            assert!(!alone.is_finished());
            drop(shared);
            drop(alone.join().unwrap());
        });
        store.have_alone(|| panic!()).unwrap();
    }

    #[test]
    fn who_has_it_alone_waits_for_other_computers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let claim = store.work().join("run-1-1.claim");
        fs::create_dir_all(store.work()).unwrap();
        fs::write(&claim, "process 1 on nowhere\nhost nowhere\nboot b\nbeat 00000000000000000007\n").unwrap();
        let mut has_waited = false;
        let end = || {
            has_waited = true;
            fs::remove_file(&claim).unwrap();
        };
        drop(store.have_alone(end).unwrap());
        assert!(has_waited);
    }

    #[test]
    fn a_reader_makes_no_store_and_shares_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let absent = store.share_if_there(|| panic!()).unwrap();
        assert!(!store.root().exists());
        drop(absent.or_of_new(&store, || panic!()).unwrap());
        let reader = store.share_if_there(|| panic!()).unwrap();
        assert!(store.lock_file().unwrap().try_lock().is_err());
        // Still held, and by one lock.
        let reader = reader.or_of_new(&store, || panic!()).unwrap();
        assert!(store.lock_file().unwrap().try_lock().is_err());
        drop(reader);
        store.have_alone(|| panic!()).unwrap();
    }
}
