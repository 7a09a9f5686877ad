//! The CLIP model of a task together with what the task puts into it: a trained prompt, or a method that needs no training.

use std::path::Path;
use std::rc::Rc;

use tch::Device;

use super::models;
use crate::clip::{Clip, Tokenizer, Weights};
use crate::method::{Inputs, Model, prompt};
use maple_pipe::backbone::BackboneOptions;
use maple_pipe::error::Result;
use maple_pipe::method::{Description, Input, Method};
use maple_pipe::stages::dataset::Template;
use maple_pipe::task::Task;

/// A model that has not been bound to classes yet.
pub(super) struct Prompted {
    pub(super) clip: Rc<Clip>,
    source: Source,
}

/// What a method that needs no training reads of the task's data set.
pub(super) fn texts(task: &Task, method: &Method) -> Result<Inputs> {
    let mut texts = Inputs::default();
    for input in method.learner.inputs() {
        match input {
            Input::Template => texts.template = task.json::<Template>("dataset.template")?,
        }
    }
    Ok(texts)
}

/// Where what is in the model comes from.
enum Source {
    Method(Box<Method>, Inputs),
    Prompt(Trained),
}

/// A trained prompt.
pub(crate) struct Trained {
    weights: Weights,
    pub(crate) description: Box<Description>,
}

impl Trained {
    /// That in a file.
    pub(crate) fn read(path: &Path) -> Result<Trained> {
        let weights = Weights::read(path)?;
        let description = Box::new(prompt::describe(&weights)?);
        Ok(Trained { weights, description })
    }

    /// Its learner with these classes, in a CLIP model as its training left it.
    pub(crate) fn model<'a>(&self, clip: &'a Clip, class_names: &[String]) -> Result<Model<'a>> {
        let Trained { weights, description } = self;
        let inputs = prompt::inputs(weights, description);
        let mut model = Model::new(clip, &Tokenizer::new(), &description.method, class_names, &inputs, 0)?;
        prompt::unpack(weights, description, &mut model, class_names)?;
        Ok(model)
    }
}

impl Prompted {
    /// That of a task: of its input `prompt`, where the stage names no method.
    pub(super) fn of(
        task: &Task,
        method: Option<&Method>,
        backbone: &BackboneOptions,
        device: Device,
    ) -> Result<Prompted> {
        if let Some(method) = method {
            let texts = texts(task, method)?;
            let clip = models::clip(task, backbone, device, method.precision)?;
            return Ok(Prompted { clip, source: Source::Method(Box::new(method.clone()), texts) });
        }
        let trained = Trained::read(&task.one("prompt.prompt").path)?;
        let method = &trained.description.method;
        let clip = models::averaged_clip(task, backbone, device, method.precision, method.clip_average())?;
        Ok(Prompted { clip, source: Source::Prompt(trained) })
    }

    /// The model for these classes.
    pub(super) fn model(&self, class_names: &[String]) -> Result<Model<'_>> {
        match &self.source {
            Source::Method(method, inputs) => Model::new(&self.clip, &Tokenizer::new(), method, class_names, inputs, 0),
            Source::Prompt(trained) => trained.model(&self.clip, class_names),
        }
    }
}
