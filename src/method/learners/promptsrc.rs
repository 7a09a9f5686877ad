//! PromptSRC.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ivlp::{Ivlp, TEXT_BLOCKS};
use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::method::check::check_template;
use crate::method::learnable::{CONTEXT, Learned, TensorShapes, VISION, VISION_BLOCKS};
use crate::method::options::{CheckpointLayout, Options, Teacher};

/// PromptSRC: independent prompts in both towers, which are held near what plain CLIP says, and averaged over the epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptSrc {
    /// Learned tokens in the text tower.
    pub context_length: i64,
    /// Words whose embeddings the first context starts from; empty for a random start.
    #[serde(default)]
    pub context_initial_words: String,
    /// Blocks of the text tower that get learned tokens.
    pub depth: i64,
    /// Learned tokens in the vision tower.
    pub vision_context_length: i64,
    /// Blocks of the vision tower that get learned tokens.
    pub vision_depth: i64,
    /// Texts with `{}` for the class name, of which the mean feature is what plain CLIP says of a class; empty for the 60 of the
    /// published code, which are among OpenAI's 80.
    #[serde(default)]
    pub teacher_templates: Vec<String>,
    /// The weight of the mean distance between the features of texts and those that plain CLIP has of them.
    #[serde(default = "text_loss_weight")]
    pub text_loss_weight: f64,
    /// The weight of the mean distance between the features of images and those that plain CLIP has of them.
    #[serde(default = "image_loss_weight")]
    pub image_loss_weight: f64,
    /// The epoch, from 1, that counts most in the average: the mean of the normal distribution by which epochs are weighted.
    pub aggregation_mean: f64,
    /// The standard deviation of that distribution, in epochs.
    pub aggregation_deviation: f64,
    /// What is averaged.
    #[serde(default)]
    pub aggregate: Aggregate,
}

/// What PromptSRC averages over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// What is learned, in fp32.
    #[default]
    Prompts,
    /// The whole model, as published: what is learned and CLIP's own tensors, each in its own number format. CLIP's own are the
    /// same in every epoch, but in fp16 their average is rounded as often as there are epochs. An evaluation repeats that on
    /// its weights.
    All,
}

/// `TEMPLATES` of the published code: the first 60 of OpenAI's 80, with the plainest in front.
const TEACHER_TEMPLATES: [&str; 60] = [
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
];

const fn text_loss_weight() -> f64 {
    25.0
}

const fn image_loss_weight() -> f64 {
    10.0
}

impl PromptSrc {
    /// The prompts, which are those of independent prompting.
    pub fn prompts(&self) -> Ivlp {
        Ivlp {
            context_length: self.context_length,
            context_initial_words: self.context_initial_words.clone(),
            depth: self.depth,
            vision_context_length: self.vision_context_length,
            vision_depth: self.vision_depth,
        }
    }

    /// The texts of which the mean feature is what plain CLIP says of a class; `{}` stands for its name.
    pub fn teacher_templates(&self) -> Vec<&str> {
        match self.teacher_templates.as_slice() {
            [] => TEACHER_TEMPLATES.into(),
            own => own.iter().map(String::as_str).collect(),
        }
    }

    /// How much each of so many epochs counts in the average; together 1.
    pub fn epoch_weights(&self, epochs: u32) -> Vec<f64> {
        let exponent =
            |epoch: u32| -((f64::from(epoch) - self.aggregation_mean) / self.aggregation_deviation).powi(2) / 2.0;
        let exponents: Vec<f64> = (1..=epochs).map(exponent).collect();
        // The nearest epoch counts 1, so that the sum is no 0 wherever the mean lies.
        let most = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let densities: Vec<f64> = exponents.iter().map(|exponent| libm::exp(exponent - most)).collect();
        let sum: f64 = densities.iter().sum();
        densities.iter().map(|density| density / sum).collect()
    }
}

impl Options for PromptSrc {
    const STEMS: &'static [&'static str] = &[CONTEXT, VISION, VISION_BLOCKS, TEXT_BLOCKS];
    const TOLD: &'static [&'static str] = Ivlp::TOLD;
    const FROZEN: &'static [&'static str] = &["prompt_learner.ZS_image_encoder"];
    const LAYOUT: Option<CheckpointLayout> = Some(CheckpointLayout::whole("VLPromptLearner"));

    fn validate(&self) -> Result<()> {
        self.prompts().validate()?;
        self.teacher_templates.iter().try_for_each(|template| check_template(template))?;
        let (above, from_zero) = ("give a number above 0", "give a number from 0 up");
        let numbers = [
            ("text_loss_weight", self.text_loss_weight, self.text_loss_weight >= 0.0, from_zero),
            ("image_loss_weight", self.image_loss_weight, self.image_loss_weight >= 0.0, from_zero),
            ("aggregation_mean", self.aggregation_mean, true, "give a number"),
            ("aggregation_deviation", self.aggregation_deviation, self.aggregation_deviation > 0.0, above),
        ];
        match numbers.iter().find(|(_, value, is_enough, _)| !value.is_finite() || !is_enough) {
            Some((name, value, _, hint)) => Err(Error::hinted(format!("`{name}` is {value}"), *hint).about(*name)),
            None => Ok(()),
        }
    }

    fn fits(&self, architecture: &Architecture) -> Result<()> {
        self.prompts().fits(architecture)
    }

    fn has_plain_vision(&self) -> bool {
        self.prompts().has_plain_vision() && self.aggregate == Aggregate::Prompts
    }

    fn learned(&self) -> Vec<Learned> {
        self.prompts().learned()
    }

    fn teacher(&self) -> Teacher {
        let images = !self.prompts().has_plain_vision();
        Teacher { texts: self.teacher_templates().len(), images, ..Teacher::default() }
    }

    fn clip_average(&self, epochs: u32) -> Vec<f64> {
        match self.aggregate {
            Aggregate::Prompts => Vec::new(),
            Aggregate::All => self.epoch_weights(epochs),
        }
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<PromptSrc> {
        let Ivlp { context_length, context_initial_words, depth, vision_context_length, vision_depth } =
            Ivlp::of_tensors(shapes)?;
        Some(PromptSrc {
            context_length,
            context_initial_words,
            depth,
            vision_context_length,
            vision_depth,
            teacher_templates: Vec::new(),
            text_loss_weight: text_loss_weight(),
            image_loss_weight: image_loss_weight(),
            // Tensors tell nothing of their training.
            aggregation_mean: 1.0,
            aggregation_deviation: 1.0,
            aggregate: Aggregate::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(aggregation_mean: f64, aggregation_deviation: f64, epochs: u32) -> Vec<f64> {
        let options = PromptSrc::of_tensors(&TensorShapes([(CONTEXT.to_owned(), vec![4, 512])].into())).unwrap();
        PromptSrc { aggregation_mean, aggregation_deviation, ..options }.epoch_weights(epochs)
    }

    /// The weights of some epochs and the mean epoch with the published settings, as the published code has them.
    #[test]
    fn epochs_count_as_published() {
        let cases = [
            (15.0, 1.0, 20, [(1, 1.0966e-43), (15, 0.39894), (20, 1.4867e-6)], 15.0),
            (6.0, 10.0, 20, [(1, 0.0554), (6, 0.0628), (20, 0.0236)], 9.2),
            (30.0, 30.0, 50, [(1, 0.0141), (30, 0.0225), (50, 0.0180)], 26.5),
            (45.0, 5.0, 50, [(1, 1.41e-18), (45, 0.0923), (50, 0.0560)], 43.7),
        ];
        for (mean, deviation, epochs, some, mean_epoch) in cases {
            let found = weights(mean, deviation, epochs);
            assert_eq!(found.len(), epochs as usize);
            assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-15);
            for (epoch, expected) in some {
                let apart = (found[epoch - 1] / expected - 1.0).abs();
                assert!(apart < 5e-3, "epoch {epoch} of {mean}: {}", found[epoch - 1]);
            }
            let found: f64 = (1..).zip(&found).map(|(epoch, weight)| f64::from(epoch) * weight).sum();
            assert!((found - mean_epoch).abs() < 0.1, "{found}");
        }
    }

    #[test]
    fn a_mean_far_from_all_epochs_still_weighs_them() {
        assert_eq!(weights(1e6, 0.01, 3), [0.0, 0.0, 1.0]);
    }
}
