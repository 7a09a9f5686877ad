//! Runs processes and measures them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use wait4::Wait4;

use crate::error::{Error, Result};

/// What a process took.
pub(super) struct Measured {
    pub seconds: f64,
    /// It was killed then.
    pub is_over: bool,
    /// Bytes.
    pub peak_memory: u64,
}

/// Runs a process to its end, or until it has taken as long as it may: then it and what it has started is killed.
///
/// # Errors
/// It cannot be started, or fails: then with what it printed.
pub(super) fn measure(command: &mut Command, limit: Option<Duration>) -> Result<Measured> {
    let program = command.get_program().to_string_lossy().into_owned();
    let printed = tempfile::NamedTempFile::new().map_err(Error::io("write in", std::env::temp_dir()))?;
    let open = || File::options().append(true).open(printed.path()).map_err(Error::io("write", printed.path()));
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    if limit.is_some() {
        command.process_group(0);
    }
    let clock = Instant::now();
    let mut child = command.spawn().map_err(Error::io("start", &program))?;
    let group = Pid::from_child(&child);
    let (ended, is_over) = std::thread::scope(|scope| {
        let (end, ends) = mpsc::channel::<()>();
        let watch = limit.map(|limit| {
            scope.spawn(move || {
                let is_over = ends.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if is_over {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                is_over
            })
        });
        let ended = child.wait4();
        drop(end);
        (ended, watch.is_some_and(|watch| watch.join().expect("it does not panic")))
    });
    let ended = ended.map_err(Error::io("wait for", &program))?;
    let seconds = clock.elapsed().as_secs_f64();
    if let Some(limit) = limit.filter(|_| is_over) {
        return Ok(Measured { seconds: limit.as_secs_f64(), is_over, peak_memory: ended.rusage.maxrss });
    }
    if !ended.status.success() {
        let printed = std::fs::read_to_string(printed.path()).unwrap_or_default();
        return Err(Error::invalid(format!("`{program}` ended with {}:\n{printed}", ended.status)));
    }
    Ok(Measured { seconds, is_over, peak_memory: ended.rusage.maxrss })
}

/// The seconds that shell commands take, so many at the same time; those of each list after those of the list before.
pub(super) fn measure_commands(folder: &Path, lists: &[Vec<String>], jobs: usize) -> Result<f64> {
    let clock = Instant::now();
    for list in lists {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(text) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                let status = Command::new("sh").args(["-c", text]).current_dir(folder).status();
                if !status.map_err(Error::io("start", "sh"))?.success() {
                    return Err(Error::invalid(format!("`{text}` failed")));
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs.min(list.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })?;
    }
    Ok(clock.elapsed().as_secs_f64())
}
