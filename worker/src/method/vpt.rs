//! Deep visual prompt tuning: learned tokens in the vision tower, a fixed text (`trainers/vpt.py` of the published code).

use tch::Tensor;

use super::context::Words;
use super::initial::Initial;
use super::model::{Adaptation, Text};
use crate::clip::{Clip, VisionPrompts};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::vision_names;

/// The text of every data set.
const TEMPLATE: &str = "a photo of a {}.";

/// Learned tokens of the vision tower, one set a block.
pub(super) struct LearnedVision {
    /// Each `(n, vision width)`; the first is the shallow one; none at depth 0.
    sets: Vec<(String, Tensor)>,
}

impl LearnedVision {
    /// Tokens for the first `depth` blocks.
    pub(super) fn new(clip: &Clip, initial: &Initial, length: i64, depth: i64) -> LearnedVision {
        let names = vision_names(depth);
        let width = clip.architecture().vision_width;
        let sets = names.map(|name| (name.clone(), initial.wide().context(&name, &[length, width])));
        LearnedVision { sets: sets.collect() }
    }

    pub(super) fn learnable(&self) -> Vec<(String, Tensor)> {
        self.sets.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    pub(super) fn prompts(&self) -> VisionPrompts {
        let mut sets = self.sets.iter().map(|(_, tensor)| tensor.shallow_clone());
        VisionPrompts { shallow: sets.next(), deep: sets.collect() }
    }
}

/// The learned tokens and the features of each class's text.
pub(super) struct Vpt {
    vision: LearnedVision,
    class_features: Tensor,
}

impl Vpt {
    pub(super) fn new(words: Words, initial: &Initial, length: i64, depth: i64) -> Result<Vpt> {
        let vision = LearnedVision::new(words.clip, initial, length, depth);
        Ok(Vpt { vision, class_features: words.fixed_features(TEMPLATE)? })
    }
}

impl Adaptation for Vpt {
    fn learnable(&self) -> Vec<(String, Tensor)> {
        self.vision.learnable()
    }

    fn vision_prompts(&self) -> VisionPrompts {
        self.vision.prompts()
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.class_features.shallow_clone())
    }
}
