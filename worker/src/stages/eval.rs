//! Runs an `eval` stage: text features once, then logits of every test image, batch by batch.

use std::path::Path;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::events::events;
use super::inputs::{self, Known};
use super::prompted::Prompted;
use super::unread::Unread;
use crate::Control;
use crate::clip::{Clip, torch};
use crate::method::Evaluator;
use maple_pipe::data::{Indexed, Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::evaluation::{ClassMetrics, Metrics, Prediction};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::eval::Eval;
use maple_pipe::task::Task;

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Eval = task.parameters()?;
    let from_shots = inputs::takes_shots(task);
    let all_names: Vec<String> = task.json(if from_shots { "shots.classes" } else { "dataset.classes" })?;
    // A few-shot sample has been cut to its classes.
    let class_names = if from_shots { &all_names[..] } else { stage.classes.names(&all_names) };
    let (items, location) = inputs::images(task, stage.split, stage.classes)?;
    if items.is_empty() {
        return Err(no_images(location, &stage, all_names.len()));
    }
    let prompted = Prompted::of(task, stage.method.as_ref(), &stage.backbone, device)?;
    let (clip, model) = (&prompted.clip, prompted.model(class_names)?);
    let work = Evaluation { task, stage: &stage, location, clip, evaluator: model.evaluator(), control };
    let Found { rows, skipped, loading_wait } = match Known::of(task, stage.on_bad_image)? {
        Some(features) => work.of_features(&items, &features)?,
        None => work.of_images(&items)?,
    };
    if rows.is_empty() {
        return Err(Error::invalid(format!("none of the {} images could be decoded", stage.split)));
    }
    let pairs = rows.iter().map(|(item, prediction)| (item.label, prediction.label()));
    let counts = ClassMetrics::count(class_names, pairs);
    let metrics = Metrics { skipped, split: stage.split, ..Metrics::new(stage.classes, &counts) };
    events(task, 0)
        .scalars(0, &[("accuracy", metrics.accuracy), ("macro_f1", metrics.macro_f1), ("loading_wait", loading_wait)]);
    task.write_json("metrics", &metrics)?;
    task.write_csv("per-class", counts)?;
    task.write_csv("predictions", rows.iter().map(|(item, prediction)| prediction.row(item, class_names)))?;
    Ok(format!("accuracy {:.1}", metrics.accuracy) + &inputs::skipped_note(skipped))
}

/// What an evaluation found.
#[derive(Default)]
struct Found<'i> {
    /// The images that could be decoded, each with what it was taken for.
    rows: Vec<(&'i Indexed, Prediction)>,
    /// Images that could not.
    skipped: usize,
    /// The share of the time that passed in waiting for images.
    loading_wait: f64,
}

/// One evaluation.
struct Evaluation<'a> {
    task: &'a Task,
    stage: &'a Eval,
    /// Where the images lie.
    location: &'a Path,
    clip: &'a Clip,
    evaluator: Evaluator<'a>,
    control: Control<'a>,
}

impl Evaluation<'_> {
    /// Evaluates images through the image tower.
    fn of_images<'i>(&self, items: &'i Index) -> Result<Found<'i>> {
        let size = self.clip.backbone().preprocessing.size;
        let loader = Loader::new(self.location, items.clone(), Transform::Evaluation { size }, 0, 0);
        let loader = inputs::ready(loader, self.task, self.clip, self.stage.on_bad_image, self.control)?;
        let places: Vec<usize> = (0..items.len()).collect();
        let mut rows = Vec::with_capacity(items.len());
        let mut count = inputs::Count::new(self.control, items.len());
        let started = Instant::now();
        let upload = inputs::Upload::new(&loader, self.clip.device());
        let mut unread = Unread::new(self.clip.device());
        let waited = loader.each_batch(places.chunks(inputs::batch_on(self.clip.device())), 0, |batch| {
            self.go_on()?;
            if batch.places.is_empty() {
                return Ok(());
            }
            let (images, _) = upload.tensors(batch);
            let items: Vec<&Indexed> = batch.places.iter().map(|&place| &items[place]).collect();
            rows.extend(predictions(unread.add((items, self.evaluator.logits(&images))))?);
            count.add(batch.places.len());
            Ok(())
        })?;
        rows.extend(predictions(unread.take())?);
        inputs::warn_of_skipped(&loader);
        let loading_wait = waited.as_secs_f64() / started.elapsed().as_secs_f64();
        Ok(Found { rows, skipped: loader.skipped().len(), loading_wait })
    }

    /// Evaluates images of which the features are known, in the same batches.
    fn of_features<'i>(&self, items: &'i Index, features: &Known) -> Result<Found<'i>> {
        let mut found = Found::default();
        let mut unread = Unread::new(self.clip.device());
        let mut count = inputs::Count::new(self.control, items.len());
        for items in items.chunks(inputs::batch_on(self.clip.device())) {
            self.go_on()?;
            let (mut known, mut rows) = (Vec::new(), Vec::new());
            for item in items {
                if let Some(row) = features.row(item)? {
                    known.push(item);
                    rows.push(row);
                }
            }
            found.skipped += items.len() - known.len();
            count.add(items.len());
            if known.is_empty() {
                continue;
            }
            let features = features.features.index_select(0, &Tensor::from_slice(&rows));
            let logits = self.evaluator.logits_of_features(&inputs::send(&features, self.clip.device()));
            found.rows.extend(predictions(unread.add((known, logits)))?);
        }
        found.rows.extend(predictions(unread.take())?);
        Ok(found)
    }

    /// Stops where the run asks for it.
    fn go_on(&self) -> Result<()> {
        if self.control.is_stopping() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What the images of batches are taken for, given their logits `(B, classes)`.
pub(crate) fn predictions(batches: Vec<(Vec<&Indexed>, Tensor)>) -> Result<Vec<(&Indexed, Prediction)>> {
    let mut rows = Vec::new();
    for (items, logits) in batches {
        let logits = logits.to_device(Device::Cpu).to_kind(Kind::Float);
        let classes = logits.size()[1] as usize;
        let logits: Vec<f32> = Vec::try_from(logits.reshape([-1])).map_err(torch)?;
        for (item, logits) in items.into_iter().zip(logits.chunks(classes)) {
            rows.push((item, Prediction::new(logits).ok_or_else(|| not_finite(&item.path))?));
        }
    }
    Ok(rows)
}

/// There is nothing to measure.
fn no_images(location: &Path, stage: &Eval, of: usize) -> Error {
    let Eval { classes, split, .. } = stage;
    let (folder, number) = (location.display(), classes.labels(of).len());
    Error::hinted(
        format!(
            "the data set in `{folder}` has no {split} images of its {classes} classes, which are {number} of {of}"
        ),
        format!("leave this data set out of the stage with `exclude`, or give it {split} images"),
    )
}

/// The model says nothing of an image.
fn not_finite(path: &str) -> Error {
    Error::hinted(
        format!("the logits of `{path}` are not finite"),
        "the weights or the trained prompt are damaged, or the training diverged",
    )
}
