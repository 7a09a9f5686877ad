//! The epochs of a training, step by step.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use super::position::{Position, resume, save};
use super::views::Views;
use crate::Control;
use crate::clip::torch;
use crate::method::{Model, Seen, StepLosses, Trainer, learning_rate};
use crate::stages::events::events;
use crate::stages::inputs::Upload;
use crate::stages::unread::Unread;
use maple_pipe::data::Loader;
use maple_pipe::error::{Error, Result};
use maple_pipe::method::Training;
use maple_pipe::stages::train::Epoch;
use maple_pipe::task::{Progress, Task};
use maple_pipe::tensorboard::EventFile;
use maple_pipe::text::few;

/// What to do about a training that diverges.
const SMALLER_RATE: &str = "a smaller `learning_rate` may help";
/// What to do where no step has been taken that could have made it diverge.
const DAMAGED_WEIGHTS: &str = "nothing is learned yet: look for damaged weights with `maple-pipe weights check`; in 16 bits, \
                               large ones overflow";

/// What a training reads, and how long it goes.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) training: &'a Training,
    pub(super) loader: &'a Loader,
    /// Features for the first epochs.
    pub(super) views: Option<&'a Views>,
    pub(super) control: Control<'a>,
}

impl Plan<'_> {
    fn steps_of_epoch(&self) -> usize {
        self.training.steps_of_epoch(self.loader.items().len())
    }

    /// Of the whole training.
    fn epochs(&self) -> u32 {
        self.training.epochs(self.steps_of_epoch())
    }

    /// Those before an epoch.
    fn steps_before(&self, epoch: u32) -> usize {
        epoch as usize * self.steps_of_epoch()
    }

    /// Steps of an epoch; the last one ends with the training.
    fn steps_of(&self, epoch: u32) -> usize {
        let steps_of_epoch = self.steps_of_epoch();
        steps_of_epoch.min(self.training.steps(steps_of_epoch) - self.steps_before(epoch))
    }

    /// The learning rate of a step of an epoch, which counts from 1.
    fn rate(&self, epoch: u32, step_of_epoch: usize) -> f64 {
        learning_rate(self.training, self.steps_of_epoch(), self.steps_before(epoch) + step_of_epoch - 1)
    }
}

/// Where a step was.
struct At {
    epoch: u32,
    step_of_epoch: usize,
    /// Those of its images.
    places: Vec<usize>,
}

/// A training under way.
pub(super) struct Course<'a, 'p> {
    plan: Plan<'p>,
    trainer: Trainer<'a>,
    /// Where its position is kept.
    partial: PathBuf,
    position: Position,
    events: EventFile,
    unread: Unread<(At, StepLosses)>,
}

impl<'a, 'p> Course<'a, 'p> {
    /// From where an earlier run of the task left off, or from the start.
    pub(super) fn begin(plan: Plan<'p>, mut trainer: Trainer<'a>, task: &Task, device: Device) -> Course<'a, 'p> {
        let partial = task.partial.join("epoch.safetensors");
        let position = resume(&partial, &mut trainer);
        let steps = plan.steps_before(position.log.len() as u32) + position.steps;
        Course { plan, trainer, partial, position, events: events(task, steps + 1), unread: Unread::new(device) }
    }

    /// To its end; returns what has been learned, and the log.
    ///
    /// # Errors
    /// The training diverges, or an image is no good, or libtorch's; [`Error::Interrupted`] where it was asked to stop and has
    /// kept its position.
    pub(super) fn run(mut self, upload: &Upload<'_>) -> Result<(Model<'a>, Vec<Epoch>)> {
        for epoch in self.position.log.len() as u32..self.plan.epochs() {
            self.epoch(epoch, upload)?;
        }
        Ok((self.trainer.into_model(), self.position.log))
    }

    /// What is left of an epoch.
    fn epoch(&mut self, epoch: u32, upload: &Upload<'_>) -> Result<()> {
        let Plan { training, loader, views, control } = self.plan;
        let (started, resumed) = (Instant::now(), self.position.steps);
        let (steps, batch) = (self.plan.steps_of(epoch), training.batch_of(loader.items().len()));
        let order = loader.order(epoch.into());
        let batches = order.chunks(batch).take(steps).skip(resumed);
        let waited = match views.filter(|views| epoch < views.epochs()) {
            Some(views) => {
                for places in batches {
                    let (places, features, labels) = views.batch(epoch, places, loader);
                    self.step(epoch, &places, Seen::Features(&features), &labels)?;
                }
                Duration::ZERO
            }
            None => loader.each_batch(batches, epoch.into(), |batch| {
                let (images, labels) = upload.tensors(batch);
                self.step(epoch, &batch.places, Seen::Images(&images), &labels)
            })?,
        };
        self.read_all()?;
        let line = self.end_epoch(epoch)?;
        let seconds = started.elapsed().as_secs_f64();
        let images_per_second = ((steps - resumed) * batch) as f64 / seconds;
        let loading_wait = waited.as_secs_f64() / seconds;
        let speeds = [("images_per_second", images_per_second), ("loading_wait", loading_wait)];
        let done = self.plan.steps_before(epoch) + steps;
        self.events.scalars(done, &[&[("epoch_loss", line.loss)], &speeds[..]].concat());
        // Behind the events: a run that goes on from this position does not write them again.
        save(&self.partial, &self.trainer, &self.position)?;
        control.progress(Progress::Epoch {
            epoch: epoch as usize + 1,
            epochs: self.plan.epochs() as usize,
            loss: line.loss,
            learning_rate: line.learning_rate,
            images_per_second,
        });
        Ok(())
    }

    /// One step; without images, it only counts.
    fn step(&mut self, epoch: u32, places: &[usize], seen: Seen<'_>, labels: &Tensor) -> Result<()> {
        if self.plan.control.is_stopping() {
            self.read_all()?;
            save(&self.partial, &self.trainer, &self.position)?;
            return Err(Error::Interrupted);
        }
        self.position.steps += 1;
        if places.is_empty() {
            return Ok(());
        }
        let step_of_epoch = self.position.steps;
        let losses = self.trainer.step(seen, labels, self.plan.rate(epoch, step_of_epoch))?;
        let steps = self.unread.add((At { epoch, step_of_epoch, places: places.to_owned() }, losses));
        self.read(steps)
    }

    /// Reads the losses that nobody has read yet.
    fn read_all(&mut self) -> Result<()> {
        let steps = self.unread.take();
        self.read(steps)
    }

    /// Reads losses, and adds them to the position.
    fn read(&mut self, steps: Vec<(At, StepLosses)>) -> Result<()> {
        let (at, losses): (Vec<At>, Vec<StepLosses>) = steps.into_iter().unzip();
        for (at, losses) in at.into_iter().zip(StepLosses::read(&losses)?) {
            let value = losses.total;
            let rate = self.plan.rate(at.epoch, at.step_of_epoch);
            if !value.is_finite() {
                return Err(self.diverged(&at, value, rate));
            }
            self.position.add(&losses);
            let tags: Vec<String> = losses.terms.iter().map(|(name, _)| format!("loss/{name}")).collect();
            let mut scalars = vec![("loss", value), ("learning_rate", rate)];
            scalars.extend(tags.iter().map(String::as_str).zip(losses.terms.iter().map(|(_, value)| *value)));
            self.events.scalars(self.plan.steps_before(at.epoch) + at.step_of_epoch, &scalars);
        }
        Ok(())
    }

    /// The error of a step whose loss is infinite or no number.
    fn diverged(&self, at: &At, loss: f64, rate: f64) -> Error {
        let items = self.plan.loader.items();
        let images = at.places.iter().map(|&place| format!("`{}`", items[place].path));
        let (epoch, epochs) = (at.epoch + 1, self.plan.epochs());
        let (step, steps) = (at.step_of_epoch, self.plan.steps_of(at.epoch));
        Error::hinted(
            format!(
                "the loss is {loss} in epoch {epoch} of {epochs}, step {step} of {steps}, at learning rate {rate:?}, on {}",
                few(3, images),
            ),
            match self.position.log.is_empty() && self.position.trained == 0 {
                true => DAMAGED_WEIGHTS,
                false => SMALLER_RATE,
            },
        )
    }

    /// Ends an epoch; returns its line of the log.
    fn end_epoch(&mut self, epoch: u32) -> Result<Epoch> {
        let (number, epochs) = (epoch + 1, self.plan.epochs());
        if self.position.trained == 0 {
            return Err(Error::invalid(format!(
                "none of the training images of epoch {number} of {epochs} could be decoded"
            )));
        }
        self.trainer.end_epoch(number, epochs);
        let steps = self.plan.steps_of(epoch);
        let rate = self.plan.rate(epoch, steps);
        if let Some(name) = not_finite(self.trainer.model())? {
            return Err(Error::hinted(
                format!(
                    "`{name}` is no longer finite behind epoch {number} of {epochs}, step {steps} of {steps}, at \
                     learning rate {rate:?}"
                ),
                SMALLER_RATE,
            ));
        }
        Ok(self.position.end_epoch(number, rate))
    }
}

/// A learned tensor that holds a value which is infinite or no number.
fn not_finite(model: &Model<'_>) -> Result<Option<String>> {
    for (name, tensor) in model.learnable() {
        if !bool::try_from(tensor.isfinite().all()).map_err(torch)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
