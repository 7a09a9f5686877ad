//! How a small CLIP is pretrained on captioned pictures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, VisionLayers};
use crate::backbone::HEAD_WIDTH;
use crate::error::{Error, Result};
use crate::numerics::Numerics;
use crate::tokenizer::VOCABULARY;

/// Everything that decides the weights, apart from the captioned pictures.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretraining {
    /// For the random start, the order of the pictures and their crops.
    pub seed: u64,
    /// The model's sizes.
    #[serde(default = "Architecture::tiny")]
    pub architecture: Architecture,
    /// Passes over the captioned pictures.
    pub epochs: usize,
    /// Pictures per step; what is left over at the end of an epoch is dropped.
    pub batch_size: usize,
    /// The greatest learning rate.
    pub learning_rate: f64,
    /// Epochs of linear warm-up; may be a fraction.
    pub warmup_epochs: f64,
    /// Decoupled weight decay of weights with two axes or more.
    pub weight_decay: f64,
    /// Least and greatest share of a picture's area that a random crop keeps.
    pub crop: [f64; 2],
    /// Whether the last bits may be those of this kind of processor, and whether cards may multiply in TF32.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Pretraining {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the parameter that makes no sense, and what would.
    pub fn validate(&self) -> Result<()> {
        let Pretraining { epochs, batch_size, learning_rate, warmup_epochs, weight_decay, crop, .. } = self;
        let [least, greatest] = crop;
        let architecture = &self.architecture;
        if let Some((field, right)) = architecture.mistake() {
            return Err(Error::invalid(format!("`architecture.{field}` must be {right}"))
                .about(format!("architecture.{field}")));
        }
        let resnet = matches!(architecture.vision_layers, VisionLayers::ResNet(_));
        let (vision, text) = (architecture.vision_width, architecture.text_width);
        let heads = "a multiple of 64, the width of an attention head";
        let wrong = [
            ("architecture.vision_layers", resnet, "one number: a ResNet cannot be pretrained here"),
            ("architecture.vision_width", vision % HEAD_WIDTH != 0, heads),
            ("architecture.text_width", text % HEAD_WIDTH != 0, heads),
            (
                "architecture.vocabulary",
                architecture.vocabulary < VOCABULARY,
                "at least 49408, the size of the tokenizer's",
            ),
            ("epochs", *epochs == 0, "at least 1"),
            ("batch_size", *batch_size < 2, "at least 2"),
            ("learning_rate", !(0.0..=1.0).contains(learning_rate), "between 0 and 1"),
            ("warmup_epochs", !(0.0..=*epochs as f64).contains(warmup_epochs), "between 0 and `epochs`"),
            ("weight_decay", !(0.0..=1.0).contains(weight_decay), "between 0 and 1"),
            ("crop", !(*least > 0.0 && least <= greatest && *greatest <= 1.0), "two shares above 0 up to 1, in order"),
        ];
        match wrong.iter().find(|(_, wrong, _)| *wrong) {
            Some((name, _, right)) => Err(Error::invalid(format!("`{name}` must be {right}")).about(*name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_model_can_have_are_refused() {
        let text = "seed = 1\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.1\nwarmup_epochs = 0\nweight_decay = 0\n\
                    crop = [0.5, 1.0]";
        let pretraining: Pretraining = toml::from_str(text).unwrap();
        pretraining.validate().unwrap();
        let message = |architecture: Architecture| {
            Pretraining { architecture, ..pretraining.clone() }.validate().unwrap_err().to_string()
        };
        let tiny = Architecture::tiny();
        let layers = VisionLayers::Transformer;
        let any = "a number from 1 to 131072";
        let heads = "a multiple of 64, the width of an attention head";
        for (architecture, field, right) in [
            (Architecture::rn50(), "vision_layers", "one number: a ResNet cannot be pretrained here"),
            (Architecture { vision_layers: VisionLayers::ResNet([1, 1, 0, 1]), ..tiny }, "vision_layers", any),
            (Architecture { vision_layers: layers(0), ..tiny }, "vision_layers", any),
            (Architecture { image_size: -32, ..tiny }, "image_size", any),
            (Architecture { image_size: 36, ..tiny }, "image_size", "a multiple of `patch_size`"),
            (Architecture { patch_size: 0, ..tiny }, "patch_size", any),
            (Architecture { patch_size: 64, ..tiny }, "image_size", "a multiple of `patch_size`"),
            (Architecture { vision_width: 100, ..tiny }, "vision_width", heads),
            (Architecture { vision_width: -64, ..tiny }, "vision_width", any),
            (Architecture { vision_hidden_width: Some(0), ..tiny }, "vision_hidden_width", any),
            (Architecture { text_width: 32, ..tiny }, "text_width", heads),
            (Architecture { text_layers: i64::MAX, ..tiny }, "text_layers", any),
            (Architecture { text_positions: 0, ..tiny }, "text_positions", any),
            (Architecture { vocabulary: 100, ..tiny }, "vocabulary", "at least 49408, the size of the tokenizer's"),
            (Architecture { embedding: 0, ..tiny }, "embedding", any),
        ] {
            assert_eq!(message(architecture), format!("`architecture.{field}` must be {right}"));
        }
    }
}
