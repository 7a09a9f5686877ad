//! Deep visual prompt tuning: learned tokens in the vision tower, a fixed text (`trainers/vpt.py` of the published code).

use tch::Tensor;

use crate::clip::VisionPrompts;
use crate::method::initial::LearnedTensors;
use crate::method::learner::{Learner, Parts, Text};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::vision_name;
use maple_pipe::method::learners;

/// The text of every data set.
const TEMPLATE: &str = "a photo of a {}.";

/// Learned tokens of the vision tower, one set a block.
pub(super) struct LearnedVision {
    /// Each `(n, vision width)`; the first is the shallow one; none at depth 0.
    sets: Vec<Tensor>,
}

impl LearnedVision {
    /// The tokens for the first `depth` blocks.
    pub(super) fn new(learned: &LearnedTensors, depth: i64) -> LearnedVision {
        LearnedVision { sets: (0..depth).map(|block| learned.tensor(&vision_name(block))).collect() }
    }

    pub(super) fn prompts(&self) -> VisionPrompts {
        let mut sets = self.sets.iter().map(Tensor::shallow_clone);
        VisionPrompts { shallow: sets.next(), deep: sets.collect() }
    }
}

/// The learned tokens and the features of each class's text.
pub(super) struct Vpt {
    vision: LearnedVision,
    class_features: Tensor,
}

impl Vpt {
    pub(super) fn new(options: &learners::Vpt, parts: &Parts<'_>) -> Result<Vpt> {
        let vision = LearnedVision::new(parts.learned, options.vision_depth);
        Ok(Vpt { vision, class_features: parts.words.fixed_features(TEMPLATE)? })
    }
}

impl Learner for Vpt {
    fn vision_prompts(&self) -> VisionPrompts {
        self.vision.prompts()
    }

    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.class_features.shallow_clone())
    }
}
