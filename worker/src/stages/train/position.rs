//! Where a training stands, and how that is kept for a run that goes on from there.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clip::Weights;
use crate::method::{Losses, Trainer};
use maple_pipe::error::{Error, Result};
use maple_pipe::files::write_atomically;
use maple_pipe::stages::train::Epoch;
use maple_pipe::terminal;

/// Where a training stands: whole epochs, and the steps of the next one.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Position {
    pub(super) log: Vec<Epoch>,
    /// Steps done in the epoch after those in the log.
    pub(super) steps: usize,
    /// How many of them had an image that could be decoded.
    pub(super) trained: usize,
    /// The sum of the losses of these.
    loss_sum: f64,
    /// The sums of the terms of these, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    term_sums: BTreeMap<String, f64>,
}

impl Position {
    /// Adds the loss of a step.
    pub(super) fn add(&mut self, losses: &Losses) {
        self.trained += 1;
        self.loss_sum += losses.total;
        for (name, value) in &losses.terms {
            *self.term_sums.entry((*name).to_owned()).or_default() += value;
        }
    }

    /// Begins the next epoch; returns the line of the log of the one that is done.
    pub(super) fn end_epoch(&mut self, epoch: u32, learning_rate: f64) -> Epoch {
        let Position { mut log, trained, loss_sum, term_sums, .. } = std::mem::take(self);
        let mean = |sum: f64| sum / trained as f64;
        let terms = term_sums.into_iter().map(|(name, sum)| (name, mean(sum))).collect();
        let line = Epoch { epoch, loss: mean(loss_sum), terms, learning_rate };
        log.push(line.clone());
        self.log = log;
        line
    }
}

/// Keeps everything that the next step starts from, in one file, so that it is whole or absent.
pub(super) fn save(path: &Path, trainer: &Trainer<'_>, position: &Position) -> Result<()> {
    let note = serde_json::to_string(position).map_err(|error| Error::format(path, "training state", error))?;
    let tensors = trainer.state().into_iter().map(|(name, tensor)| (name, tensor.detach()));
    write_atomically(path, &Weights::from_tensors(tensors).with_note(note).to_bytes()?)
}

/// Takes up what [`save`] kept; returns where that is, or the start. What cannot be read or does not fit is as good as absent.
pub(super) fn resume(path: &Path, trainer: &mut Trainer<'_>) -> Position {
    if !path.exists() {
        return Position::default();
    }
    let mut take_up = || -> Result<Position> {
        let kept = Weights::read(path)?;
        let position: Position = serde_json::from_str(kept.note().unwrap_or_default())
            .map_err(|error| Error::format(path, "training state", error))?;
        trainer.load(&kept)?;
        Ok(position)
    };
    take_up().unwrap_or_else(|error| {
        terminal::warn(&format!("training starts over: {error}"));
        Position::default()
    })
}
