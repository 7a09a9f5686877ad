//! What a learner is.

use tch::{Kind, Tensor};

use super::context::{ClassPrompts, Words};
use super::initial::LearnedTensors;
use super::loss::{Forward, Term};
use crate::clip::{Additions, Clip, VisionPrompts, normalised};
use maple_pipe::error::Result;
use maple_pipe::method::learnable::Tower;

/// What a learner adds to CLIP, and what it learns by. It is bound to a model and to the names of some classes.
///
/// What only a training needs (features of a teacher, say) is made when the loss is first asked for.
pub(super) trait Learner {
    /// Prompts for the vision tower.
    fn vision_prompts(&self) -> VisionPrompts {
        VisionPrompts::default()
    }

    /// What is added to the blocks of a tower, as a step of a training has it.
    fn additions(&self, _tower: Tower) -> Additions {
        Additions::default()
    }

    /// The text of the classes, given normalised image features `(B, embedding)`.
    fn text(&self, image_features: &Tensor) -> Text<'_>;

    /// Whether [`Learner::text`] depends on the images, in which case it yields a context for each.
    fn per_image(&self) -> bool {
        false
    }

    /// Logits `(B, classes)` of a batch.
    fn logits(&self, features: &Features<'_>) -> Tensor {
        features.cosines()
    }

    /// Takes up the sample that is to be learned from, before the first of so many epochs and without gradients; of a training
    /// that goes on, the learned tensors get their values behind it. Without any epoch, what is learned is found now.
    ///
    /// # Errors
    /// When it cannot be found.
    fn fit(&mut self, _clip: &Clip, _sample: Sample, _epochs: u32) -> Result<()> {
        Ok(())
    }

    /// What it has found in another way than by steps, for a note.
    fn found(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// The terms of the loss of a batch.
    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        vec![forward.cross_entropy()]
    }

    /// Whether a step goes along what [`Learner::direction`] makes of the gradient of each term, and not along the gradient of
    /// the terms' weighted sum.
    fn takes_terms_apart(&self) -> bool {
        false
    }

    /// What a learned tensor moves along, given its gradient by each term, without their weights. It reads nothing from the
    /// device, and computes the same at every step.
    fn direction(&self, of_terms: &[Tensor]) -> Tensor {
        of_terms[0].shallow_clone()
    }

    /// Hears of every step, before gradients are on again. The learned tensors have moved, unless the step was left out. It
    /// reads nothing from the device, and computes the same at every step: on a card its operations are recorded once.
    fn after_step(&mut self) {}

    /// Hears of the end of every epoch, from 1; what it writes to the learned tensors stays there.
    fn after_epoch(&mut self, _epoch: u32, _epochs: u32) {}

    /// The tensors that a training needs to go on beside the learned ones; a resumed training finds in them what they held.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}

/// What logits are made of.
pub(super) struct Features<'a> {
    pub(super) clip: &'a Clip,
    /// Of the images, `(B, embedding)`, of any length.
    pub(super) images: &'a Tensor,
    /// The same, normalised.
    pub(super) normalised: &'a Tensor,
    /// Of the classes, normalised, `(1, classes, embedding)`, or `(B, classes, embedding)` where they depend on the image.
    pub(super) classes: &'a Tensor,
}

impl Features<'_> {
    /// CLIP's logits.
    pub(super) fn cosines(&self) -> Tensor {
        let products = match self.classes.size()[0] {
            1 => self.normalised.matmul(&self.classes.squeeze_dim(0).tr()),
            _ => self.classes.matmul(&self.normalised.unsqueeze(-1)).squeeze_dim(-1),
        };
        self.clip.logit_scale() * products
    }

    /// The features of the images in fp32, whatever the precision of the towers.
    pub(super) fn wide_images(&self) -> Tensor {
        self.images.to_kind(Kind::Float)
    }

    /// CLIP's logits of other image features, and of class features that all images share, in fp32.
    pub(super) fn wide_cosines(&self, images: &Tensor) -> Tensor {
        wide_cosines(self.clip, images, &self.classes.squeeze_dim(0))
    }
}

/// CLIP's logits `(B, classes)` of image features `(B, embedding)` and class features `(classes, embedding)`, of any length,
/// in fp32.
pub(super) fn wide_cosines(clip: &Clip, images: &Tensor, classes: &Tensor) -> Tensor {
    let [images, classes] = [images, classes].map(|features| normalised(&features.to_kind(Kind::Float)));
    clip.logit_scale().to_kind(Kind::Float) * images.matmul(&classes.tr())
}

/// The images of a few-shot sample, as their features.
#[derive(Debug)]
pub struct Sample {
    /// Of the views that the epochs see, `(views, images, embedding)`, of any length.
    pub views: Tensor,
    /// `(images,)`.
    pub labels: Tensor,
    /// Images by which something is chosen, where the learner asks for them.
    pub validation: Option<Labelled>,
    /// Test images, by which published code chooses something, where the learner asks for them.
    pub test: Option<Labelled>,
}

/// Images with their labels.
#[derive(Debug)]
pub struct Labelled {
    /// `(n, embedding)`, of any length.
    pub features: Tensor,
    /// `(n,)`.
    pub labels: Tensor,
}

impl Labelled {
    /// How many of them logits `(n, classes)` tell rightly, without axes.
    pub(super) fn correct(&self, logits: &Tensor) -> Tensor {
        logits.argmax(-1, false).eq_tensor(&self.labels).sum(Kind::Int64)
    }
}

/// The text side of a learner.
pub(super) enum Text<'a> {
    /// Features `(classes, embedding)` that no text tower makes in a step.
    Fixed(Tensor),
    /// Prompts to run through the text tower.
    Prompts {
        prompts: &'a ClassPrompts,
        /// See [`ClassPrompts::features`].
        context: Tensor,
        /// `deep[i]` replaces the context before block `i + 1`; see [`crate::clip::Clip::prompt_features`].
        deep: Vec<Tensor>,
    },
}

/// The text of the classes where no word of it is learned.
pub(super) enum TemplateText {
    /// Features that never change, `(classes, embedding)`.
    Fixed(Tensor),
    /// Prompts for a text tower that changes, and a context of no tokens.
    Prompts(ClassPrompts, Tensor),
}

impl TemplateText {
    /// What a learner says of it.
    pub(super) fn text(&self) -> Text<'_> {
        match self {
            TemplateText::Fixed(features) => Text::Fixed(features.shallow_clone()),
            TemplateText::Prompts(prompts, context) => {
                Text::Prompts { prompts, context: context.shallow_clone(), deep: Vec::new() }
            }
        }
    }
}

impl Words<'_> {
    /// A template such as "a photo of a {}." for each class; `changes` says whether the text tower does.
    ///
    /// # Errors
    /// When a prompt is too long.
    pub(super) fn template_text(&self, template: &str, changes: bool) -> Result<TemplateText> {
        Ok(match changes {
            true => TemplateText::Prompts(self.fixed_prompts(template)?, self.no_context()),
            false => TemplateText::Fixed(self.fixed_features(template)?),
        })
    }
}

/// What learners read beside images and weights, as their [`maple_pipe::method::Input`]s name it.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The data set's own template, such as "a photo of a {}."; empty where nobody reads it.
    pub template: String,
    /// The images of the sample that it was or is to be trained on, where it keeps something of each.
    pub images: usize,
}

/// What a learner is made from, beside its options.
pub(super) struct Parts<'a> {
    pub(super) words: Words<'a>,
    pub(super) learned: &'a LearnedTensors,
    pub(super) inputs: &'a Inputs,
    /// For what is drawn at random.
    pub(super) seed: u64,
}
