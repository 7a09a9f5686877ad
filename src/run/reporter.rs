//! Renders a run's events for a person: one line a node on standard error, a live line on a terminal.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};

use super::{Event, Outcome};

/// Prints events.
#[derive(Debug)]
pub struct Reporter {
    verbose: bool,
    live: bool,
    live_line: bool,
}

impl Reporter {
    /// `verbose` prints nodes that had nothing to do, too.
    pub fn new(verbose: bool) -> Reporter {
        Reporter { verbose, live: std::io::stderr().is_terminal(), live_line: false }
    }

    /// Prints one event.
    pub fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { node } => self.live(&format!("{:>12} {node}", "RUNNING")),
            Event::Progress { node, progress } => self.live(&format!(
                "{:>12} {node}   epoch {}/{}, loss {:.3}, {:.0} images/s",
                "RUNNING", progress.epoch, progress.epochs, progress.loss, progress.images_per_second
            )),
            Event::Settled { node, outcome, position, of } => {
                let width = of.to_string().len();
                let (word, color, seconds, note) = match outcome {
                    Outcome::Done { record } => ("DONE", AnsiColor::Green, record.seconds, record.note.as_str()),
                    Outcome::Cached { .. } if !self.verbose => return,
                    Outcome::Blocked => return,
                    Outcome::Cached { .. } => ("CACHED", AnsiColor::Cyan, 0.0, ""),
                    Outcome::Failed { failure } => ("FAILED", AnsiColor::Red, failure.seconds, ""),
                };
                let style = Style::new().bold().fg_color(Some(color.into()));
                let note = if note.is_empty() { String::new() } else { format!("   {note}") };
                self.line(&format!(
                    "{style}{word:>12}{style:#} [{:>7}] ({position:>width$}/{of}) {node}{note}",
                    format!("{seconds:.1}s")
                ));
                if let Outcome::Failed { failure } = outcome {
                    self.line(&format!("{}: {}", error_word(), failure.message));
                    if let Some(hint) = &failure.hint {
                        self.line(&format!("hint: {hint}"));
                    }
                    if let Some(log) = &failure.log {
                        self.line(&format!("log: {}", log.display()));
                    }
                }
            }
            Event::Finished(summary) => {
                let blocked =
                    if summary.blocked > 0 { format!(", {} blocked", summary.blocked) } else { String::new() };
                let unreached = summary.nodes - summary.ran - summary.cached - summary.failed - summary.blocked;
                let unreached = if unreached > 0 { format!(", {unreached} not started") } else { String::new() };
                let nothing = if summary.cached == summary.nodes { ": nothing had to run" } else { "" };
                self.line(&format!(
                    "{}: {} ran, {} cached, {} failed{blocked}{unreached} in {}{nothing}",
                    nodes(summary.nodes),
                    summary.ran,
                    summary.cached,
                    summary.failed,
                    duration(summary.seconds)
                ));
            }
        }
    }

    /// A line that the next one replaces; only on a terminal.
    fn live(&mut self, text: &str) {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
            self.live_line = true;
        }
    }

    fn line(&mut self, text: &str) {
        if std::mem::take(&mut self.live_line) {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// The coloured word before an error.
pub fn error_word() -> String {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    format!("{style}error{style:#}")
}

/// `1 node`, `738 nodes`.
pub fn nodes(count: usize) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

/// `23ms`, `4.2s`, `8m 02s`, `3h 05m`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds < 0.9995 {
        format!("{:.0}ms", seconds * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1}s")
    } else if whole < 3600 {
        format!("{}m {:02}s", whole / 60, whole % 60)
    } else {
        format!("{}h {:02}m", whole / 3600, whole % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_well() {
        let cases = [
            (0.0234, "23ms"),
            (0.9999, "1.0s"),
            (4.24, "4.2s"),
            (59.96, "1m 00s"),
            (482.0, "8m 02s"),
            (11100.0, "3h 05m"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
