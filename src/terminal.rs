//! What both programs print. Nothing else writes to standard output or standard error; `clippy.toml` sees to it.
//!
//! Standard error is for people. What cannot be written there, because the terminal is gone or the disk is full, is dropped: no
//! work ends because nobody reads of it. Standard output is for data: what cannot be written there is an error, unless its
//! reader has had enough.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressDrawTarget, TermLike};

use crate::error::{Error, Result};

/// Prints a line to standard error, if anybody can read it.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    // In one piece: what leaves out the escape sequences would write the rest piece by piece.
    let line = match AutoStream::choice(&std::io::stderr()) {
        ColorChoice::Never => strip_str(&line).to_string(),
        _ => line,
    };
    let _ = anstream::stderr().write_all(line.as_bytes());
}

/// Says what is amiss, but no reason to stop.
pub fn warn(message: &str) {
    say(&format!("{}: {message}", warning_word()));
}

/// Prints to standard output. A reader that has gone away, such as `head`, is no mistake.
///
/// # Errors
/// What prevents it from being written.
pub fn print(text: &str) -> Result<()> {
    let mut output = anstream::stdout();
    written(output.write_all(text.as_bytes()).and_then(|()| output.flush()))
}

/// The same, byte by byte: escape sequences stay, also where nobody obeys them.
///
/// # Errors
/// What prevents it from being written.
pub fn print_raw(bytes: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    written(output.write_all(bytes).and_then(|()| output.flush()))
}

fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("write", "standard output")(error)),
        _ => Ok(()),
    }
}

/// The coloured word before an error.
pub fn error_word() -> String {
    coloured("error", AnsiColor::Red)
}

/// The coloured word before a warning.
pub fn warning_word() -> String {
    coloured("warning", AnsiColor::Yellow)
}

fn coloured(word: &str, color: AnsiColor) -> String {
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{word}{style:#}")
}

/// Where bars are drawn: on standard error, if that is a terminal which can move its cursor.
pub fn bars() -> ProgressDrawTarget {
    /// Drawings a second, at most.
    const RATE: u8 = 20;
    if is_interactive() {
        ProgressDrawTarget::term_like_with_hz(Box::<Screen>::default(), RATE)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Whether somebody may look at bars.
pub fn is_interactive() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// The columns and lines of the terminal that standard error is.
pub fn size() -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    let (columns, lines) = size.map_or((0, 0), |size| (size.ws_col, size.ws_row));
    // A terminal that does not know its size is as large as they were once.
    (if columns == 0 { 80 } else { columns }, if lines == 0 { 24 } else { lines })
}

/// A terminal on standard error, which is written to as [`say`] does; each drawing goes out whole.
#[derive(Debug, Default)]
struct Screen(Mutex<Vec<u8>>);

impl Screen {
    fn add(&self, text: impl AsRef<str>) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(text.as_ref().bytes());
        Ok(())
    }

    fn go(&self, count: usize, direction: char) -> std::io::Result<()> {
        if count > 0 { self.add(format!("\x1b[{count}{direction}")) } else { Ok(()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size().0
    }

    fn height(&self) -> u16 {
        size().1
    }

    fn move_cursor_up(&self, count: usize) -> std::io::Result<()> {
        self.go(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> std::io::Result<()> {
        self.go(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> std::io::Result<()> {
        self.go(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> std::io::Result<()> {
        self.go(count, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.add("\r\x1b[2K")
    }

    /// Leaves the cursor at the start of the last line: behind its end, the `^C` of an interrupt would begin a line that nobody
    /// knows of, and what is drawn next would miss its place by that line.
    fn flush(&self) -> std::io::Result<()> {
        self.add("\r")?;
        let drawn = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = std::io::stderr().write_all(&drawn);
        Ok(())
    }
}
