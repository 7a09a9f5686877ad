//! What a node's process prints.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::files::create_parent;
use crate::task::Progress;
use crate::text::last_written;

/// An empty log, opened twice: for what a process prints, and for its errors. Whoever writes to it adds to its end.
pub(super) fn log_file(path: &Path) -> Result<(File, File)> {
    create_parent(path)?;
    let empty = OFlags::TRUNC.bits().cast_signed();
    let file = File::options().append(true).create(true).custom_flags(empty).open(path);
    let file = file.map_err(Error::io("write", path))?;
    let again = file.try_clone().map_err(Error::io("open", path))?;
    Ok((file, again))
}

/// How many lines of a log a message shows, of how many characters each, and how much of the log is read for them.
const LINES: usize = 10;
const WIDTH: usize = 300;
const READ: u64 = 16 << 10;

/// How a process ended that did not do its work.
pub(super) fn ended(what: &str, status: ExitStatus, log: &Path) -> String {
    format!("{what} ended with {status}{}", tail(log))
}

/// The last lines of a log, for a message.
pub fn tail(log: &Path) -> String {
    last_lines(log).unwrap_or_default().iter().map(|line| format!("\n  | {line}")).collect()
}

/// The last lines of a log, as a terminal would leave them; long ones are cut, and so is one whose start was not read.
fn last_lines(log: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(READ);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(READ).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| Progress::of_line(line).is_none()).collect();
    let first = lines.len().saturating_sub(LINES);
    let shown = |(number, line): (usize, &&str)| {
        let line = last_written(line);
        let before = if start > 0 && number == 0 { "..." } else { "" };
        let mut cut: String = line.chars().take(WIDTH).collect();
        if cut.len() < line.len() {
            cut += "...";
        }
        format!("{before}{cut}")
    };
    Ok(lines.iter().enumerate().skip(first).map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, text).unwrap();
        last_lines(&log).unwrap()
    }

    #[test]
    fn shows_the_last_lines_whatever_they_are() {
        assert!(lines_of(b"").is_empty());
        assert_eq!(lines_of(b"caf\xe9\nRuntimeError: out of memory\n"), ["caf�", "RuntimeError: out of memory"]);
        assert_eq!(lines_of(b"1%\r50%\r100%\nerror\r\n"), ["100%", "error"]);
        let twelve: String = (1..=12).map(|number| format!("{number}\n")).collect();
        assert_eq!(lines_of(twelve.as_bytes()), (3..=12).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn shows_no_more_than_fits_a_message() {
        let long = |count| "y".repeat(count);
        assert_eq!(lines_of(format!("a\n{}", long(301)).as_bytes()), ["a".to_owned(), long(300) + "..."]);
        // Nothing tells how the line begins.
        assert_eq!(lines_of(long(1 << 20).as_bytes()), [format!("...{}...", long(300))]);
        let bars = format!("{}\r99%\nout of memory\n", long(1 << 20));
        assert_eq!(lines_of(bars.as_bytes()), ["...99%", "out of memory"]);
        let umlauts = "ä".repeat(1 << 16);
        assert_eq!(lines_of(umlauts.as_bytes()).len(), 1);
    }
}
