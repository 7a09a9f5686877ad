//! Runs a `train` stage: epochs over the few-shot sample, or what a learner finds without any. The state is kept after every
//! epoch, and when the run is asked to stop, after the step it is at.

mod course;
mod position;
mod views;

use tch::Device;

use super::inputs::{self, Known};
use super::models;
use crate::Control;
use crate::clip::Tokenizer;
use crate::method::{Inputs, Model, Trainer, prompt};
use course::{Course, Plan};
use maple_pipe::data::{Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::{Description, Training};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::train::{Epoch, Train};
use maple_pipe::task::Task;
use views::Views;

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
    let lacking = views.as_ref().map_or(0, Views::lacking);
    let read = Inputs { images: items.len() - lacking, ..Inputs::default() };
    let mut model = Model::new(&clip, &Tokenizer::new(), &stage.method, &class_names, &read, stage.seed)?;
    if let Some(views) = views.as_ref().filter(|_| works_on_features) {
        model.fit(views.sample(task, &items)?, epochs)?;
    }
    let (model, log, skipped) = match &stage.method.training {
        None => (model, Vec::new(), lacking),
        Some(training) => {
            let size = clip.backbone().preprocessing.size;
            let transform = Transform::Training { size, augmentation: stage.method.augmentation };
            let folder = &task.one("shots.location").path;
            let loader = Loader::new(folder, items, transform, stage.seed, inputs::CACHE_BYTES);
            let loader = match epochs <= views.as_ref().map_or(0, Views::epochs) {
                true => loader,
                false => inputs::ready(loader, task, &clip, stage.on_bad_image, control)?,
            };
            let trainer = Trainer::new(model, training, stage.method.precision);
            let plan = Plan { training, loader: &loader, views: views.as_ref(), control };
            let (model, log) = Course::begin(plan, trainer, task, device).run(&inputs::Upload::new(&loader, device))?;
            inputs::warn_of_skipped(&loader);
            (model, log, loader.skipped().len().max(lacking))
        }
    };
    prompt::pack(&model, &Description::new(&stage.method, epochs, &class_names))?.write(&task.output("prompt"))?;
    write_log(task, &log)?;
    let loss = log.last().map(|last| format!("loss {:.3}", last.loss));
    let words = |(name, value): (&str, f64)| format!("{name} {}", (value * 1e3).round() / 1e3);
    let found = model.found().into_iter().map(words);
    let note = loss.into_iter().chain(found).collect::<Vec<_>>().join(", ");
    Ok(note + &inputs::skipped_note(skipped))
}

/// Writes the training log, one JSON object per line.
fn write_log(task: &Task, log: &[Epoch]) -> Result<()> {
    let path = task.output("log");
    let lines = log.iter().map(|line| serde_json::to_string(line).expect("plain data") + "\n");
    std::fs::write(&path, lines.collect::<String>()).map_err(Error::io("write", &path))
}
