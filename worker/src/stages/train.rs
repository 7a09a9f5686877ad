//! Runs a `train` stage: epochs over the few-shot sample. The state is kept after every epoch, and when the run is asked to
//! stop, after the step it is at.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::events::events;
use super::inputs::{self, Known};
use super::models;
use super::unread::Unread;
use crate::Control;
use crate::clip::{Tokenizer, Weights, torch};
use crate::method::{Inputs, Labelled, Losses, Model, Sample, Seen, StepLosses, Trainer, learning_rate, prompt};
use maple_pipe::data::{Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::files::write_atomically;
use maple_pipe::method::{Description, Training};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::train::{Epoch, Train};
use maple_pipe::task::{Progress, Task};
use maple_pipe::terminal;
use maple_pipe::text::few;

/// What to do about a training that diverges.
const SMALLER_RATE: &str = "a smaller `learning_rate` may help";
/// What to do where no step has been taken that could have made it diverge.
const DAMAGED_WEIGHTS: &str = "nothing is learned yet: look for damaged weights with `maple-pipe weights check`; in 16 bits, \
                               large ones overflow";

/// Where a training stands: whole epochs, and the steps of the next one.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Position {
    log: Vec<Epoch>,
    /// Steps done in the epoch after those in the log.
    steps: usize,
    /// How many of them had an image that could be decoded.
    trained: usize,
    /// The sum of the losses of these.
    loss_sum: f64,
    /// The sums of the terms of these, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    term_sums: BTreeMap<String, f64>,
}

impl Position {
    /// Adds the loss of a step.
    fn add(&mut self, losses: &Losses) {
        self.trained += 1;
        self.loss_sum += losses.total;
        for (name, value) in &losses.terms {
            *self.term_sums.entry((*name).to_owned()).or_default() += value;
        }
    }

    /// The line of the log of an epoch that is done.
    fn epoch(&self, epoch: u32, learning_rate: f64) -> Epoch {
        let mean = |sum: f64| sum / self.trained as f64;
        let terms = self.term_sums.iter().map(|(name, sum)| (name.clone(), mean(*sum)));
        Epoch { epoch, loss: mean(self.loss_sum), terms: terms.collect(), learning_rate }
    }
}

/// Features of the views that epochs see.
struct Views {
    /// `(views, images, embedding)`.
    features: Tensor,
    /// For each image of the sample its row there; none for one that is left out.
    rows: Vec<Option<i64>>,
    /// Whether epochs behind the last view begin with the first again.
    repeat: bool,
}

impl Views {
    /// Those of a sample's images. Features of whole images are those of every epoch.
    fn new(known: &Known, items: &Index, repeat: bool, device: Device) -> Result<Views> {
        let rows = items.iter().map(|item| known.row(item)).collect::<Result<_>>()?;
        let features = known.features.to_device(device);
        match features.dim() {
            2 => Ok(Views { features: features.unsqueeze(0), rows, repeat: true }),
            _ => Ok(Views { features, rows, repeat }),
        }
    }

    /// The first epochs whose views these are.
    fn epochs(&self) -> u32 {
        if self.repeat { u32::MAX } else { self.features.size()[0] as u32 }
    }

    /// The sample for a learner that works behind the towers, with the images by which it chooses.
    fn sample(&self, task: &Task, items: &Index) -> Result<Sample> {
        let device = self.features.device();
        let known = items.iter().zip(&self.rows).filter_map(|(item, row)| Some((item.label as i64, (*row)?)));
        let (labels, rows): (Vec<i64>, Vec<i64>) = known.unzip();
        let [labels, rows] = [labels, rows].map(|numbers| Tensor::from_slice(&numbers).to_device(device));
        let labelled = |input: &str| -> Result<Option<Labelled>> {
            let of = |(features, listed): (Tensor, Index)| {
                let labels: Vec<i64> = listed.iter().map(|item| item.label as i64).collect();
                Labelled { features: features.to_device(device), labels: Tensor::from_slice(&labels).to_device(device) }
            };
            Ok(inputs::features_of(task, input)?.map(of))
        };
        Ok(Sample {
            views: self.features.index_select(1, &rows),
            labels,
            validation: labelled("validation")?,
            test: labelled("test")?,
        })
    }

    /// How many images are left out.
    fn lacking(&self) -> usize {
        self.rows.iter().filter(|row| row.is_none()).count()
    }

    /// The images of a batch that are not left out, with their features `(B, embedding)` and labels `(B,)`.
    fn batch(&self, epoch: u32, places: &[usize], loader: &Loader) -> (Vec<usize>, Tensor, Tensor) {
        let known = places.iter().filter_map(|&place| Some((place, self.rows[place]?)));
        let (places, rows): (Vec<usize>, Vec<i64>) = known.unzip();
        let labels: Vec<i64> = places.iter().map(|&place| loader.items()[place].label as i64).collect();
        let device = self.features.device();
        let [rows, labels] = [rows, labels].map(|numbers| inputs::send(&Tensor::from_slice(&numbers), device));
        let view = i64::from(epoch) % self.features.size()[0];
        (places, self.features.get(view).index_select(0, &rows), labels)
    }
}

/// Where a step was.
struct At {
    step: usize,
    step_of_epoch: usize,
    /// Those of its images.
    places: Vec<usize>,
}

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Train = task.parameters()?;
    let clip = models::clip(task, &stage.backbone, device, stage.method.precision)?;
    let class_names: Vec<String> = task.json("shots.classes")?;
    let items: Index = task.json("shots.train")?;
    let epochs_of = |training: &Training| training.epochs(training.steps_of_epoch(items.len()));
    let epochs = stage.method.training.as_ref().map_or(0, epochs_of);
    let works_on_features = stage.method.learner.works_on_features();
    let views = Known::of(task, stage.on_bad_image)?;
    let views = views.map(|known| Views::new(&known, &items, works_on_features, device)).transpose()?;
    let images = items.len() - views.as_ref().map_or(0, Views::lacking);
    let read = Inputs { images, ..Inputs::default() };
    let mut model = Model::new(&clip, &Tokenizer::new(), &stage.method, &class_names, &read, stage.seed)?;
    if let Some(views) = views.as_ref().filter(|_| works_on_features) {
        model.fit(views.sample(task, &items)?, epochs)?;
    }
    let lacking = views.as_ref().map_or(0, Views::lacking);
    let Some(training) = &stage.method.training else {
        prompt::pack(&model, &Description::new(&stage.method, epochs, &class_names))?.write(&task.output("prompt"))?;
        write_log(task, &[])?;
        return Ok(found(&model) + &inputs::skipped_note(lacking));
    };
    let mut trainer = Trainer::new(model, training, stage.method.precision);
    let size = clip.backbone().preprocessing.size;
    let folder = &task.one("shots.location").path;
    let viewed = views.as_ref().map_or(0, Views::epochs);
    let transform = Transform::Training { size, augmentation: stage.method.augmentation };
    let loader = Loader::new(folder, items, transform, stage.seed, inputs::CACHE_BYTES);
    let batch = training.batch_of(loader.items().len());
    let steps_of_epoch = training.steps_of_epoch(loader.items().len());
    let (epochs, all_steps) = (training.epochs(steps_of_epoch), training.steps(steps_of_epoch));
    let loader = match epochs <= viewed {
        true => loader,
        false => inputs::ready(loader, task, &clip, stage.on_bad_image, control)?,
    };
    let upload = inputs::Upload::new(&loader, device);
    let partial = task.partial.join("epoch.safetensors");
    let mut position = resume(&partial, &mut trainer);
    let mut step = position.log.len() * steps_of_epoch + position.steps;
    let mut events = events(task, step + 1);
    let mut unread = Unread::new(device);
    for epoch in position.log.len() as u32..epochs {
        let started = Instant::now();
        let first = epoch as usize * steps_of_epoch;
        // The last epoch ends with the training.
        let steps_here = steps_of_epoch.min(all_steps - first);
        let rate_of = |step_of_epoch: usize| learning_rate(training, steps_of_epoch, first + step_of_epoch - 1);
        let order = loader.order(epoch.into());
        let resumed = position.steps;
        let mut read = |steps: Vec<(At, StepLosses)>, position: &mut Position| -> Result<()> {
            let (at, losses): (Vec<At>, Vec<StepLosses>) = steps.into_iter().unzip();
            for (at, losses) in at.into_iter().zip(StepLosses::read(&losses)?) {
                let value = losses.total;
                if !value.is_finite() {
                    let images = at.places.iter().map(|&place| format!("`{}`", loader.items()[place].path));
                    let (of, number) = (epochs, at.step_of_epoch);
                    return Err(Error::hinted(
                        format!(
                            "the loss is {value} in epoch {} of {of}, step {number} of {steps_here}, at learning rate \
                             {:?}, on {}",
                            epoch + 1,
                            rate_of(number),
                            few(3, images),
                        ),
                        match position.log.is_empty() && position.trained == 0 {
                            true => DAMAGED_WEIGHTS,
                            false => SMALLER_RATE,
                        },
                    ));
                }
                position.add(&losses);
                let tags: Vec<String> = losses.terms.iter().map(|(name, _)| format!("loss/{name}")).collect();
                let mut scalars = vec![("loss", value), ("learning_rate", rate_of(at.step_of_epoch))];
                scalars.extend(tags.iter().map(String::as_str).zip(losses.terms.iter().map(|(_, value)| *value)));
                events.scalars(at.step, &scalars);
            }
            Ok(())
        };
        let mut step_on = |places: &[usize], seen: Seen<'_>, labels: &Tensor| -> Result<()> {
            if control.is_stopping() {
                read(unread.take(), &mut position)?;
                save(&partial, &trainer, &position)?;
                return Err(Error::Interrupted);
            }
            position.steps += 1;
            step += 1;
            if places.is_empty() {
                return Ok(());
            }
            let losses = trainer.step(seen, labels, rate_of(position.steps))?;
            let at = At { step, step_of_epoch: position.steps, places: places.to_owned() };
            read(unread.add((at, losses)), &mut position)
        };
        let batches = order.chunks(batch).take(steps_here).skip(resumed);
        let waited = match views.as_ref().filter(|_| epoch < viewed) {
            Some(views) => {
                for places in batches {
                    let (places, features, labels) = views.batch(epoch, places, &loader);
                    step_on(&places, Seen::Features(&features), &labels)?;
                }
                Duration::ZERO
            }
            None => loader.each_batch(batches, epoch.into(), |batch| {
                let (images, labels) = upload.tensors(batch);
                step_on(&batch.places, Seen::Images(&images), &labels)
            })?,
        };
        read(unread.take(), &mut position)?;
        if position.trained == 0 {
            return Err(Error::invalid(format!(
                "none of the training images of epoch {} of {} could be decoded",
                epoch + 1,
                epochs
            )));
        }
        trainer.end_epoch(epoch + 1, epochs);
        let rate = rate_of(steps_here);
        if let Some(name) = not_finite(trainer.model())? {
            return Err(Error::hinted(
                format!(
                    "`{name}` is no longer finite behind epoch {} of {}, step {steps_here} of {steps_here}, at \
                     learning rate {rate:?}",
                    epoch + 1,
                    epochs,
                ),
                SMALLER_RATE,
            ));
        }
        let (steps, line) = (position.steps, position.epoch(epoch + 1, rate));
        let loss = line.loss;
        position.log.push(line);
        position = Position { log: position.log, ..Position::default() };
        save(&partial, &trainer, &position)?;
        let seconds = started.elapsed().as_secs_f64();
        let images_per_second = ((steps - resumed) * batch) as f64 / seconds;
        let loading_wait = waited.as_secs_f64() / seconds;
        let speeds = [("images_per_second", images_per_second), ("loading_wait", loading_wait)];
        events.scalars(step, &[&[("epoch_loss", loss)], &speeds[..]].concat());
        control.progress(Progress::Epoch {
            epoch: epoch as usize + 1,
            epochs: epochs as usize,
            loss,
            learning_rate: rate,
            images_per_second,
        });
    }
    let description = Description::new(&stage.method, epochs, &class_names);
    prompt::pack(trainer.model(), &description)?.write(&task.output("prompt"))?;
    write_log(task, &position.log)?;
    let note = position.log.last().map_or_else(String::new, |last| format!("loss {:.3}", last.loss));
    let found = found(trainer.model());
    let note = if found.is_empty() { note } else { format!("{note}, {found}") };
    inputs::warn_of_skipped(&loader);
    Ok(note + &inputs::skipped_note(loader.skipped().len().max(lacking)))
}

/// What a learner found in another way than by steps, for a note.
fn found(model: &Model<'_>) -> String {
    let words = |(name, value): (&str, f64)| format!("{name} {}", (value * 1e3).round() / 1e3);
    model.found().into_iter().map(words).collect::<Vec<_>>().join(", ")
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

/// Writes the training log, one JSON object per line.
fn write_log(task: &Task, log: &[Epoch]) -> Result<()> {
    let path = task.output("log");
    let lines = log.iter().map(|line| serde_json::to_string(line).expect("plain data") + "\n");
    std::fs::write(&path, lines.collect::<String>()).map_err(Error::io("write", &path))
}

/// Keeps everything that the next step starts from, in one file, so that it is whole or absent.
fn save(path: &Path, trainer: &Trainer<'_>, position: &Position) -> Result<()> {
    let note = serde_json::to_string(position).map_err(|error| Error::format(path, "training state", error))?;
    let tensors = trainer.state().into_iter().map(|(name, tensor)| (name, tensor.detach()));
    write_atomically(path, &Weights::from_tensors(tensors).with_note(note).to_bytes()?)
}

/// Takes up what [`save`] kept; returns where that is, or the start. What cannot be read or does not fit is as good as absent.
fn resume(path: &Path, trainer: &mut Trainer<'_>) -> Position {
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
