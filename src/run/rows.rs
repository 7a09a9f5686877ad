//! What a run does now, as rows that fit a terminal: one for each node that runs here or elsewhere, and one for the run.
//! All of them count by one clock, so that they move on together.

use std::time::Instant;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Event, Outcome};
use crate::task::Progress;
use crate::text::clock;

/// The rows.
#[derive(Debug)]
pub(super) struct Rows {
    started: Instant,
    /// What is waited for beside nodes: a word, and how far it is.
    waiting: Option<(&'static str, String)>,
    nodes: Vec<Row>,
    ended: usize,
    of: usize,
    left: Option<Left>,
    is_stopping: bool,
}

/// One node.
#[derive(Debug)]
struct Row {
    word: &'static str,
    node: String,
    /// Where it computes, or who computes it.
    place: Option<String>,
    started: Instant,
    /// Its first progress: when that was, and how far.
    first: Option<(Instant, usize)>,
    progress: Option<Progress>,
    left: Option<Left>,
}

/// How many seconds something will still take, as it seemed at a moment.
#[derive(Clone, Copy, Debug)]
struct Left {
    seconds: f64,
    at: Instant,
}

/// What a row shows of a name at least.
const SHORTEST_NAME: usize = 12;
/// What a bar is wide at least.
const SHORTEST_BAR: usize = 6;

impl Rows {
    /// A run of so many nodes that begins now.
    pub(super) fn new(of: usize, now: Instant) -> Rows {
        Rows { started: now, waiting: None, nodes: Vec::new(), ended: 0, of, left: None, is_stopping: false }
    }

    /// Takes note of an event.
    pub(super) fn apply(&mut self, event: &Event<'_>, now: Instant) {
        self.waiting = None;
        match event {
            Event::Hashing { read, of } => self.waiting = Some(("HASHING", format!("{read}/{of} input files"))),
            Event::Sharing(traffic) => self.waiting = Some(("SHARING", traffic.to_string())),
            Event::Started { node, device, job } => {
                let place = job.map(str::to_owned).or_else(|| device.map(|device| device.to_string()));
                self.begin("RUNNING", node, place, now)
            }
            Event::Elsewhere { node, owner } => self.begin("ELSEWHERE", node, Some((*owner).to_owned()), now),
            Event::Progress { node, progress } => {
                if let Some(row) = self.nodes.iter_mut().find(|row| row.node == *node) {
                    row.advance(progress, now);
                }
            }
            Event::Settled { node, outcome, position, remaining, .. } => {
                self.nodes.retain(|row| row.node != *node);
                self.ended = *position;
                // What runs while the run stops says nothing of the rest.
                if !matches!(outcome, Outcome::Stopped) {
                    self.left = remaining.map(|seconds| Left { seconds, at: now });
                }
            }
            Event::Crowded { node, .. } | Event::Again { node, .. } => self.nodes.retain(|row| row.node != *node),
            Event::Stopping { .. } => self.is_stopping = true,
            Event::Damaged { .. }
            | Event::Devices { .. }
            | Event::Submitted { .. }
            | Event::Silent { .. }
            | Event::Warning(_)
            | Event::Finished(_) => {}
        }
    }

    fn begin(&mut self, word: &'static str, node: &str, place: Option<String>, now: Instant) {
        self.nodes.retain(|row| row.node != *node);
        let (node, started) = (node.to_owned(), now);
        self.nodes.push(Row { word, node, place, started, first: None, progress: None, left: None });
    }

    /// The rows of a terminal of this size, none wider than it and no more than it has lines.
    pub(super) fn lines(&self, now: Instant, width: usize, height: usize) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((word, text)) = &self.waiting {
            lines.push(fitted(&self.head(word, self.started, now), text, &[], width));
        }
        // One line for what is above, one for the run, one for what does not fit.
        let room = height.saturating_sub(3).max(1);
        let shown = if self.nodes.len() > room { room - 1 } else { self.nodes.len() };
        lines.extend(self.nodes[..shown].iter().map(|row| self.node(row, now, width)));
        if shown < self.nodes.len() {
            lines.push(fitted(&" ".repeat(13), &format!("and {} more", self.nodes.len() - shown), &[], width));
        }
        lines.push(self.run(now, width));
        lines
    }

    /// What is known of a running node, in a line as long as it needs.
    pub(super) fn line(&self, node: &str, now: Instant) -> Option<String> {
        let row = self.nodes.iter().find(|row| row.node == node)?;
        Some(self.node(row, now, usize::MAX))
    }

    fn node(&self, row: &Row, now: Instant, width: usize) -> String {
        fitted(&self.head(row.word, row.started, now), &row.node, &row.parts(now), width)
    }

    fn run(&self, now: Instant, width: usize) -> String {
        let head = self.head(if self.is_stopping { "STOPPING" } else { "RUNNING" }, self.started, now);
        let left = self.left.filter(|_| !self.is_stopping).and_then(|left| left.words(now));
        let count = format!("({}/{})", self.ended, self.of);
        let left_width = left.as_ref().map_or(0, |left| left.width() + 1);
        let bar = width.saturating_sub(head.width() + count.width() + 1 + left_width);
        if bar < SHORTEST_BAR {
            return fitted(&head, &count, left.as_slice(), width);
        }
        let done = bar * self.ended / self.of.max(1);
        let bar = format!("{}{}", "#".repeat(done), "-".repeat(bar - done));
        [format!("{head}{count}"), bar].into_iter().chain(left).collect::<Vec<_>>().join(" ")
    }

    /// A word and a time. Seconds begin at the same moments in all rows.
    fn head(&self, word: &str, since: Instant, now: Instant) -> String {
        let of_run = |moment: Instant| moment.duration_since(self.started).as_secs();
        format!("{word:>12} [{:>7}] ", clock(of_run(now) - of_run(since).min(of_run(now))))
    }
}

impl Row {
    fn advance(&mut self, progress: &Progress, now: Instant) {
        let (since, done) = match self.first {
            Some((at, done)) => (at, progress.done().saturating_sub(done)),
            // A training may go on from an epoch of an earlier run.
            None => (self.started, if let Progress::Epoch { .. } = progress { 1 } else { progress.done() }),
        };
        self.first.get_or_insert((now, progress.done()));
        if done > 0 {
            let each = now.duration_since(since).as_secs_f64() / done as f64;
            let seconds = each * progress.of().saturating_sub(progress.done()) as f64;
            self.left = Some(Left { seconds, at: now });
        }
        self.progress = Some(progress.clone());
    }

    /// What stands behind the name, what matters most first.
    fn parts(&self, now: Instant) -> Vec<String> {
        let left = self.left.and_then(|left| left.words(now));
        let (at, rest) = match &self.progress {
            None => (None, Vec::new()),
            Some(Progress::Epoch { epoch, epochs, loss, images_per_second, .. }) => {
                let rest = vec![format!("loss {loss:.3}"), format!("{images_per_second:.0} images/s")];
                (Some(format!("epoch {epoch}/{epochs}")), rest)
            }
            Some(Progress::Images { done, of, images_per_second }) => {
                (Some(format!("{done}/{of} images")), vec![format!("{images_per_second:.0} images/s")])
            }
        };
        at.into_iter().chain(left).chain(rest).chain(self.place.clone()).collect()
    }
}

impl Left {
    /// `2m 05s left`, in whole seconds; nothing when that time is over.
    fn words(&self, now: Instant) -> Option<String> {
        let seconds = (self.seconds - now.duration_since(self.at).as_secs_f64()).round();
        (seconds >= 1.0).then(|| format!("{} left", clock(seconds as u64)))
    }
}

/// A row that fits: the last of the parts give way first, then the middle of the name, then the first part.
fn fitted(head: &str, name: &str, parts: &[String], width: usize) -> String {
    let room = width.saturating_sub(head.width());
    let behind = |count: usize| if count == 0 { String::new() } else { format!("   {}", parts[..count].join(", ")) };
    let fits = |count: &usize| name.width() + behind(*count).width() <= room;
    let count = (0..=parts.len()).rev().find(fits).unwrap_or(0);
    let behind = if count == 0 && room >= SHORTEST_NAME + behind(parts.len().min(1)).width() {
        behind(parts.len().min(1))
    } else {
        behind(count)
    };
    let name = shortened(name, room - behind.width().min(room));
    let row = format!("{head}{name}{behind}");
    if row.width() <= width { row } else { start(&row, width) }
}

/// The start and the end of a text, which are what tells names from each other.
fn shortened(text: &str, width: usize) -> String {
    const GAP: &str = "...";
    if text.width() <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(GAP.len()) else { return start(text, width) };
    let reversed = |text: &str| text.chars().rev().collect::<String>();
    let end = reversed(&start(&reversed(text), kept.div_ceil(2)));
    format!("{}{GAP}{end}", start(text, kept / 2))
}

/// As much of a text as fits.
fn start(text: &str, width: usize) -> String {
    let mut used = 0;
    let fits = |character: &char| {
        used += character.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::device::Device;

    const NODE: &str = "train/shapes/maple/seed8";

    fn epoch(epoch: usize) -> Progress {
        Progress::Epoch { epoch, epochs: 12, loss: 0.7481, learning_rate: 0.0035, images_per_second: 396.4 }
    }

    /// The rows of a run in which a training, an evaluation and a node elsewhere go on, and how many seconds it is old.
    fn example() -> (Rows, Instant) {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut rows = Rows::new(15, start);
        let outcome = Outcome::Blocked;
        let settled =
            Event::Settled { node: "clip", outcome, seconds: None, position: 6, of: 15, remaining: Some(300.0) };
        rows.apply(&settled, at(10.0));
        rows.apply(&Event::Started { node: NODE, device: Some(Device::Cuda(1)), job: None }, at(10.4));
        rows.apply(&Event::Started { node: "eval/shapes/maple/seed1/novel", device: None, job: None }, at(20.9));
        rows.apply(
            &Event::Elsewhere { node: "features/shapes", owner: "process 4711 on a-host-with-a-long-name" },
            at(30.0),
        );
        rows.apply(&Event::Progress { node: NODE, progress: &epoch(3) }, at(20.4));
        rows.apply(&Event::Progress { node: NODE, progress: &epoch(4) }, at(40.4));
        let images = Progress::Images { done: 400, of: 2000, images_per_second: 100.0 };
        rows.apply(&Event::Progress { node: "eval/shapes/maple/seed1/novel", progress: &images }, at(24.9));
        (rows, start)
    }

    #[test]
    fn rows_say_as_much_as_fits_and_what_matters_most_first() {
        let (rows, start) = example();
        let shown = |width| rows.lines(start + Duration::from_secs_f64(86.2), width, 24);
        assert_eq!(
            shown(200)[..3],
            [
                "     RUNNING [ 1m 16s] train/shapes/maple/seed8   epoch 4/12, 1m 54s left, loss 0.748, 396 images/s, cuda:1",
                "     RUNNING [ 1m 06s] eval/shapes/maple/seed1/novel   400/2000 images, 100 images/s",
                "   ELSEWHERE [    56s] features/shapes   process 4711 on a-host-with-a-long-name",
            ]
        );
        assert_eq!(
            shown(80),
            [
                "     RUNNING [ 1m 16s] train/shapes/maple/seed8   epoch 4/12, 1m 54s left",
                "     RUNNING [ 1m 06s] eval/shapes/maple/seed1/novel   400/2000 images",
                "   ELSEWHERE [    56s] features/shapes   process 4711 on a-host-with-a-long-name",
                "     RUNNING [ 1m 26s] (6/15) ###############----------------------- 3m 44s left",
            ]
        );
        assert_eq!(
            shown(60),
            [
                "     RUNNING [ 1m 16s] train/shapes/maple/seed8   epoch 4/12",
                "     RUNNING [ 1m 06s] eval/sha...d1/novel   400/2000 images",
                "   ELSEWHERE [    56s] features/shapes",
                "     RUNNING [ 1m 26s] (6/15) #######----------- 3m 44s left",
            ]
        );
        for width in 1..120 {
            for height in [1, 4, 5, 24] {
                let lines = rows.lines(start + Duration::from_secs(4000), width, height);
                assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:#?}");
                assert!(lines.len() <= height.max(2), "{height}: {lines:#?}");
            }
        }
    }

    #[test]
    fn the_times_of_all_rows_change_together() {
        let (rows, start) = example();
        let times = |tenths: u64| -> Vec<String> {
            let lines = rows.lines(start + Duration::from_millis(100 * tenths + 1), 80, 24);
            lines.iter().map(|line| line[13..22].to_owned()).collect()
        };
        for second in 40..200 {
            let now = times(10 * second);
            for tenth in 1..10 {
                assert_eq!(times(10 * second + tenth), now);
            }
            assert!(now.iter().zip(times(10 * second + 10)).all(|(before, after)| *before != after));
        }
    }

    #[test]
    fn what_is_left_counts_down_in_whole_seconds_to_nothing() {
        let now = Instant::now();
        let left = |seconds: f64, later: f64| Left { seconds, at: now }.words(now + Duration::from_secs_f64(later));
        assert_eq!(left(125.4, 0.0).unwrap(), "2m 05s left");
        assert_eq!(left(125.4, 1.0).unwrap(), "2m 04s left");
        assert_eq!(left(125.4, 124.4).unwrap(), "1s left");
        assert_eq!(left(125.4, 125.3), None);
        assert_eq!(left(125.4, 1000.0), None);
        assert_eq!(left(0.3, 0.0), None);
    }

    #[test]
    fn a_training_that_goes_on_is_expected_by_the_epochs_of_this_run() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rows = Rows::new(1, start);
        rows.apply(&Event::Started { node: NODE, device: None, job: None }, start);
        rows.apply(&Event::Progress { node: NODE, progress: &epoch(9) }, at(10));
        assert!(rows.line(NODE, at(10)).unwrap().contains("epoch 9/12, 30s left"), "{rows:?}");
        rows.apply(&Event::Progress { node: NODE, progress: &epoch(11) }, at(50));
        assert!(rows.line(NODE, at(50)).unwrap().contains("epoch 11/12, 20s left"), "{rows:?}");
    }

    #[test]
    fn wide_characters_count_twice() {
        let name = "\u{732b}".repeat(40);
        let row = fitted("head ", &name, &["part".to_owned()], 40);
        assert!(row.width() <= 40 && row.ends_with("   part"), "{row}");
        assert_eq!(shortened("abcdefghij", 8), "ab...hij");
        assert_eq!(shortened("abcdefghij", 2), "ab");
    }
}
