//! A trained prompt as a file: the learned tensors under their published names, with the method that they belong to.
//!
//! The tensors know nothing of the classes that they were trained on, so they serve novel classes and other data sets.
//! The exception is CoOp's class-specific context, which belongs to its own classes in their order.

use serde::{Deserialize, Serialize};

use super::model::Model;
use crate::clip::Weights;
use maple_pipe::error::{Error, Result};
use maple_pipe::method::{Learner, Method};

/// What the file says about its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The method that trained the prompt.
    pub method: Method,
    /// How many epochs it was trained for.
    pub epoch: u32,
    /// The classes it is bound to; empty where it serves any.
    pub classes: Vec<String>,
}

impl Description {
    /// Describes what `method` has learned on `class_names` after `epoch` epochs.
    pub fn new(method: &Method, epoch: u32, class_names: &[String]) -> Description {
        let bound = matches!(method.learner, Learner::Coop { class_specific_context: true, .. });
        let classes = if bound { class_names.to_vec() } else { Vec::new() };
        Description { method: method.clone(), epoch, classes }
    }
}

/// The learned tensors of `model` and their description, ready to be written.
///
/// # Errors
/// When the description cannot be written as JSON.
pub fn pack(model: &Model, description: &Description) -> Result<Weights> {
    let note = serde_json::to_string(description).map_err(|error| Error::invalid(error.to_string()))?;
    let tensors = model.learnable().into_iter().map(|(name, tensor)| (name, tensor.detach().copy()));
    Ok(Weights::from_tensors(tensors).with_note(note))
}

/// What a trained prompt says of itself.
///
/// # Errors
/// When the file is none of ours.
pub fn describe(prompt: &Weights) -> Result<Description> {
    let note = prompt.note().ok_or_else(|| {
        Error::hinted(
            format!("{} are no trained prompt: they name no method", prompt.origin()),
            "train the prompt again",
        )
    })?;
    serde_json::from_str(note)
        .map_err(|error| Error::invalid(format!("{} describe themselves wrongly: {error}", prompt.origin())))
}

/// Puts a trained prompt into `model`, which was made for `description.method` and `class_names`.
///
/// # Errors
/// When the prompt is bound to other classes, or a tensor's name or shape differs.
pub fn unpack(prompt: &Weights, description: &Description, model: &mut Model, class_names: &[String]) -> Result<()> {
    if !description.classes.is_empty() && description.classes != class_names {
        return Err(Error::hinted(
            format!("{} hold a class-specific context, which serves its own classes alone", prompt.origin()),
            "evaluate it on the classes that it was trained on, or set `class_specific_context = false`",
        ));
    }
    model.load(prompt)
}
