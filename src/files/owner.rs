//! Who has a claim, as the claim's file says, and whether that process lives.
//!
//! On its own computer the lock of the file tells. On a network file system the locks of one computer may mean nothing on
//! another, so a process also has a heartbeat: a file that changes every few seconds, which its claims name. Whoever sees the
//! heartbeat of another computer's process stand still for a minute of its own time takes the process for dead. Clocks of
//! computers are not compared, because they may differ by minutes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::boot::Boot;
use crate::made_by::host;

/// How often a heartbeat changes.
const BEAT: Duration = Duration::from_secs(10);
/// How long the heartbeat of a process stands still that is taken for dead.
const DEAD: Duration = Duration::from_secs(60);
/// A heartbeat that did not change for so long is nobody's, whatever clocks say: it is no use to watch it.
const ANCIENT: Duration = Duration::from_secs(24 * 60 * 60);

/// The lines of a claim's file behind the first, by their first words.
const BOOT: &str = "boot ";
const HOST: &str = "host ";
const HEARTBEAT: &str = "heartbeat ";
const BEATS: &str = "beat ";

/// The file of this process's heartbeat.
static OWN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What stands in the files of this process's claims.
pub(super) fn text() -> String {
    let (id, host) = (std::process::id(), host());
    let mut text = format!("process {id} on {host}\n{HOST}{host}\n");
    if let Some(boot) = Boot::current() {
        text += &format!("{BOOT}{}\n", boot.id());
    }
    if let Some(heartbeat) = &*lock(&OWN) {
        text += &format!("{HEARTBEAT}{}\n", heartbeat.display());
    }
    text
}

/// Whom the text of a claim's file names.
pub(super) fn name(text: &str) -> String {
    text.lines().next().unwrap_or("another process").to_owned()
}

/// Whether a claim that nobody here has locked is that of a process on another computer, which lives as far as one can know.
/// The claim's file is at `path`, and has this text.
pub(super) fn lives_elsewhere(path: &Path, text: &str) -> bool {
    static SEEN: LazyLock<Mutex<Seen>> = LazyLock::new(Mutex::default);
    let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
    let Some(its_host) = line(HOST) else { return false };
    // Containers of one computer have names of their own.
    if its_host == host() || line(BOOT).is_some_and(|boot| Some(boot) == Boot::current().map(Boot::id)) {
        return false;
    }
    // The file itself is the heartbeat, or will be in a moment.
    let heartbeat = line(HEARTBEAT).map_or(path, Path::new);
    let file = fs::metadata(heartbeat).or_else(|_| fs::metadata(path));
    let age = file.and_then(|file| file.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age > ANCIENT) {
        return false;
    }
    // One that is gone stands still, too: a file that is new on another computer may not be seen here yet.
    let beats = fs::read_to_string(heartbeat).unwrap_or_default();
    lock(&SEEN).moves(path, text.to_owned() + &beats, Instant::now())
}

/// What was seen of the processes of other computers, and since when.
#[derive(Debug, Default)]
struct Seen(HashMap<PathBuf, (String, Instant)>);

impl Seen {
    /// Whether what is seen now has changed within the time after which it is dead. What is seen first has just changed.
    fn moves(&mut self, path: &Path, text: String, now: Instant) -> bool {
        match self.0.get(path) {
            Some((before, since)) if *before == text => now.duration_since(*since) < DEAD,
            _ => {
                self.0.insert(path.to_owned(), (text, now));
                true
            }
        }
    }
}

/// The heartbeat of this process, until it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Heartbeat {
    /// Begins to beat in the file of a claim, whose text is already there. Without a thread to beat in, nobody is told.
    pub(super) fn start(file: &File, path: &Path) -> std::io::Result<Heartbeat> {
        let (file, end) = (file.try_clone()?, file.metadata()?.len());
        // Behind the text, and always as long.
        let beat = move |file: &File, count: u64| file.write_all_at(format!("{BEATS}{count:020}\n").as_bytes(), end);
        beat(&file, 0)?;
        let (stop, stopped) = mpsc::channel::<()>();
        let work = move || {
            let mut count = 0;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(BEAT) {
                count += 1;
                // A disk that is full now may not be later. What is not synced, other computers may not see.
                let _ = beat(&file, count).and_then(|()| file.sync_data());
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(work)?;
        *lock(&OWN) = Some(path.to_owned());
        Ok(Heartbeat { thread: Some((stop, thread)) })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn who_stands_still_for_a_minute_is_dead() {
        let (mut seen, path, start) = (Seen::default(), Path::new("claim"), Instant::now());
        let mut moves = |text: &str, seconds| seen.moves(path, text.to_owned(), start + Duration::from_secs(seconds));
        assert!(moves("beat 1", 0) && moves("beat 1", 59));
        assert!(moves("beat 2", 61), "it lives");
        assert!(moves("beat 2", 120) && !moves("beat 2", 121));
        assert!(moves("beat 3", 500), "it was only suspended");
    }

    #[test]
    fn the_lock_decides_for_this_computer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claim");
        let lives = |text: &str| {
            fs::write(&path, text).unwrap();
            lives_elsewhere(&path, text)
        };
        assert!(!lives(&text()));
        assert!(!lives("process 1 on nowhere"));
        assert!(lives("process 1 on nowhere\nboot b\nhost nowhere\n"), "it has just begun");
        assert!(lives("process 1 on nowhere\nboot b\nhost nowhere\nheartbeat /nowhere/run.claim\n"));
        assert!(lives("process 1 on nowhere\nboot b\nhost nowhere\nbeat 00000000000000000007\n"));
        assert!(!lives(&format!("process 1 on nowhere\nboot b\nhost {}\nheartbeat /nowhere/run.claim\n", host())));
    }

    #[test]
    fn a_claim_is_as_old_as_the_heartbeat_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let [claim, heartbeat] = ["claim", "heartbeat"].map(|name| folder.path().join(name));
        fs::write(&heartbeat, "process 1 on nowhere\nhost nowhere\nbeat 00000000000000000007\n").unwrap();
        let text = format!("process 1 on nowhere\nhost nowhere\nheartbeat {}\n", heartbeat.display());
        fs::write(&claim, &text).unwrap();
        let age = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - 2 * ANCIENT).unwrap();
        };
        age(&claim);
        assert!(lives_elsewhere(&claim, &text), "a process may run for days");
        age(&heartbeat);
        assert!(!lives_elsewhere(&claim, &text));
    }

    #[test]
    fn a_heartbeat_is_in_the_file_that_it_keeps_alive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claim");
        fs::write(&path, "process 1 on nowhere\n").unwrap();
        let heartbeat = Heartbeat::start(&File::options().write(true).open(&path).unwrap(), &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "process 1 on nowhere\nbeat 00000000000000000000\n");
        drop(heartbeat);
    }
}
