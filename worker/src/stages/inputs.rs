//! What stages read of images: as lists, in batches, as tensors.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use maple_pipe::data::{Batch, Classes, Indexed, Loader, Normalisation, OnBadImage, SplitPart};
use maple_pipe::error::{Error, Result};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::features::{TENSOR, list};
use maple_pipe::task::{Progress, Task};
use maple_pipe::terminal;
use maple_pipe::text::plural;
use tch::{Device, Kind, Tensor};

use crate::Control;
use crate::clip::{Clip, Weights};
use crate::context;

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

/// Images per batch of an evaluation: on a processor as in the published code; on a card more, which fill it better. cuBLAS cuts
/// products into tiles of 128 rows, of which an H100 computes 132 at once: with 392 images of ViT-B/16, 197 to 205 rows each, the
/// last round of tiles is nearly full whatever a learner adds. With 400 the bare tower ends with a full round, and one row more
/// an image takes another.
pub(crate) fn batch_on(device: Device) -> usize {
    if device.is_cuda() { 392 } else { 100 }
}

/// Decoded training images that are not prepared are kept in memory up to this size.
pub(super) const CACHE_BYTES: usize = 2 << 30;

/// A tensor on a device. A card reads it from memory that stays, while the program goes on.
pub(super) fn send(tensor: &Tensor, device: Device) -> Tensor {
    match device.is_cuda() {
        true => context::pinned(tensor).to_device_(device, tensor.kind(), true, false),
        false => tensor.shallow_clone(),
    }
}

/// The features in an input of the task, `(images, embedding)` or `(epochs, images, embedding)`, and these images; `None` where it
/// has no such input.
pub(super) fn features_of(task: &Task, input: &str) -> Result<Option<(Tensor, Index)>> {
    let name = format!("{input}.features");
    if !task.inputs.contains_key(&name) {
        return Ok(None);
    }
    let file = Weights::read(&task.one(&name).path)?;
    let features = file.get(TENSOR).ok_or_else(|| Error::invalid(format!("{} hold no features", file.origin())))?;
    Ok(Some((features.shallow_clone(), task.json(&format!("{input}.images"))?)))
}

/// The features that a task has of images, in a list of its own: the tensor, and the row of each image by path and digest.
pub(super) struct Known {
    /// `(images, embedding)`, or `(epochs, images, embedding)` of views.
    pub(super) features: Tensor,
    rows: HashMap<(String, String), i64>,
    on_bad_image: OnBadImage,
}

impl Known {
    /// The task's, if it has any.
    pub(super) fn of(task: &Task, on_bad_image: OnBadImage) -> Result<Option<Known>> {
        let Some((features, listed)) = features_of(task, "features")? else { return Ok(None) };
        let rows = listed.into_iter().map(|item| (item.path, item.digest)).zip(0..).collect();
        Ok(Some(Known { features, rows, on_bad_image }))
    }

    /// The row of an image; none of one that is to be left out.
    ///
    /// # Errors
    /// It is not there, and nothing may be left out.
    pub(super) fn row(&self, item: &Indexed) -> Result<Option<i64>> {
        match self.rows.get(&(item.path.clone(), item.digest.clone())) {
            None if self.on_bad_image == OnBadImage::Fail => Err(Error::hinted(
                format!("the features lack the image `{}`", item.path),
                "the `features` stage left it out: `on_bad_image = \"skip\"` does so here, too",
            )),
            row => Ok(row.copied()),
        }
    }
}

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

/// Puts batches on a device.
pub(crate) struct Upload<'a> {
    loader: &'a Loader,
    device: Device,
    /// What each value of a pixel is to the vision tower, `(3 * 256,)`, and where the values of each channel begin, `(3,)`; on
    /// a card.
    tables: Option<(Tensor, Tensor)>,
}

impl<'a> Upload<'a> {
    /// Of batches of this loader.
    pub(crate) fn new(loader: &'a Loader, device: Device) -> Upload<'a> {
        let tables = device.is_cuda().then(|| tables(loader.normalisation(), device));
        Upload { loader, device, tables }
    }

    /// A batch as tensors: images `(B, 3, size, size)` and labels `(B)`. A card gets them on its own time: it reads them from
    /// memory that stays, as bytes, and normalises them itself, while the program goes on.
    pub(crate) fn tensors(&self, batch: &Batch) -> (Tensor, Tensor) {
        let (count, size) = (batch.labels.len() as i64, i64::from(batch.size));
        let labels = Tensor::from_slice(&batch.labels);
        let Some((values, starts)) = &self.tables else {
            let mut pixels = vec![0.0; batch.pixels.len()];
            self.loader.normalise(batch, &mut pixels);
            return (Tensor::from_slice(&pixels).reshape([count, 3, size, size]), labels);
        };
        let pixels = send(&Tensor::from_slice(&batch.pixels), self.device).reshape([count, size, size, 3]);
        (normalise(&pixels, values, starts), send(&labels, self.device))
    }
}

/// What each value of a pixel becomes, and where the values of each channel begin.
fn tables(normalisation: &Normalisation, device: Device) -> (Tensor, Tensor) {
    let values = Tensor::from_slice(normalisation.tables().as_flattened()).to_device(device);
    (values, Tensor::from_slice(&[0i64, 256, 512]).to_device(device))
}

/// Pixels `(B, size, size, 3)` in 8 bits as the vision tower reads them, `(B, 3, size, size)`: the same bits as
/// [`Normalisation::apply`].
fn normalise(pixels: &Tensor, values: &Tensor, starts: &Tensor) -> Tensor {
    let places = pixels.to_kind(Kind::Int64) + starts;
    values.take(&places).permute([0, 3, 1, 2]).contiguous()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;
    use maple_pipe::backbone::Preprocessing;

    /// Every value in every channel, in an order that repeats nowhere.
    #[test]
    fn a_card_normalises_to_the_same_bits() {
        let normalisation = Normalisation::new(&Preprocessing::openai(32));
        let pixels: Vec<u8> = (0..2 * 32 * 32 * 3).map(|place: u32| (place * 7 / 3) as u8).collect();
        let mut expected = vec![0.0f32; pixels.len()];
        for (pixels, output) in pixels.chunks(32 * 32 * 3).zip(expected.chunks_mut(32 * 32 * 3)) {
            normalisation.apply(pixels, output);
        }
        let (values, starts) = tables(&normalisation, of_tests());
        let pixels = Tensor::from_slice(&pixels).to_device(of_tests()).reshape([2, 32, 32, 3]);
        let found = normalise(&pixels, &values, &starts);
        assert_eq!(found.size(), [2, 3, 32, 32]);
        assert_eq!(Vec::<f32>::try_from(found.flatten(0, -1)).unwrap(), expected);
    }
}
