//! Runs processes and measures them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use wait4::Wait4;

use crate::error::{Error, Result};

/// What a process took.
pub(super) struct Measured {
    pub seconds: f64,
    /// Bytes.
    pub peak_memory: u64,
}

/// Runs a process to its end.
///
/// # Errors
/// It cannot be started, or fails: then with what it printed.
pub(super) fn measure(command: &mut Command) -> Result<Measured> {
    let program = command.get_program().to_string_lossy().into_owned();
    let printed = tempfile::NamedTempFile::new().map_err(Error::io("write in", std::env::temp_dir()))?;
    let open = || File::options().append(true).open(printed.path()).map_err(Error::io("write", printed.path()));
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    let clock = Instant::now();
    let mut child = command.spawn().map_err(Error::io("start", &program))?;
    let ended = child.wait4().map_err(Error::io("wait for", &program))?;
    let seconds = clock.elapsed().as_secs_f64();
    if !ended.status.success() {
        let printed = std::fs::read_to_string(printed.path()).unwrap_or_default();
        return Err(Error::invalid(format!("`{program}` ended with {}:\n{printed}", ended.status)));
    }
    Ok(Measured { seconds, peak_memory: ended.rusage.maxrss })
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
