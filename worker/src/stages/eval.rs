//! Runs an `eval` stage: text features once, then logits of every test image, batch by batch.

use std::time::Instant;

use tch::{Device, Kind};

use super::events::events;
use super::inputs;
use crate::Control;
use crate::clip::{Tokenizer, Weights, torch};
use crate::method::{Model, prompt};
use maple_pipe::data::{Classes, Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::evaluation::{ClassMetrics, Metrics, Prediction};
use maple_pipe::method::Learner;
use maple_pipe::stages::dataset::{Index, Template, test_output};
use maple_pipe::stages::eval::Eval;
use maple_pipe::task::Task;

/// Test images a batch, as in the published code.
const BATCH: usize = 100;

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Eval = task.parameters()?;
    let all_names: Vec<String> = task.json("dataset.classes")?;
    let class_names = stage.classes.names(&all_names);
    let items: Index = task.json(&format!("dataset.{}", test_output(stage.classes)))?;
    if items.is_empty() {
        return Err(no_images(task, stage.classes, all_names.len()));
    }
    let tokenizer = Tokenizer::new();
    let clip;
    let model = match &stage.method {
        Some(method) => {
            let template = match method.learner {
                Learner::ZeroShot { dataset_template: true, .. } => task.json::<Template>("dataset.template")?,
                _ => String::new(),
            };
            clip = inputs::clip(task, device, method.precision)?;
            Model::new(&clip, &tokenizer, method, class_names, &template, 0)?
        }
        None => {
            let trained = Weights::read(&task.one("prompt.prompt").path)?;
            let description = prompt::describe(&trained)?;
            clip = inputs::clip(task, device, description.method.precision)?;
            let mut model = Model::new(&clip, &tokenizer, &description.method, class_names, "", 0)?;
            prompt::unpack(&trained, &description, &mut model, class_names)?;
            model
        }
    };
    let size = clip.architecture().image_size as u32;
    let loader = Loader::new(&task.one("dataset.location").path, items, Transform::Evaluation { size }, 0, 0);
    let mut loader = loader.on_bad_image(stage.on_bad_image);
    if let Some(cache) = &task.pixels {
        loader = loader.prepared(cache, &|| control.is_stopping())?;
    }
    let evaluator = model.evaluator();
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let (mut items, mut predictions) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
    let started = Instant::now();
    let waited = loader.each_batch(places.chunks(BATCH), 0, |batch| {
        if control.is_stopping() {
            return Err(Error::Interrupted);
        }
        let batch_items = batch.places.iter().map(|&place| &loader.items()[place]);
        items.extend(batch_items.clone());
        let (images, _) = inputs::tensors(batch, clip.device());
        let logits = evaluator.logits(&images).to_device(Device::Cpu).to_kind(Kind::Float);
        let logits: Vec<f32> = Vec::try_from(logits.reshape([-1])).map_err(torch)?;
        for (item, logits) in batch_items.zip(logits.chunks(class_names.len())) {
            predictions.push(Prediction::new(logits).ok_or_else(|| not_finite(&item.path))?);
        }
        Ok(())
    })?;
    let loading_wait = waited.as_secs_f64() / started.elapsed().as_secs_f64();
    if items.is_empty() {
        return Err(Error::invalid("none of the test images could be decoded"));
    }
    let pairs = items.iter().zip(&predictions).map(|(item, prediction)| (item.label, prediction.label()));
    let counts = ClassMetrics::count(class_names, pairs);
    let metrics = Metrics { skipped: loader.skipped().len(), ..Metrics::new(stage.classes, &counts) };
    events(task, 0)
        .scalars(0, &[("accuracy", metrics.accuracy), ("macro_f1", metrics.macro_f1), ("loading_wait", loading_wait)]);
    task.write_json("metrics", &metrics)?;
    task.write_csv("per-class", counts)?;
    task.write_csv("predictions", items.iter().zip(&predictions).map(|(item, one)| one.row(item, class_names)))?;
    Ok(format!("accuracy {:.1}", metrics.accuracy) + &inputs::skipped(&loader))
}

/// There is nothing to measure.
fn no_images(task: &Task, classes: Classes, of: usize) -> Error {
    let (folder, number) = (task.one("dataset.location").path.display(), classes.labels(of).len());
    Error::hinted(
        format!("the data set in `{folder}` has no test images of its {classes} classes, which are {number} of {of}"),
        "leave this data set out of the stage with `exclude`, or give it test images",
    )
}

/// The model says nothing of an image.
fn not_finite(path: &str) -> Error {
    Error::hinted(
        format!("the logits of `{path}` are not finite"),
        "the weights or the trained prompt are damaged, or the training diverged",
    )
}
