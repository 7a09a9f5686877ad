//! Trained prompts as files: `maple_pipe::method::prompt` says what is in them.

use super::learner::Inputs;
use super::model::Model;
use crate::clip::Weights;
use maple_pipe::error::{Error, Result};
use maple_pipe::method::Description;
use maple_pipe::method::learnable::Length;

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
    Description::parse(prompt.note(), prompt.origin())
}

/// What a model reads beside images and weights to take up a trained prompt.
pub fn inputs(prompt: &Weights, description: &Description) -> Inputs {
    let learned = description.method.learner.learnable();
    let of_images = learned.iter().find_map(|(name, axes)| {
        let axis = axes.iter().position(|axis| *axis == Length::Images)?;
        prompt.get(name)?.size().get(axis).copied()
    });
    Inputs { images: of_images.unwrap_or(0) as usize, ..Inputs::default() }
}

/// Puts a trained prompt into `model`, which was made for `description.method` and `class_names`.
///
/// # Errors
/// When the prompt is bound to other classes, or a tensor's name or shape differs.
pub fn unpack(prompt: &Weights, description: &Description, model: &mut Model, class_names: &[String]) -> Result<()> {
    if !description.classes.is_empty() && description.classes != class_names {
        return Err(Error::hinted(
            format!("{} hold what was learned for each class, which serves its own classes alone", prompt.origin()),
            "evaluate it on the classes that it was trained on; in CoOp, `class_specific_context = false` serves any",
        ));
    }
    model.load(prompt)
}
