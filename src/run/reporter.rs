//! Renders a run's events for a person: one line per node on standard error; on a terminal also a bar for each running
//! node, and one for the run.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Event, Failure, Outcome, Summary, Warning};
use crate::task::Progress;
use crate::text::{duration, nodes, plural};

/// Prints events.
#[derive(Debug)]
pub struct Reporter {
    verbose: bool,
    /// Absent where standard error is no terminal.
    bars: Option<Bars>,
    /// When a line last said how far the hashing is.
    hashing: Option<Instant>,
}

/// What a terminal shows below the lines.
#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    run: ProgressBar,
    nodes: HashMap<String, ProgressBar>,
    hashing: Option<ProgressBar>,
}

/// How often a bar's clock moves on.
const TICK: Duration = Duration::from_millis(200);
/// How often a line says how far the hashing is, where there are no bars.
const PAUSE: Duration = Duration::from_secs(30);

impl Reporter {
    /// `verbose` prints nodes that had nothing to do, too.
    pub fn new(verbose: bool) -> Reporter {
        let bars = std::io::stderr().is_terminal().then(|| Bars::new(ProgressDrawTarget::stderr()));
        Reporter { verbose, bars, hashing: None }
    }

    /// Prints one event.
    pub fn report(&mut self, event: &Event<'_>) {
        if let Some(bars) = &mut self.bars {
            bars.show(event);
        }
        if matches!(event, Event::Hashing { .. }) {
            if self.bars.is_some() || self.hashing.is_some_and(|last| last.elapsed() < PAUSE) {
                return;
            }
            self.hashing = Some(Instant::now());
        }
        for line in self.lines(event) {
            match &self.bars {
                // The bars are moved out of the way.
                Some(bars) => bars.all.suspend(|| anstream::eprintln!("{line}")),
                None => anstream::eprintln!("{line}"),
            }
        }
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
            Event::Devices { warning, .. } => warning.map_or_else(Vec::new, |Warning { message, hint }| {
                vec![format!("{}: {message}", warning_word()), format!("hint: {hint}")]
            }),
            Event::Elsewhere { node, owner } => {
                vec![format!("{} {node}   waiting for {owner}, which computes it", word("ELSEWHERE", AnsiColor::Cyan))]
            }
            Event::Damaged { node, error } => {
                vec![format!("{} {node}   it runs again: {error}", word("DAMAGED", AnsiColor::Yellow))]
            }
            Event::Settled { node, outcome, position, of, .. } => {
                let width = of.to_string().len();
                let (status, seconds, note) = match outcome {
                    Outcome::Done { record } => (word("DONE", AnsiColor::Green), record.seconds, record.note.as_str()),
                    Outcome::Cached { .. } if !self.verbose => return Vec::new(),
                    Outcome::Cached { .. } => (word("CACHED", AnsiColor::Cyan), 0.0, ""),
                    Outcome::Failed { failure } => (word("FAILED", AnsiColor::Red), failure.seconds, ""),
                    Outcome::Blocked => return Vec::new(),
                    Outcome::Stopped => return vec![format!("{} {node}", word("STOPPED", AnsiColor::Yellow))],
                };
                let note = if note.is_empty() { String::new() } else { format!("   {note}") };
                let seconds = format!("{seconds:.1}s");
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
                        "{} waiting for {} to stop   (once more to kill)",
                        word("STOPPING", AnsiColor::Yellow),
                        nodes(*running)
                    ),
                }]
            }
            Event::Finished(summary) => summary_lines(summary),
        }
    }
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Bars {
        let all = MultiProgress::with_draw_target(target);
        let style = style("{msg:>12} [{elapsed:>7}] ({pos}/{len}) {wide_bar:.green/dim} {prefix}");
        let run = all.add(ProgressBar::new(0).with_style(style).with_message("RUNNING"));
        Bars { all, run, nodes: HashMap::new(), hashing: None }
    }

    fn show(&mut self, event: &Event<'_>) {
        if !matches!(event, Event::Hashing { .. })
            && let Some(bar) = self.hashing.take()
        {
            bar.finish_and_clear();
        }
        match event {
            Event::Hashing { read, of } => {
                let bar = self.hashing.get_or_insert_with(|| {
                    let template = "{msg:>12} [{elapsed:>7}] {wide_bar:.cyan/dim} {pos}/{len} input files";
                    let bar = ProgressBar::new(0).with_style(style(template)).with_message("HASHING");
                    self.all.insert_before(&self.run, bar)
                });
                bar.set_length(*of as u64);
                bar.set_position(*read as u64);
            }
            Event::Started { node, device } => {
                let bar = ProgressBar::new(0).with_style(style("{msg:>12} [{elapsed:>7}] {prefix}"));
                let place = device.map_or_else(String::new, |device| format!("   {device}"));
                let bar = bar.with_message("RUNNING").with_prefix(format!("{node}{place}"));
                let bar = self.all.insert_before(&self.run, bar);
                bar.enable_steady_tick(TICK);
                self.nodes.insert((*node).to_owned(), bar);
            }
            Event::Progress { node, progress } => {
                if let Some(bar) = self.nodes.get(*node) {
                    self.advance(node, bar, progress);
                }
                // Its clock goes on, too.
                self.run.tick();
            }
            Event::Settled { node, position, of, remaining, .. } => {
                if let Some(bar) = self.nodes.remove(*node) {
                    bar.finish_and_clear();
                }
                self.run.set_length(*of as u64);
                self.run.set_position(*position as u64);
                self.run
                    .set_prefix(remaining.map_or_else(String::new, |seconds| format!("{} left", duration(seconds))));
            }
            Event::Elsewhere { .. } | Event::Damaged { .. } | Event::Devices { .. } => {}
            Event::Stopping { .. } => self.run.set_message("STOPPING"),
            Event::Finished(_) => self.run.finish_and_clear(),
        }
    }

    /// Epoch, loss, speed and what is left of a training node.
    fn advance(&self, node: &str, bar: &ProgressBar, progress: &Progress) {
        if bar.length() != Some(progress.epochs as u64) {
            let template = "{msg:>12} [{elapsed:>7}] {prefix}   {wide_bar:.cyan/dim} {pos}/{len}";
            bar.set_style(style(template));
            bar.set_length(progress.epochs as u64);
        }
        bar.set_position(progress.epoch as u64);
        let per_epoch = bar.elapsed().as_secs_f64() / progress.epoch as f64;
        let left = duration(per_epoch * (progress.epochs - progress.epoch) as f64);
        let Progress { loss, images_per_second, .. } = progress;
        bar.set_prefix(format!("{node}   loss {loss:.3}, {images_per_second:.0} images/s, {left} left"));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are valid").progress_chars("##-")
}

/// A status in the first column.
fn word(text: &str, color: AnsiColor) -> String {
    let style = Style::new().bold().fg_color(Some(color.into()));
    format!("{style}{text:>12}{style:#}")
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
        "{}: {} ran, {} cached, {} failed{}{}{} in {}{nothing}",
        nodes(summary.nodes),
        summary.ran,
        summary.cached,
        summary.failed,
        some(summary.blocked, "blocked"),
        some(summary.stopped, "stopped"),
        some(summary.unreached(), "not started"),
        duration(summary.seconds)
    );
    let resume = "hint: the same command goes on from here: what is done stays, and training resumes where it stopped";
    std::iter::once(line).chain(summary.interrupted.then(|| resume.to_owned())).collect()
}

/// The coloured word before an error.
pub fn error_word() -> String {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    format!("{style}error{style:#}")
}

/// The coloured word before a warning.
pub fn warning_word() -> String {
    let style = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    format!("{style}warning{style:#}")
}

#[cfg(test)]
mod tests {
    use snapbox::{IntoData, str};

    use super::*;
    use crate::store::Record;

    fn record(note: &str) -> Record {
        Record {
            node: "train/x/seed1".to_owned(),
            note: note.to_owned(),
            seconds: 41.23,
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
        let progress = Progress { epoch: 1, epochs: 5, loss: 0.5, learning_rate: 0.1, images_per_second: 100.0 };
        let settled = |outcome| Event::Settled { node, outcome, position: 12, of: 738, remaining: Some(60.0) };
        let whole = Summary { nodes: 738, cached: 738, seconds: 0.021, ..Summary::default() };
        let ran = Summary { nodes: 738, ran: 12, cached: 726, seconds: 482.0, ..Summary::default() };
        let failed =
            Summary { nodes: 738, ran: 3, cached: 726, failed: 2, blocked: 6, seconds: 4.2, ..Summary::default() };
        let interrupted = Summary { nodes: 1, stopped: 1, interrupted: true, seconds: 4.2, ..Summary::default() };
        let devices = crate::device::Devices::cards(0, 2);
        let warning = Warning { message: "there is a card".to_owned(), hint: "use it".to_owned() };
        let events = [
            Event::Hashing { read: 120_000, of: 1_300_000 },
            Event::Devices { devices: &devices, warning: None },
            Event::Devices { devices: &devices, warning: Some(&warning) },
            Event::Started { node, device: None },
            Event::Progress { node, progress: &progress },
            Event::Elsewhere { node, owner: "process 4711 on host" },
            settled(Outcome::Done { record: &with_note }),
            settled(Outcome::Done { record: &without }),
            settled(Outcome::Cached { record: &with_note }),
            settled(Outcome::Failed { failure: &plain }),
            settled(Outcome::Failed { failure: &full }),
            settled(Outcome::Blocked),
            settled(Outcome::Stopped),
            Event::Stopping { running: 0 },
            Event::Stopping { running: 1 },
            Event::Stopping { running: 2 },
            Event::Finished(&whole),
            Event::Finished(&ran),
            Event::Finished(&failed),
            Event::Finished(&interrupted),
        ];
        let reporter = Reporter { verbose: true, bars: None, hashing: None };
        let lines: Vec<String> = events.iter().flat_map(|event| reporter.lines(event)).collect();
        let text = anstream::adapter::strip_str(&(lines.join("\n") + "\n")).to_string();
        snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).eq(
            text,
            str![[r#"
     HASHING 120000 of 1300000 input files hashed
warning: there is a card
hint: use it
   ELSEWHERE train/x/seed1   waiting for process 4711 on host, which computes it
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
    STOPPING waiting for 1 node to stop   (once more to kill)
    STOPPING waiting for 2 nodes to stop   (once more to kill)
738 nodes: 0 ran, 738 cached, 0 failed in 21ms: nothing had to run
738 nodes: 12 ran, 726 cached, 0 failed in 8m 02s
738 nodes: 3 ran, 726 cached, 2 failed, 6 blocked, 1 not started in 4.2s
1 node: 0 ran, 0 cached, 0 failed, 1 stopped in 4.2s
hint: the same command goes on from here: what is done stays, and training resumes where it stopped

"#]]
            .into_data()
            .raw(),
        );
        let quiet = Reporter { verbose: false, bars: None, hashing: None };
        assert!(quiet.lines(&settled(Outcome::Cached { record: &without })).is_empty());
    }

    /// What a terminal shows is drawn without a mistake in the templates, whatever comes in whatever order.
    #[test]
    fn bars_take_every_event() {
        let mut bars = Bars::new(ProgressDrawTarget::hidden());
        let node = "train/x/seed1";
        let done = record("");
        let progress = |epoch| Progress { epoch, epochs: 2, loss: 0.5, learning_rate: 0.1, images_per_second: 100.0 };
        bars.show(&Event::Hashing { read: 1, of: 2 });
        assert_eq!(bars.hashing.as_ref().map(|bar| (bar.position(), bar.length())), Some((1, Some(2))));
        bars.show(&Event::Progress { node, progress: &progress(1) });
        assert!(bars.hashing.is_none());
        bars.show(&Event::Started { node, device: Some(crate::device::Device::Cuda(1)) });
        assert_eq!(bars.nodes[node].prefix(), "train/x/seed1   cuda:1");
        bars.show(&Event::Progress { node, progress: &progress(1) });
        assert_eq!((bars.nodes[node].position(), bars.nodes[node].length()), (1, Some(2)));
        assert!(bars.nodes[node].prefix().starts_with("train/x/seed1   loss 0.500, 100 images/s, "));
        let outcome = Outcome::Done { record: &done };
        bars.show(&Event::Settled { node, outcome, position: 1, of: 3, remaining: Some(90.0) });
        assert!(bars.nodes.is_empty());
        assert_eq!((bars.run.position(), bars.run.length()), (1, Some(3)));
        assert_eq!(bars.run.prefix(), "1m 30s left");
        bars.show(&Event::Stopping { running: 1 });
        bars.show(&Event::Finished(&Summary::default()));
        assert!(bars.run.is_finished());
    }
}
