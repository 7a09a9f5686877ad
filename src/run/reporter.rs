//! Renders a run's events for a person: one line per node on standard error; on a terminal also rows that show what runs.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::rows::Rows;
use super::{Event, Failure, Outcome, Summary, Warning};
use crate::terminal::{bars, error_word, is_interactive, say, size, warning_word};
use crate::text::{duration, nodes, plural};

/// Prints events.
#[derive(Debug)]
pub struct Reporter {
    verbose: bool,
    /// What runs now.
    rows: Arc<Mutex<Rows>>,
    /// Draws the rows; absent where standard error is no terminal.
    screen: Option<ProgressBar>,
    /// When a line last said how far a node, or the hashing, is.
    said: HashMap<String, Instant>,
}

/// How often the rows are drawn.
const TICK: Duration = Duration::from_millis(200);
/// How often a line says how far a node is, at most, where there are no rows.
const PAUSE: Duration = Duration::from_secs(60);
/// How often a line says how far the hashing is.
const HASHING_PAUSE: Duration = Duration::from_secs(30);
/// The hashing and the sharing among the nodes: no node has these names.
const HASHING: &str = "";
const SHARING: &str = " ";

impl Reporter {
    /// Reports a run of so many nodes. `verbose` prints nodes that had nothing to do, too.
    pub fn new(verbose: bool, nodes: usize) -> Reporter {
        let rows = Arc::new(Mutex::new(Rows::new(nodes, Instant::now())));
        let screen = is_interactive().then(|| screen(rows.clone()));
        // What a remote does within a minute is said by the last line.
        let said = [(SHARING.to_owned(), Instant::now())].into();
        Reporter { verbose, rows, screen, said }
    }

    /// Prints one event.
    pub fn report(&mut self, event: &Event<'_>) {
        let lines = self.lines_at(event, Instant::now());
        let print = || lines.iter().for_each(|line| say(line));
        match &self.screen {
            Some(screen) if matches!(event, Event::Finished(_)) => {
                screen.finish_and_clear();
                print();
            }
            // The rows are moved out of the way.
            Some(screen) if !lines.is_empty() => screen.suspend(print),
            Some(screen) => screen.tick(),
            None => print(),
        }
    }

    /// What an event, which happens now, adds to the lines that stay.
    fn lines_at(&mut self, event: &Event<'_>, now: Instant) -> Vec<String> {
        lock(&self.rows).apply(event, now);
        match event {
            // They are in the rows.
            Event::Progress { .. } | Event::Hashing { .. } | Event::Sharing(_) | Event::Elsewhere { .. }
                if self.screen.is_some() =>
            {
                Vec::new()
            }
            Event::Hashing { .. } if !self.is_due(HASHING, HASHING_PAUSE, now) => Vec::new(),
            Event::Sharing(_) if !self.is_due(SHARING, PAUSE, now) => Vec::new(),
            Event::Progress { node, .. } if self.is_due(node, PAUSE, now) => {
                lock(&self.rows).line(node, now).into_iter().collect()
            }
            Event::Started { node, .. } => {
                self.said.insert((*node).to_owned(), now);
                Vec::new()
            }
            Event::Settled { node, .. } => {
                self.said.remove(*node);
                self.lines(event)
            }
            event => self.lines(event),
        }
    }

    /// Whether the last line about something is older than `pause`, or there is none; then there is one now.
    fn is_due(&mut self, what: &str, pause: Duration, now: Instant) -> bool {
        if self.said.get(what).is_some_and(|last| now.duration_since(*last) < pause) {
            return false;
        }
        self.said.insert(what.to_owned(), now);
        true
    }

    /// What an event says for good.
    fn lines(&self, event: &Event<'_>) -> Vec<String> {
        match event {
            Event::Started { .. } | Event::Progress { .. } => Vec::new(),
            Event::Hashing { read, of } => {
                vec![format!(
                    "{} {read} of {} hashed",
                    word("HASHING", AnsiColor::Cyan),
                    plural(*of, "input file", "input files")
                )]
            }
            Event::Sharing(traffic) => vec![format!("{} {traffic}", word("SHARING", AnsiColor::Cyan))],
            Event::Devices { warning, .. } => warning.map_or_else(Vec::new, warning_lines),
            Event::Warning(warning) => warning_lines(warning),
            Event::Elsewhere { node, owner } => {
                vec![format!("{} {node}   waiting for {owner}, which computes it", word("ELSEWHERE", AnsiColor::Cyan))]
            }
            Event::Damaged { node, error } => {
                vec![format!("{} {node}   it runs again: {error}", word("DAMAGED", AnsiColor::Yellow))]
            }
            Event::Submitted { nodes: names, jobs, job, before } => {
                let before = if *before { " before" } else { "" };
                let in_jobs = if *jobs > 1 { format!(", in {jobs} jobs") } else { String::new() };
                let names = match names {
                    [name] => (*name).to_owned(),
                    names => nodes(names.len()),
                };
                vec![format!("{} {names}{before}   {job}{in_jobs}", word("SUBMITTED", AnsiColor::Cyan))]
            }
            Event::Again { node, message } => {
                vec![format!("{} {node}   it is submitted again: {message}", word("AGAIN", AnsiColor::Yellow))]
            }
            Event::Silent { queue, error } => {
                vec![format!(
                    "{} {queue} does not answer; it is asked again: {error}",
                    word("SILENT", AnsiColor::Yellow)
                )]
            }
            Event::Crowded { node, message } => {
                vec![format!(
                    "{} {node}   it runs again alone on its device: {message}",
                    word("CROWDED", AnsiColor::Yellow)
                )]
            }
            Event::Settled { node, outcome, seconds, position, of, .. } => {
                let width = of.to_string().len();
                let (status, note) = match outcome {
                    Outcome::Done { record } => (word("DONE", AnsiColor::Green), record.note.as_str()),
                    Outcome::Cached { .. } if !self.verbose => return Vec::new(),
                    Outcome::Cached { .. } => (word("CACHED", AnsiColor::Cyan), ""),
                    Outcome::Failed { .. } => (word("FAILED", AnsiColor::Red), ""),
                    Outcome::Blocked => return Vec::new(),
                    Outcome::Stopped => return vec![format!("{} {node}", word("STOPPED", AnsiColor::Yellow))],
                };
                let note = if note.is_empty() { String::new() } else { format!("   {note}") };
                let seconds = format!("{:.1}s", seconds.unwrap_or(0.0));
                let mut lines = vec![format!("{status} [{seconds:>7}] ({position:>width$}/{of}) {node}{note}")];
                if let Outcome::Failed { failure } = outcome {
                    lines.extend(failure_lines(failure));
                }
                lines
            }
            Event::Stopping { running } => {
                vec![match running {
                    0 => word("STOPPING", AnsiColor::Yellow),
                    _ => format!(
                        "{} waiting for {}   (once more to kill)",
                        word("STOPPING", AnsiColor::Yellow),
                        nodes(*running)
                    ),
                }]
            }
            Event::Finished(summary) => summary_lines(summary),
        }
    }
}

/// Draws the rows on the terminal, again and again.
fn screen(rows: Arc<Mutex<Rows>>) -> ProgressBar {
    let draw = move |_: &ProgressState, text: &mut dyn Write| {
        let (columns, lines) = size();
        let lines = lock(&rows).lines(Instant::now(), columns.into(), lines.into());
        let _ = text.write_str(&lines.join("\n"));
    };
    let style = ProgressStyle::with_template("{rows}").expect("the template is valid").with_key("rows", draw);
    let screen = ProgressBar::with_draw_target(None, bars()).with_style(style);
    screen.enable_steady_tick(TICK);
    screen
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A status in the first column.
fn word(text: &str, color: AnsiColor) -> String {
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{text:>12}{style:#}")
}

fn warning_lines(Warning { message, hint }: &Warning) -> Vec<String> {
    vec![format!("{}: {message}", warning_word()), format!("hint: {hint}")]
}

fn failure_lines(failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", error_word(), failure.message)];
    lines.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
    lines.extend(failure.log.iter().map(|log| format!("log: {}", log.display())));
    lines
}

fn summary_lines(summary: &Summary) -> Vec<String> {
    let some = |count: usize, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let nothing = if summary.cached == summary.nodes { ": nothing had to run" } else { "" };
    let line = format!(
        "{}: {} ran, {} cached, {} failed{}{}{}{} in {}{nothing}",
        nodes(summary.nodes),
        summary.ran,
        summary.cached,
        summary.failed,
        some(summary.blocked, "blocked"),
        some(summary.stopped, "stopped"),
        some(summary.in_jobs, "in jobs that go on"),
        some(summary.unreached(), "not started"),
        duration(summary.seconds)
    );
    let resume = "hint: the same command goes on from here, training included";
    let remote = summary.remote.as_ref().map(ToString::to_string);
    std::iter::once(line).chain(remote).chain(summary.interrupted.then(|| resume.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use snapbox::{IntoData, str};

    use super::*;
    use crate::remote::Traffic;
    use crate::store::Record;
    use crate::task::Progress;

    fn record(note: &str) -> Record {
        Record {
            node: "train/x/seed1".to_owned(),
            note: note.to_owned(),
            // What it took without storing.
            seconds: 12.0,
            ..Record::example(&serde_json::json!({}))
        }
    }

    #[test]
    fn every_line() {
        let node = "train/x/seed1";
        let (with_note, without) = (record("loss 0.412"), record(""));
        let plain = Failure::new(None, &crate::error::Error::invalid("the loss is NaN"));
        let full = Failure {
            seconds: 3.0,
            log: Some("logs/train.log".into()),
            ..Failure::new(None, &crate::error::Error::hinted("its worker ended with signal: 9", "try `--jobs 1`"))
        };
        let settled =
            |outcome, seconds| Event::Settled { node, outcome, seconds, position: 12, of: 738, remaining: Some(60.0) };
        let whole = Summary { nodes: 738, cached: 738, seconds: 0.021, ..Summary::default() };
        let ran = Summary { nodes: 738, ran: 12, cached: 726, seconds: 482.0, ..Summary::default() };
        let failed =
            Summary { nodes: 738, ran: 3, cached: 726, failed: 2, blocked: 6, seconds: 4.2, ..Summary::default() };
        let interrupted = Summary { nodes: 1, stopped: 1, interrupted: true, seconds: 4.2, ..Summary::default() };
        let devices = crate::device::Devices::one(crate::device::Device::Cpu, 2);
        let warning = Warning { message: "there is a card".to_owned(), hint: "use it".to_owned() };
        let remote = "s3://team/maple".to_owned();
        let traffic = Traffic { remote, pulled: 1, pulled_bytes: 1_200_000, requests: 20, ..Traffic::default() };
        let events = [
            Event::Hashing { read: 120_000, of: 1_300_000 },
            Event::Sharing(&traffic),
            Event::Devices { devices: &devices, warning: None },
            Event::Devices { devices: &devices, warning: Some(&warning) },
            Event::Started { node, device: None, job: None },
            Event::Elsewhere { node, owner: "process 4711 on host" },
            Event::Submitted { nodes: &[node], jobs: 1, job: "Slurm job 17", before: false },
            Event::Submitted { nodes: &[node, "a", "b"], jobs: 2, job: "Slurm job 18", before: false },
            Event::Submitted { nodes: &[node], jobs: 1, job: "Slurm job 17_0", before: true },
            Event::Again { node, message: "Slurm job 17_0 ran out of time" },
            settled(Outcome::Done { record: &with_note }, Some(41.23)),
            settled(Outcome::Done { record: &without }, Some(41.23)),
            settled(Outcome::Cached { record: &with_note }, None),
            settled(Outcome::Failed { failure: &plain }, None),
            settled(Outcome::Failed { failure: &full }, Some(3.0)),
            settled(Outcome::Blocked, None),
            settled(Outcome::Stopped, Some(3.0)),
            Event::Stopping { running: 0 },
            Event::Stopping { running: 1 },
            Event::Stopping { running: 2 },
            Event::Finished(&whole),
            Event::Finished(&ran),
            Event::Finished(&failed),
            Event::Finished(&interrupted),
        ];
        let reporter = silent(true);
        let lines: Vec<String> = events.iter().flat_map(|event| reporter.lines(event)).collect();
        let text = anstream::adapter::strip_str(&(lines.join("\n") + "\n")).to_string();
        snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).eq(
            text,
            str![[r#"
     HASHING 120000 of 1300000 input files hashed
     SHARING remote s3://team/maple: 1 result pulled (1.2 MB), 20 requests
warning: there is a card
hint: use it
   ELSEWHERE train/x/seed1   waiting for process 4711 on host, which computes it
   SUBMITTED train/x/seed1   Slurm job 17
   SUBMITTED 3 nodes   Slurm job 18, in 2 jobs
   SUBMITTED train/x/seed1 before   Slurm job 17_0
       AGAIN train/x/seed1   it is submitted again: Slurm job 17_0 ran out of time
        DONE [  41.2s] ( 12/738) train/x/seed1   loss 0.412
        DONE [  41.2s] ( 12/738) train/x/seed1
      CACHED [   0.0s] ( 12/738) train/x/seed1
      FAILED [   0.0s] ( 12/738) train/x/seed1
error: the loss is NaN
      FAILED [   3.0s] ( 12/738) train/x/seed1
error: its worker ended with signal: 9
hint: try `--jobs 1`
log: logs/train.log
     STOPPED train/x/seed1
    STOPPING
    STOPPING waiting for 1 node   (once more to kill)
    STOPPING waiting for 2 nodes   (once more to kill)
738 nodes: 0 ran, 738 cached, 0 failed in 21ms: nothing had to run
738 nodes: 12 ran, 726 cached, 0 failed in 8m 02s
738 nodes: 3 ran, 726 cached, 2 failed, 6 blocked, 1 not started in 4.2s
1 node: 0 ran, 0 cached, 0 failed, 1 stopped in 4.2s
hint: the same command goes on from here, training included

"#]]
            .into_data()
            .raw(),
        );
        let quiet = silent(false);
        assert!(quiet.lines(&settled(Outcome::Cached { record: &without }, None)).is_empty());
    }

    /// Without a terminal.
    fn silent(verbose: bool) -> Reporter {
        let rows = Arc::new(Mutex::new(Rows::new(738, Instant::now())));
        Reporter { verbose, rows, screen: None, said: HashMap::new() }
    }

    /// The lines that a node of so many epochs leaves where there is no terminal, each epoch taking so many seconds.
    fn lines_of(epochs: usize, each: f64) -> Vec<String> {
        let (mut reporter, node, start) = (silent(false), "train/x/seed1", Instant::now());
        let mut lines = reporter.lines_at(&Event::Started { node, device: None, job: None }, start);
        for epoch in 1..=epochs {
            let progress = Progress::Epoch { epoch, epochs, loss: 0.5, learning_rate: 0.1, images_per_second: 100.0 };
            let now = start + Duration::from_secs_f64(each * epoch as f64);
            lines.extend(reporter.lines_at(&Event::Progress { node, progress: &progress }, now));
        }
        lines
    }

    #[test]
    fn without_a_terminal_a_long_node_leaves_a_line_a_minute_or_an_epoch_whichever_is_rarer() {
        assert!(lines_of(59, 1.0).is_empty());
        assert_eq!(
            lines_of(200, 1.0),
            [
                "     RUNNING [ 1m 00s] train/x/seed1   epoch 60/200, 2m 20s left, loss 0.500, 100 images/s",
                "     RUNNING [ 2m 00s] train/x/seed1   epoch 120/200, 1m 20s left, loss 0.500, 100 images/s",
                "     RUNNING [ 3m 00s] train/x/seed1   epoch 180/200, 20s left, loss 0.500, 100 images/s",
            ]
        );
        let slow = lines_of(3, 7200.0);
        assert_eq!(
            slow,
            [
                "     RUNNING [ 2h 00m] train/x/seed1   epoch 1/3, 4h 00m left, loss 0.500, 100 images/s",
                "     RUNNING [ 4h 00m] train/x/seed1   epoch 2/3, 2h 00m left, loss 0.500, 100 images/s",
                "     RUNNING [ 6h 00m] train/x/seed1   epoch 3/3, loss 0.500, 100 images/s",
            ]
        );
    }

    #[test]
    fn hashing_leaves_a_line_now_and_then() {
        let (mut reporter, start) = (silent(false), Instant::now());
        let mut lines_at =
            |seconds| reporter.lines_at(&Event::Hashing { read: 1, of: 2 }, start + Duration::from_secs(seconds)).len();
        assert_eq!([0, 1, 29, 30, 31, 60].map(&mut lines_at), [1, 0, 0, 1, 0, 1]);
    }
}
