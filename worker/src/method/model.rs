//! A learner bound to a CLIP model and to the names of some classes: what is learned, and logits of images.

use tch::{Kind, Tensor, no_grad};

use super::context::{ClassPrompts, Words};
use super::initial::Initial;
use super::{cocoop, coop, ivlp, maple, vpt, zero_shot};
use crate::clip::{Clip, Tokenizer, VisionPrompts, Weights, normalised, torch};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::{Learner, Method, Precision};

/// How many rows of the text tower an evaluation works on at a time where every image has prompts of its own.
const ROWS_AT_A_TIME: i64 = 32_768;

/// What a learner adds to CLIP.
pub(super) trait Adaptation {
    /// What is learned, under the published names and in their order.
    fn learnable(&self) -> Vec<(String, Tensor)>;

    /// Prompts for the vision tower.
    fn vision_prompts(&self) -> VisionPrompts {
        VisionPrompts::default()
    }

    /// The text of the classes, given normalised image features `(B, embedding)`.
    fn text(&self, image_features: &Tensor) -> Text<'_>;

    /// Whether [`Adaptation::text`] depends on the images, in which case it yields a context for each.
    fn per_image(&self) -> bool {
        false
    }
}

/// The text side of a learner.
pub(super) enum Text<'a> {
    /// Features `(classes, embedding)` that never change.
    Fixed(Tensor),
    /// Prompts to run through the text tower.
    Prompts {
        prompts: &'a ClassPrompts,
        /// See [`ClassPrompts::features`].
        context: Tensor,
        /// `deep[i]` replaces the context before block `i + 1`.
        deep: Vec<Tensor>,
    },
}

/// A learner with its classes, on a CLIP model whose own weights stay as they are.
pub struct Model<'a> {
    clip: &'a Clip,
    adaptation: Box<dyn Adaptation>,
}

impl<'a> Model<'a> {
    /// Binds `method` to the classes. What is learned starts as in the published code, random numbers from `seed`.
    ///
    /// `template`, such as "a photo of a {}.", is the text of the zero-shot learner alone; all others have their own.
    ///
    /// # Errors
    /// When the method does not fit the model, or the prompt of a class (which the message names) is too long.
    pub fn new(
        clip: &'a Clip,
        tokenizer: &Tokenizer,
        method: &Method,
        class_names: &[String],
        template: &str,
        seed: u64,
    ) -> Result<Model<'a>> {
        method.validate()?;
        method.learner.fits(clip.architecture())?;
        let (vocabulary, last) = (clip.architecture().vocabulary, tokenizer.end_of_text());
        if vocabulary <= last {
            return Err(Error::hinted(
                format!("the text tower knows {vocabulary} words, fewer than the tokenizer's {}", last + 1),
                "use weights with a whole vocabulary",
            ));
        }
        let words = Words { clip, tokenizer, class_names };
        assert_eq!(clip.precision(), method.precision, "a model computes as its method says");
        let kind = if method.precision == Precision::Fp16 { Kind::Half } else { Kind::Float };
        let initial = Initial { seed, device: clip.device(), kind };
        let adaptation: Box<dyn Adaptation> = match &method.learner {
            Learner::ZeroShot { templates, dataset_template } => {
                let own = dataset_template.then_some(template);
                let templates: Vec<&str> = templates.iter().map(String::as_str).chain(own).collect();
                Box::new(zero_shot::ZeroShot::new(words, &templates)?)
            }
            Learner::Coop { context_length, context_initial_words, class_token_position, class_specific_context } => {
                let arrangement = super::context::Arrangement {
                    length: *context_length,
                    position: *class_token_position,
                    class_specific: *class_specific_context,
                };
                Box::new(coop::Coop::new(words, &initial, context_initial_words, arrangement)?)
            }
            Learner::Cocoop { context_length, context_initial_words } => {
                Box::new(cocoop::Cocoop::new(words, &initial, context_initial_words, *context_length)?)
            }
            Learner::Vpt { vision_context_length, vision_depth } => {
                Box::new(vpt::Vpt::new(words, &initial, *vision_context_length, *vision_depth)?)
            }
            Learner::Ivlp { context_length, context_initial_words, depth, vision_context_length, vision_depth } => {
                let vision = vpt::LearnedVision::new(clip, &initial, *vision_context_length, *vision_depth);
                Box::new(ivlp::Ivlp::new(words, &initial, context_initial_words, *context_length, *depth, vision)?)
            }
            Learner::Maple { context_length, context_initial_words, depth } => {
                Box::new(maple::Maple::new(words, &initial, context_initial_words, *context_length, *depth)?)
            }
        };
        Ok(Model { clip, adaptation })
    }

    /// The learned tensors (leaves that ask for gradients), under the published names and in their order.
    pub fn learnable(&self) -> Vec<(String, Tensor)> {
        self.adaptation.learnable()
    }

    /// Gives the learned tensors the values of `trained`.
    ///
    /// # Errors
    /// When a name or a shape differs; nothing has changed then.
    pub fn load(&mut self, trained: &Weights) -> Result<()> {
        let learnable = self.learnable();
        let tensors: Vec<Tensor> = learnable.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        copy_into(&learnable, &tensors, trained)
    }

    /// Whether the vision tower works as in plain CLIP, so that image features may be computed once and kept.
    pub fn has_plain_vision(&self) -> bool {
        self.adaptation.vision_prompts().shallow.is_none()
    }

    /// Images `(B, 3, R, R)` to logits `(B, classes)`, for training.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        self.logits_of_features(&self.image_features(images))
    }

    /// Features of images `(B, embedding)`, with the learned prompts in the vision tower, of any length.
    pub fn image_features(&self, images: &Tensor) -> Tensor {
        self.clip.image_features_with(images, &self.adaptation.vision_prompts())
    }

    /// Image features `(B, embedding)` of any length to logits `(B, classes)`.
    pub fn logits_of_features(&self, image_features: &Tensor) -> Tensor {
        let image_features = normalised(image_features);
        self.compare(&image_features, &self.class_features(&image_features))
    }

    /// [`Model::logits`] through the text tower as published, all 77 positions of every class. Slow; tests compare.
    pub fn logits_reference(&self, images: &Tensor) -> Tensor {
        let image_features = normalised(&self.image_features(images));
        let class_features = match self.adaptation.text(&image_features) {
            Text::Fixed(features) => features.unsqueeze(0),
            Text::Prompts { prompts, context, deep } => prompts.features_reference(self.clip, &context, &deep),
        };
        self.compare(&image_features, &normalised(&class_features))
    }

    /// Readies the model for many batches: what depends on the classes alone is computed now, without gradients.
    pub fn evaluator(&self) -> Evaluator<'_> {
        let class_features = (!self.adaptation.per_image()).then(|| {
            let no_images =
                Tensor::zeros([0, self.clip.architecture().embedding], (self.clip.kind(), self.clip.device()));
            no_grad(|| self.class_features(&no_images))
        });
        Evaluator { model: self, class_features }
    }

    /// Normalised features of the classes, `(1, classes, embedding)` or `(B, classes, embedding)`.
    fn class_features(&self, image_features: &Tensor) -> Tensor {
        normalised(&match self.adaptation.text(image_features) {
            Text::Fixed(features) => features.unsqueeze(0),
            Text::Prompts { prompts, context, deep } => prompts.features(self.clip, &context, &deep),
        })
    }

    /// Logits of normalised features.
    fn compare(&self, image_features: &Tensor, class_features: &Tensor) -> Tensor {
        let products = match class_features.size()[0] {
            1 => image_features.matmul(&class_features.squeeze_dim(0).tr()),
            _ => class_features.matmul(&image_features.unsqueeze(-1)).squeeze_dim(-1),
        };
        self.clip.logit_scale() * products
    }

    /// How many images may be evaluated at a time.
    fn images_at_a_time(&self, image_features: &Tensor) -> i64 {
        match self.adaptation.text(&image_features.narrow(0, 0, 0)) {
            Text::Prompts { prompts, .. } if self.adaptation.per_image() => {
                (ROWS_AT_A_TIME / prompts.row_count()).max(1)
            }
            _ => image_features.size()[0].max(1),
        }
    }
}

/// A model whose learned tensors stay as they are: logits without gradients.
pub struct Evaluator<'a> {
    model: &'a Model<'a>,
    /// Normalised, `(1, classes, embedding)`; absent where they depend on the image.
    class_features: Option<Tensor>,
}

impl Evaluator<'_> {
    /// Images `(B, 3, R, R)` to logits `(B, classes)`, in fp32 whatever the precision.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        no_grad(|| self.logits_of_features(&self.model.image_features(images)))
    }

    /// Image features `(B, embedding)` of any length to logits `(B, classes)`, in fp32 whatever the precision.
    pub fn logits_of_features(&self, image_features: &Tensor) -> Tensor {
        let logits = no_grad(|| match &self.class_features {
            Some(class_features) => self.model.compare(&normalised(image_features), class_features),
            None => {
                let parts = image_features.split(self.model.images_at_a_time(image_features), 0);
                let logits: Vec<Tensor> = parts.iter().map(|part| self.model.logits_of_features(part)).collect();
                Tensor::cat(&logits, 0)
            }
        });
        logits.to_kind(Kind::Float)
    }
}

/// The cross-entropy of logits `(B, classes)` for labels `(B,)`, the mean over the batch.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Float).nll_loss(labels)
}

/// Copies `values` into `tensors`, which have the names of `named`.
///
/// # Errors
/// When a name or a shape differs; nothing has changed then.
pub(super) fn copy_into(named: &[(String, Tensor)], tensors: &[Tensor], values: &Weights) -> Result<()> {
    let expected: Vec<(String, Vec<i64>)> = named.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    values.shapes().expect(&expected)?;
    no_grad(|| {
        for ((name, _), tensor) in named.iter().zip(tensors) {
            if let Some(value) = values.get(name) {
                tensor.shallow_clone().f_copy_(value).map_err(torch)?;
            }
        }
        Ok(())
    })
}
