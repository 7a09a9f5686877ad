//! What the options of a learner are.

use super::learnable::{Learned, TensorShapes};
use crate::architecture::Architecture;
use crate::data::SplitPart;
use crate::error::Result;

/// What follows from a learner's options alone. Everything of the options is in the keys of nodes: an option that comes
/// later has a default and `skip_serializing_if` it has that value, so that older keys stay (a test sees to it).
pub trait Options {
    /// Under what published names, in any depth, its tensors are found in a checkpoint; `*` stands for a number.
    const STEMS: &'static [&'static str];

    /// Under what published names, likewise, a checkpoint of it holds tensors that nothing uses. They tell which learner it is of,
    /// and are not imported.
    const LEFT_OVER: &'static [&'static str] = &[];

    /// The options that the shapes of its tensors tell.
    const TOLD: &'static [&'static str];

    /// Under what published names, in any depth, its checkpoints hold frozen tensors that those of other learners do not.
    const FROZEN: &'static [&'static str] = &[];

    /// How published code keeps it, where that is known.
    const LAYOUT: Option<CheckpointLayout> = None;

    /// Checks the values.
    ///
    /// # Errors
    /// Names the option that makes no sense, and what would.
    fn validate(&self) -> Result<()>;

    /// Checks that a model has room for what is learned.
    ///
    /// # Errors
    /// Names the option and the tower.
    fn fits(&self, _architecture: &Architecture) -> Result<()> {
        Ok(())
    }

    /// What is learned, in the published order; nothing where there is no training.
    fn learned(&self) -> Vec<Learned>;

    /// Whether the image tower works as in plain CLIP, so that image features may be computed once and shared.
    fn has_plain_vision(&self) -> bool;

    /// Whether every image has prompts of its own: they come of its features.
    fn has_texts_per_image(&self) -> bool {
        false
    }

    /// Whether it works behind the towers: its training takes all its image features from a `features` stage.
    fn works_on_features(&self) -> bool {
        false
    }

    /// Whether what is learned is found by steps down a loss.
    fn steps(&self) -> Steps {
        if self.learned().is_empty() { Steps::Never } else { Steps::Always }
    }

    /// The images by which a training chooses what steps do not find, such as the strength of a penalty.
    fn chooses_by(&self) -> &'static [SplitPart] {
        &[]
    }

    /// How many texts a class has.
    fn texts_per_class(&self) -> usize {
        1
    }

    /// What it reads beside images and weights.
    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    /// What a training asks of plain CLIP, beside what a step asks of the towers with what is learned there.
    fn teacher(&self) -> Teacher {
        Teacher::default()
    }

    /// The weights with which a training of so many epochs averages CLIP's own tensors over them; none where they stay as they
    /// are.
    fn clip_average(&self, _epochs: u32) -> Vec<f64> {
        Vec::new()
    }

    /// The options that tensors of these shapes have, if they may be of this learner; what they do not tell has its
    /// default. They may be of others as well: that with the fewest differences counts.
    fn of_tensors(shapes: &TensorShapes) -> Option<Self>
    where
        Self: Sized;
}

/// How published code keeps what it has trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointLayout {
    /// The folder of a model's checkpoints, which is the name that the model has in Dassl.
    pub folder: &'static str,
    /// What its names lack of the published ones: the module that a checkpoint holds alone.
    pub module: &'static str,
}

impl CheckpointLayout {
    /// The whole model under this name.
    pub(super) const fn whole(folder: &'static str) -> CheckpointLayout {
        CheckpointLayout { folder, module: "" }
    }

    /// The prompt learner alone, as CoOp's code and its successors keep it.
    pub(super) const PROMPT_LEARNER: CheckpointLayout =
        CheckpointLayout { folder: "prompt_learner", module: "prompt_learner." };

    /// The name that a tensor has in a checkpoint.
    pub(super) fn name(self, published: &str) -> &str {
        published.strip_prefix(self.module).unwrap_or(published)
    }
}

/// What a training asks of plain CLIP, whose features it compares with its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Teacher {
    /// Texts a class, once.
    pub texts: usize,
    /// Whether an evaluation asks for these, too.
    pub in_evaluations: bool,
    /// Whether the images of every step run through the image tower of plain CLIP, too.
    pub images: bool,
}

/// Whether a learner is trained by steps down a loss, as a table `[training]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// What it learns, if it learns anything, it finds in another way.
    Never,
    /// With a table `[training]`, by steps; without one, in another way.
    Maybe,
    /// By steps alone.
    Always,
}

/// What a learner may read beside images and weights: an output of its data set's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The data set's own zero-shot template.
    Template,
}

impl Input {
    /// The name of the output.
    pub fn output(self) -> &'static str {
        match self {
            Input::Template => "template",
        }
    }
}
