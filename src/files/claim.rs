//! Claims on keys: a node is computed by one process at a time, whichever runs share the store.
//!
//! A claim is a lock on a file that names its owner. The system frees the lock of a process that dies, so a dead owner's
//! claim can be taken at once. The claim of a process on another computer, whose lock may not show here, is its owner's for as
//! long as the owner's [`Heartbeat`] moves.
//!
//! A process that takes one claim after another keeps its locked files ([`Seats`]) and gives each a second name, the claim's,
//! for as long as it has the claim: two changes of a folder, where a file of its own for each claim is made, locked, written
//! and removed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::owner::{self, Heartbeat};
use super::{create_parent, uninterrupted};
use crate::error::{Error, Result};

/// The right to compute a key; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Taken when it is dropped.
    lock: Option<Seat>,
}

/// A locked file that names this process.
#[derive(Debug)]
struct Seat {
    file: File,
    /// Its own name, and where it goes when the claim is dropped; absent where the claim's name is its only one.
    own: Option<(PathBuf, Arc<Seats>)>,
}

/// The locked files of this process that are not a claim now.
#[derive(Debug)]
pub struct Seats {
    folder: PathBuf,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    seats: Vec<(File, PathBuf)>,
    /// How many have been made.
    made: usize,
}

impl Seats {
    /// They lie in `folder`, which is this process's alone.
    pub fn new(folder: &Path) -> Arc<Seats> {
        Arc::new(Seats { folder: folder.to_owned(), free: Mutex::default() })
    }

    /// As [`Claim::take`].
    pub fn take(self: &Arc<Seats>, path: PathBuf) -> Result<Claimed> {
        let (file, own) = self.free()?;
        match fs::hard_link(&own, &path) {
            Ok(()) => {
                let lock = Some(Seat { file, own: Some((own, self.clone())) });
                Ok(Claimed::Ours(Claim { path, lock }))
            }
            // Somebody has it or had it, there is no folder for it yet, or files have one name here.
            Err(_) => {
                self.lock().seats.push((file, own));
                Claim::take(path)
            }
        }
    }

    /// A file that is no claim.
    fn free(&self) -> Result<(File, PathBuf)> {
        let number = {
            let mut free = self.lock();
            if let Some(seat) = free.seats.pop() {
                return Ok(seat);
            }
            free.made += 1;
            free.made
        };
        let path = self.folder.join(format!("claim-{number}"));
        let mut file = open(&path)?;
        uninterrupted(|| file.lock()).map_err(Error::io("lock", &path))?;
        name_owner(&mut file).map_err(Error::io("write", &path))?;
        Ok((file, path))
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
                // When the file got this name.
                let changed = file.metadata().ok()?;
                let (seconds, nanoseconds) = (changed.ctime().max(0).cast_unsigned(), changed.ctime_nsec());
                let since = SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(nanoseconds).ok()?);
                Some(Holder { who: owner::name(&text(&mut file)), since })
            }
            // Its lock may not show here.
            _ => {
                let (text, since) = (text(&mut file), file.metadata().and_then(|file| file.modified()).ok()?);
                owner::lives_elsewhere(path, &text).then(|| Holder { who: owner::name(&text), since })
            }
        }
    }

    /// Whether a process on another computer has the claim whose file is `path`, as far as one can know.
    pub fn is_elsewhere(path: &Path) -> bool {
        File::open(path).is_ok_and(|mut file| owner::lives_elsewhere(path, &text(&mut file)))
    }

    /// Shows other computers that this process lives, for as long as what is returned does: its other claims name this one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn heartbeat(&self) -> Result<Heartbeat> {
        let seat = self.lock.as_ref().expect("it is taken when the claim is dropped");
        Heartbeat::start(&seat.file, &self.path).map_err(Error::io("write", &self.path))
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
                    // Its owner may have given it back meanwhile, and keeps its file locked for the next one.
                    if is_at(&file, &path) {
                        return Ok(Claimed::Elsewhere(owner::name(&text(&mut file))));
                    }
                    continue;
                }
                Err(error) => return Err(Error::io("lock", &path)(error)),
            }
            let text = text(&mut file);
            if owner::lives_elsewhere(&path, &text) {
                return Ok(Claimed::Elsewhere(owner::name(&text)));
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
            let mut file = open(path)?;
            uninterrupted(|| file.lock()).map_err(Error::io("lock", path))?;
            if owner::lives_elsewhere(path, &text(&mut file)) {
                drop(file);
                std::thread::sleep(LOOK);
            } else if let Some(claim) = Claim::of_locked(file, path)? {
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
        name_owner(&mut file).map_err(Error::io("write", path))?;
        Ok(Some(Claim { path: path.to_owned(), lock: Some(Seat { file, own: None }) }))
    }
}

/// How often one who waits looks at a claim of another computer.
const LOOK: Duration = Duration::from_secs(1);

/// Writes into a locked file who we are.
fn name_owner(file: &mut File) -> std::io::Result<()> {
    // Cutting a file to nothing makes ext4 write it to the disk as soon as it is closed.
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    file.rewind()?;
    file.write_all(owner::text().as_bytes())
}

impl Drop for Claim {
    /// Removes the file while it is still locked, so that nobody can have claimed it meanwhile.
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.path);
        if let Some(Seat { file, own: Some((path, seats)) }) = self.lock.take()
            && removed.is_ok()
        {
            seats.lock().seats.push((file, path));
        }
    }
}

/// What a claim's file says of its owner.
fn text(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text
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
    fn what_a_process_of_another_computer_has_is_its_own_though_nobody_has_locked_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "process 1 on nowhere\nhost nowhere\nboot b\nheartbeat /nowhere/run-1.claim\n").unwrap();
        let is_elsewhere =
            |claimed: Claimed| matches!(claimed, Claimed::Elsewhere(who) if who == "process 1 on nowhere");
        assert!(is_elsewhere(Claim::take(path.clone()).unwrap()));
        assert!(is_elsewhere(Seats::new(folder.path()).take(path.clone()).unwrap()));
        assert!(Claim::is_elsewhere(&path));
        assert_eq!(Claim::holder(&path).unwrap().who, "process 1 on nowhere");
        fs::remove_file(&path).unwrap();
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
        // Some as a process takes its first claim, some as two that take many.
        let seats = ["one", "other"].map(|name| Seats::new(&folder.path().join(name)));
        let (holders, taken, folder) = (&holders, &taken, folder.path());
        std::thread::scope(|scope| {
            for seats in [None, None, Some(&seats[0]), Some(&seats[0]), Some(&seats[1])] {
                scope.spawn(move || {
                    while taken.load(Ordering::SeqCst) < 500 {
                        let path = folder.join("keys/key");
                        let claimed = seats.map_or_else(|| Claim::take(path.clone()), |seats| seats.take(path.clone()));
                        if let Claimed::Ours(_claim) = claimed.unwrap() {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(fs::read_dir(folder.join("keys")).unwrap().next().is_none());
    }

    #[test]
    fn a_seat_is_one_claim_after_another() {
        let folder = tempfile::tempdir().unwrap();
        let seats = Seats::new(&folder.path().join("own"));
        let key = |number: usize| folder.path().join("keys").join(number.to_string());
        fs::create_dir(folder.path().join("keys")).unwrap();
        for number in 0..10 {
            let Claimed::Ours(claim) = seats.take(key(number)).unwrap() else { panic!("nobody has it") };
            assert!(matches!(seats.take(key(number)).unwrap(), Claimed::Elsewhere(_)));
            let holder = Claim::holder(&key(number)).unwrap();
            assert!(holder.who.contains(&std::process::id().to_string()), "{holder:?}");
            assert!(holder.since.elapsed().unwrap_or_default() < Duration::from_secs(60), "{holder:?}");
            drop(claim);
            assert!(Claim::holder(&key(number)).is_none());
            assert!(matches!(Claim::take(key(number)).unwrap(), Claimed::Ours(_)));
        }
        let seats_made = fs::read_dir(folder.path().join("own")).unwrap().count();
        assert_eq!(seats_made, 2, "one is the claim, the other asks for it");
        // What a dead process claimed has its lock no more.
        let Claimed::Ours(dead) = seats.take(key(1)).unwrap() else { panic!("nobody has it") };
        let copy = folder.path().join("copy");
        fs::copy(key(1), &copy).unwrap();
        drop(dead);
        fs::rename(&copy, key(1)).unwrap();
        assert!(matches!(seats.take(key(1)).unwrap(), Claimed::Ours(_)));
    }
}
