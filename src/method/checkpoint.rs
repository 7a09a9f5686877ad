//! The checkpoints of the published code that trained prompts are written as.

use super::learnable::TensorShapes;
use super::options::CheckpointLayout;
use super::{Learner, Prompt};
use crate::error::{Error, Result};
use crate::text::did_you_mean;
use crate::weights::to_torch_archive;

/// A trained prompt as published code keeps it.
#[derive(Debug)]
pub struct PublishedCheckpoint {
    /// The learner whose code loads it.
    pub learner: &'static str,
    /// The folder in which that code looks for it.
    pub folder: &'static str,
    /// The epoch that it is of.
    pub epoch: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Prompt {
    /// The checkpoint that the published code of a learner loads, or of the prompt's own where none is named. It holds the learned
    /// tensors alone, because that code makes everything else anew and loads with `strict=False`; beside them it holds what the
    /// prompt says of itself, so that [`Prompt::import`] gives the same bytes again.
    ///
    /// # Errors
    /// When the file is no trained prompt, when no published code is known that loads it, or when the learner that is named has
    /// other tensors.
    pub fn export(&self, like: Option<&str>) -> Result<PublishedCheckpoint> {
        let description = self.description().ok_or_else(|| {
            Error::hinted(
                format!("{} are no trained prompt: they name no method", self.origin()),
                "`maple-pipe prompts import` makes one of a published checkpoint",
            )
        })?;
        let named = like.unwrap_or(description.method.learner.name());
        let (learner, layout) = layout(named)?;
        let shapes = self.tensors().iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect();
        let alike = Learner::of_tensors(&TensorShapes(shapes));
        if alike.iter().all(|one| one.name() != learner) {
            let names: Vec<String> = alike.iter().map(|one| format!("`{}`", one.name())).collect();
            return Err(Error::hinted(
                format!("{} hold other tensors than a checkpoint of `{learner}`", self.origin()),
                format!("they are as in a checkpoint of: {}", names.join(", ")),
            ));
        }
        let named = |name: &String| layout.name(name).to_owned();
        let state_dict = self.tensors().iter().map(|(name, array)| (named(name), array.clone())).collect();
        let note = serde_json::to_string(description).expect("a description is plain data");
        let bytes = to_torch_archive(&state_dict, description.epoch, &note)?;
        Ok(PublishedCheckpoint { learner, folder: layout.folder, epoch: description.epoch, bytes })
    }
}

/// How the published code of a learner keeps it.
fn layout(learner: &str) -> Result<(&'static str, CheckpointLayout)> {
    Learner::layouts().find(|(name, _)| *name == learner).ok_or_else(|| {
        let names: Vec<&str> = Learner::layouts().map(|(name, _)| name).collect();
        let listed = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Error::hinted(
            format!("no published code is known that loads checkpoints of `{learner}`"),
            did_you_mean(learner, &names).unwrap_or_else(|| format!("it is known for: {}", listed())),
        )
    })
}
