//! What stages read: a CLIP model, and images as tensors.

use std::time::{Duration, Instant};

use std::path::Path;

use maple_pipe::backbone::BackboneOptions;
use maple_pipe::data::{Batch, Classes, Loader, OnBadImage, SplitPart};
use maple_pipe::error::Result;
use maple_pipe::method::Precision;
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::features::list;
use maple_pipe::stages::pretrain;
use maple_pipe::task::{Progress, Task};
use maple_pipe::terminal;
use maple_pipe::text::plural;
use maple_pipe::weights::{Checkpoint, known};
use tch::{Device, Kind, Tensor};

use crate::Control;
use crate::clip::{Clip, Weights};

/// The images of a part of the split, in the few-shot sample or the data set that the task has, and the folder where they lie.
/// A sample has been cut to its classes, and so have the lists of test images.
pub(super) fn images(task: &Task, split: SplitPart, classes: Classes) -> Result<(Index, &Path)> {
    let from_shots = takes_shots(task);
    let items: Index = task.json(&list(split, classes, from_shots))?;
    let location = &task.one(if from_shots { "shots.location" } else { "dataset.location" }).path;
    if from_shots || split.is_test() {
        return Ok((items, location));
    }
    let class_names: Vec<String> = task.json("dataset.classes")?;
    Ok((classes.select(&items, class_names.len()), location))
}

/// Whether the task's images are those of a few-shot sample.
pub(super) fn takes_shots(task: &Task) -> bool {
    task.inputs.contains_key("shots.location")
}

/// Evaluation images per batch, as in the published code.
pub(super) const BATCH: usize = 100;

/// Counts the images that are done, and tells the run of it about once a second.
pub(super) struct Count<'a> {
    control: Control<'a>,
    done: usize,
    of: usize,
    started: Instant,
    told: Instant,
}

impl<'a> Count<'a> {
    /// Begins to count so many images.
    pub(super) fn new(control: Control<'a>, of: usize) -> Count<'a> {
        let now = Instant::now();
        Count { control, done: 0, of, started: now, told: now }
    }

    /// So many more are done.
    pub(super) fn add(&mut self, images: usize) {
        self.done += images;
        if self.told.elapsed() >= Duration::from_secs(1) {
            self.told = Instant::now();
            let images_per_second = self.done as f64 / self.started.elapsed().as_secs_f64();
            self.control.progress(Progress::Images { done: self.done, of: self.of, images_per_second });
        }
    }
}

/// A loader of images for a model, on prepared pixels where the task has a place for them.
pub(super) fn ready(
    loader: Loader,
    task: &Task,
    clip: &Clip,
    on_bad_image: OnBadImage,
    control: Control<'_>,
) -> Result<Loader> {
    let loader = loader.normalised_for(&clip.backbone().preprocessing).on_bad_image(on_bad_image);
    match &task.pixels {
        Some(cache) => loader.prepared(cache, &|| control.is_stopping()),
        None => Ok(loader),
    }
}

/// A batch as tensors on a device: images `(B, 3, size, size)` and labels `(B)`.
pub(super) fn tensors(batch: &Batch, device: Device) -> (Tensor, Tensor) {
    let (count, size) = (batch.labels.len() as i64, i64::from(batch.size));
    let (shape, strides) = ([count, 3, size, size], [3 * size * size, size * size, size, 1]);
    // SAFETY: the tensor refers to `pixels`, which has as many values and outlives it; the copy is made before the end.
    #[expect(unsafe_code, reason = "a copy on the way to a card takes longer than the way")]
    let images = unsafe { Tensor::from_blob(batch.pixels.as_ptr().cast(), &shape, &strides, Kind::Float, Device::Cpu) };
    (images.to_device_(device, Kind::Float, false, true), Tensor::from_slice(&batch.labels).to_device(device))
}

/// Names the images that were left out in the log.
pub(super) fn warn_of_skipped(loader: &Loader) {
    for (_, message) in loader.skipped() {
        terminal::warn(&format!("left out: {message}"));
    }
}

/// What to add to a note about images that were left out.
pub(super) fn skipped_note(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(", {} skipped", plural(count, "image", "images")),
    }
}

/// Names the images that were left out in the log; returns what to add to a note.
pub(super) fn skipped(loader: &Loader) -> String {
    warn_of_skipped(loader);
    skipped_note(loader.skipped().len())
}

/// The CLIP model that a task works with, of which its stage says `given`.
pub(super) fn clip(task: &Task, given: &BackboneOptions, device: Device, precision: Precision) -> Result<Clip> {
    let input = task.one("weights.weights");
    let checkpoint = Checkpoint::read_clip(&input.path)?;
    let of_pretrain = input.kind.as_deref() == Some(pretrain::KIND.name);
    let known = known(&input.path, &checkpoint.shapes(), given, of_pretrain)?;
    let backbone = known.backbone(&checkpoint.origin())?;
    Clip::from_weights(&Weights::from_checkpoint(&checkpoint)?, &backbone, device, precision)
}
