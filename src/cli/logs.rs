//! `maple-pipe logs`: what a node's worker wrote, and how its training went.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args;

use super::project::{PipelineArguments, Project};
use super::terminal::{print, print_raw, read_text, say};
use crate::error::{Error, Result};
use crate::stages::train::{self, Epoch};
use crate::task::Progress;
use crate::text::{columns, last_written};

/// Print what a node wrote when it last ran in a process of its own, and the log of a training: epoch, loss, learning rate,
/// images per second
///
/// On a terminal, control characters are shown and not obeyed, and of a line that was written over the last state is
/// shown; a file or a pipe gets every byte as it was written.
#[derive(Args, Debug)]
pub(super) struct Logs {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The node's name, as `status --all` lists it
    node: String,
    /// Print where the log is instead
    #[arg(long)]
    path: bool,
}

impl Logs {
    pub(super) fn run(self) -> Result<()> {
        let project = self.pipeline.open()?;
        project.graph.find(&self.node)?;
        let _held = project.hold()?;
        let path = project.store.log(&project.pipeline.name, &self.node);
        if self.path && path.is_file() {
            return print(&format!("{}\n", path.display()));
        }
        let kept = if self.path { Vec::new() } else { kept_epochs(&project, &self.node)? };
        if !path.is_file() && kept.is_empty() {
            return Err(Error::hinted(
                format!("`{}` has no log", self.node),
                "a node has one when it ran in a process of its own, as pretraining, training and evaluation do",
            ));
        }
        let written = read(&path)?;
        let log = String::from_utf8_lossy(&written);
        let text = text(&log, &kept);
        if text.is_empty() {
            say(&format!("`{}` wrote nothing", self.node));
        }
        if std::io::stdout().is_terminal() {
            return print(&text.lines().map(|line| format!("{}\n", last_written(line))).collect::<String>());
        }
        // Without progress in it, the log is what the text is.
        let has_progress = !kept.is_empty() || log.lines().any(|line| Progress::of_line(line).is_some());
        print_raw(if has_progress { text.as_bytes() } else { &written })
    }
}

/// What a worker wrote; nothing where another pipeline's worker made the result.
fn read(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(Error::io("read", path)),
    }
}

/// The epochs of a training, as its result has them.
fn kept_epochs(project: &Project, node: &str) -> Result<Vec<Epoch>> {
    let index = project.graph.find(node)?;
    if project.graph.node(index).work.kind().name != train::KIND.name {
        return Ok(Vec::new());
    }
    let key = project.store.last_keys(&project.pipeline.name).get(node).copied();
    let record = key.and_then(|key| project.store.record(&key));
    let Some(artifact) = record.as_ref().and_then(|record| record.outputs.get("log")) else { return Ok(Vec::new()) };
    let lines = read_text(&project.store.artifact(artifact)?)?;
    Ok(lines.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

/// The words of libraries, then the progress; epochs of earlier runs, from which the worker went on, are those of the result.
fn text(log: &str, kept: &[Epoch]) -> String {
    let (told, words): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| Progress::of_line(line).is_some());
    let told: Vec<Progress> = told.into_iter().filter_map(Progress::of_line).collect();
    // Whatever was tried after the result was made has a log of its own.
    let is_of_result = match (told.last(), kept.last()) {
        (Some(Progress::Epoch { epoch, loss, .. }), Some(last)) => (*epoch, *loss) == (last.epoch as usize, last.loss),
        (told, _) => told.is_none(),
    };
    let earlier = kept.iter().filter(|_| is_of_result).take_while(|one| {
        let is_told = |other: &Progress| matches!(other, Progress::Epoch { epoch, .. } if *epoch == one.epoch as usize);
        !told.iter().any(is_told)
    });
    let of_result = |one: &Epoch| {
        let (epoch, epochs, loss, learning_rate) = (one.epoch as usize, kept.len(), one.loss, one.learning_rate);
        let mut words = Progress::Epoch { epoch, epochs, loss, learning_rate, images_per_second: 0.0 }.words();
        // Nobody kept how fast it was.
        words.pop();
        words
    };
    let rows: Vec<Vec<String>> = earlier.map(of_result).chain(told.iter().map(Progress::words)).collect();
    words.into_iter().map(|line| format!("{line}\n")).collect::<String>() + &columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(epoch: usize, loss: f64) -> String {
        format!(
            r#"{{"progress":{{"epoch":{epoch},"epochs":3,"loss":{loss},"learning_rate":0.002,"images_per_second":396.4}}}}"#
        )
    }

    fn kept(losses: [f64; 3]) -> Vec<Epoch> {
        let epoch = |(epoch, loss)| Epoch { epoch, loss, terms: Default::default(), learning_rate: 0.002 };
        (1..).zip(losses).map(epoch).collect()
    }

    #[test]
    fn a_training_s_log_has_every_epoch_and_what_libraries_said() {
        let log = format!("{}\na warning\n{}\n", told(2, 0.5), told(3, 0.25));
        assert_eq!(
            text(&log, &kept([1.0, 0.5, 0.25])),
            "a warning\n\
             epoch 1/3   loss 1.0000   learning rate 2.00e-3\n\
             epoch 2/3   loss 0.5000   learning rate 2.00e-3   396 images/s\n\
             epoch 3/3   loss 0.2500   learning rate 2.00e-3   396 images/s\n"
        );
        // A store of a version that kept no progress.
        assert_eq!(text("", &kept([1.0, 0.5, 0.25])).lines().count(), 3);
        // What goes on, or was tried after the result was made.
        let other = text(&told(2, 0.7), &kept([1.0, 0.5, 0.25]));
        assert_eq!(other, "epoch 2/3   loss 0.7000   learning rate 2.00e-3   396 images/s\n");
        assert_eq!(text("a warning\n", &[]), "a warning\n");
        assert_eq!(text("", &[]), "");
    }
}
