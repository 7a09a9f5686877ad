//! The sizes of a CLIP model, and the names and shapes of the tensors that it consists of.
//!
//! A block's hidden layer is four times as wide as the block where nothing else is said, as in OpenAI's `clip/model.py`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The part of an image, in pixels, that becomes one position of a ResNet's attention pooling: five halvings.
const RESNET_PATCH: i64 = 32;
/// The output of a ResNet's bottleneck block, in multiples of its inner width.
const EXPANSION: i64 = 4;

/// The greatest size that is not taken for a slip.
const GREATEST: i64 = 131_072;

/// The sizes that decide every tensor of a CLIP model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Height and width of an image, in pixels.
    pub image_size: i64,
    /// Height and width of a patch, in pixels; 32 with a ResNet.
    pub patch_size: i64,
    /// Width of the vision transformer, or of the ResNet's first stage.
    pub vision_width: i64,
    /// The vision tower's kind, and how many blocks it has.
    pub vision_layers: VisionLayers,
    /// Width of the hidden layer in a block of the vision transformer; four times the block's width where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_hidden_width: Option<i64>,
    /// Width of the text transformer.
    pub text_width: i64,
    /// Number of blocks of the text transformer.
    pub text_layers: i64,
    /// Longest tokenized text, start and end of text included (77 in every published model).
    pub text_positions: i64,
    /// Number of rows of the token embedding.
    pub vocabulary: i64,
    /// Width of the space that images and texts share.
    pub embedding: i64,
}

/// The blocks of a vision tower; in TOML a number, or four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a number of blocks, or four numbers for a ResNet")]
pub enum VisionLayers {
    /// A vision transformer of that many blocks.
    Transformer(i64),
    /// A modified ResNet with that many bottleneck blocks in each of its stages.
    ResNet([i64; 4]),
}

impl Architecture {
    /// OpenAI's ViT-B/16.
    pub const fn vit_b16() -> Architecture {
        Architecture {
            image_size: 224,
            patch_size: 16,
            vision_width: 768,
            vision_layers: VisionLayers::Transformer(12),
            vision_hidden_width: None,
            text_width: 512,
            text_layers: 12,
            text_positions: 77,
            vocabulary: 49_408,
            embedding: 512,
        }
    }

    /// OpenAI's ViT-B/32.
    pub const fn vit_b32() -> Architecture {
        Architecture { patch_size: 32, ..Architecture::vit_b16() }
    }

    /// OpenAI's ViT-L/14.
    pub const fn vit_l14() -> Architecture {
        Architecture {
            patch_size: 14,
            vision_width: 1024,
            vision_layers: VisionLayers::Transformer(24),
            text_width: 768,
            embedding: 768,
            ..Architecture::vit_b16()
        }
    }

    /// OpenAI's ViT-L/14 at 336 pixels.
    pub const fn vit_l14_336() -> Architecture {
        Architecture { image_size: 336, ..Architecture::vit_l14() }
    }

    /// OpenCLIP's ViT-B-16-plus-240.
    pub const fn vit_b16_plus_240() -> Architecture {
        Architecture { image_size: 240, vision_width: 896, text_width: 640, embedding: 640, ..Architecture::vit_b16() }
    }

    /// OpenCLIP's ViT-H-14.
    pub const fn vit_h14() -> Architecture {
        Architecture {
            vision_width: 1280,
            vision_layers: VisionLayers::Transformer(32),
            text_width: 1024,
            text_layers: 24,
            embedding: 1024,
            ..Architecture::vit_l14()
        }
    }

    /// OpenCLIP's ViT-g-14.
    pub const fn vit_g14() -> Architecture {
        Architecture {
            vision_width: 1408,
            vision_layers: VisionLayers::Transformer(40),
            vision_hidden_width: Some(6144),
            ..Architecture::vit_h14()
        }
    }

    /// OpenCLIP's ViT-bigG-14.
    pub const fn vit_big_g14() -> Architecture {
        Architecture {
            vision_width: 1664,
            vision_layers: VisionLayers::Transformer(48),
            vision_hidden_width: Some(8192),
            text_width: 1280,
            text_layers: 32,
            embedding: 1280,
            ..Architecture::vit_h14()
        }
    }

    /// OpenAI's RN50.
    pub const fn rn50() -> Architecture {
        Architecture {
            patch_size: RESNET_PATCH,
            vision_width: 64,
            vision_layers: VisionLayers::ResNet([3, 4, 6, 3]),
            embedding: 1024,
            ..Architecture::vit_b16()
        }
    }

    /// OpenAI's RN101.
    pub const fn rn101() -> Architecture {
        Architecture { vision_layers: VisionLayers::ResNet([3, 4, 23, 3]), embedding: 512, ..Architecture::rn50() }
    }

    /// OpenAI's RN50x4.
    pub const fn rn50x4() -> Architecture {
        Architecture {
            image_size: 288,
            vision_width: 80,
            vision_layers: VisionLayers::ResNet([4, 6, 10, 6]),
            text_width: 640,
            embedding: 640,
            ..Architecture::rn50()
        }
    }

    /// OpenAI's RN50x16.
    pub const fn rn50x16() -> Architecture {
        Architecture {
            image_size: 384,
            vision_width: 96,
            vision_layers: VisionLayers::ResNet([6, 8, 18, 8]),
            text_width: 768,
            embedding: 768,
            ..Architecture::rn50()
        }
    }

    /// OpenAI's RN50x64.
    pub const fn rn50x64() -> Architecture {
        Architecture {
            image_size: 448,
            vision_width: 128,
            vision_layers: VisionLayers::ResNet([3, 15, 36, 10]),
            text_width: 1024,
            embedding: 1024,
            ..Architecture::rn50()
        }
    }

    /// A model small enough for two CPU cores: 32 pixel images, four vision blocks, three text blocks.
    pub const fn tiny() -> Architecture {
        Architecture {
            image_size: 32,
            patch_size: 8,
            vision_width: 128,
            vision_layers: VisionLayers::Transformer(4),
            vision_hidden_width: None,
            text_width: 64,
            text_layers: 3,
            text_positions: 77,
            vocabulary: 49_408,
            embedding: 32,
        }
    }

    /// The field whose value no model can have, if there is one, and what it must be.
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let any = "a number from 1 to 131072";
        let is_size = |value: &i64| (1..=GREATEST).contains(value);
        let layers = match &self.vision_layers {
            VisionLayers::Transformer(layers) => std::slice::from_ref(layers),
            VisionLayers::ResNet(stages) => stages.as_slice(),
        };
        let fields = [
            ("image_size", is_size(&self.image_size), any),
            ("patch_size", is_size(&self.patch_size), any),
            ("vision_width", is_size(&self.vision_width), any),
            ("vision_layers", layers.iter().all(is_size), any),
            ("vision_hidden_width", self.vision_hidden_width.iter().all(is_size), any),
            ("text_width", is_size(&self.text_width), any),
            ("text_layers", is_size(&self.text_layers), any),
            ("text_positions", is_size(&self.text_positions), any),
            ("vocabulary", is_size(&self.vocabulary), any),
            ("embedding", is_size(&self.embedding), any),
        ];
        if let Some((field, _, right)) = fields.into_iter().find(|(_, fits, _)| !fits) {
            return Some((field, right));
        }
        (self.image_size % self.patch_size != 0).then_some(("image_size", "a multiple of `patch_size`"))
    }

    /// Width of the vision tower's attention: in the blocks of the transformer, or in a ResNet's attention pooling.
    pub const fn attention_width(&self) -> i64 {
        match self.vision_layers {
            VisionLayers::Transformer(_) => self.vision_width,
            VisionLayers::ResNet(_) => self.resnet_output(),
        }
    }

    /// Channels that a ResNet's last stage gives: the width doubles from stage to stage.
    const fn resnet_output(&self) -> i64 {
        self.vision_width * 8 * EXPANSION
    }

    /// Positions of the vision tower without prompts: the patches, and a class token or a ResNet's mean of all.
    pub const fn vision_positions(&self) -> i64 {
        let side = self.image_size / self.patch_size;
        side * side + 1
    }

    /// Name (OpenAI's key) and shape of every tensor, in the order of OpenAI's state dict.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let mut tensors = vec![
            ("positional_embedding".to_owned(), vec![self.text_positions, self.text_width]),
            ("text_projection".to_owned(), vec![self.text_width, self.embedding]),
            ("logit_scale".to_owned(), vec![]),
        ];
        match self.vision_layers {
            VisionLayers::Transformer(layers) => tensors.extend(self.vision_transformer(layers)),
            VisionLayers::ResNet(stages) => tensors.extend(self.resnet(&stages)),
        }
        (0..self.text_layers)
            .for_each(|i| tensors.extend(block(&format!("transformer.resblocks.{i}"), self.text_width, None)));
        tensors.push(("token_embedding.weight".to_owned(), vec![self.vocabulary, self.text_width]));
        tensors.extend(scale_and_shift("ln_final", self.text_width));
        tensors
    }

    fn vision_transformer(&self, layers: i64) -> Vec<(String, Vec<i64>)> {
        let (width, hidden) = (self.vision_width, self.vision_hidden_width);
        let mut tensors = vec![
            ("visual.class_embedding".to_owned(), vec![width]),
            ("visual.positional_embedding".to_owned(), vec![self.vision_positions(), width]),
            ("visual.proj".to_owned(), vec![width, self.embedding]),
            ("visual.conv1.weight".to_owned(), vec![width, 3, self.patch_size, self.patch_size]),
        ];
        tensors.extend(scale_and_shift("visual.ln_pre", width));
        (0..layers).for_each(|i| tensors.extend(block(&format!("visual.transformer.resblocks.{i}"), width, hidden)));
        tensors.extend(scale_and_shift("visual.ln_post", width));
        tensors
    }

    fn resnet(&self, stages: &[i64; 4]) -> Vec<(String, Vec<i64>)> {
        let (width, output) = (self.vision_width, self.resnet_output());
        let mut tensors = convolution("visual", 1, [width / 2, 3, 3, 3]);
        tensors.extend(convolution("visual", 2, [width / 2, width / 2, 3, 3]));
        tensors.extend(convolution("visual", 3, [width, width / 2, 3, 3]));
        let mut input = width;
        for (stage, blocks) in stages.iter().enumerate() {
            let inner = width << stage;
            for index in 0..*blocks {
                let name = format!("visual.layer{}.{index}", stage + 1);
                tensors.extend(bottleneck(&name, input, inner, index == 0));
                input = inner * EXPANSION;
            }
        }
        let pooling = "visual.attnpool";
        tensors.push((format!("{pooling}.positional_embedding"), vec![self.vision_positions(), output]));
        for (part, rows) in [("k_proj", output), ("q_proj", output), ("v_proj", output), ("c_proj", self.embedding)] {
            tensors.push((format!("{pooling}.{part}.weight"), vec![rows, output]));
            tensors.push((format!("{pooling}.{part}.bias"), vec![rows]));
        }
        tensors
    }
}

/// Whether a name is OpenAI's for a tensor of some CLIP, with however many blocks.
pub fn is_tensor(name: &str) -> bool {
    // The numbers of blocks do not matter.
    fn form(name: &str) -> String {
        name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part }).collect::<Vec<_>>().join(".")
    }
    static FORMS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let tensors = [Architecture::vit_b16(), Architecture::rn50()].map(|one| one.tensors());
        tensors.iter().flatten().map(|(name, _)| form(name)).collect()
    });
    FORMS.contains(&form(name))
}

/// Whether a tensor belongs to a layer norm or a batch norm. Published models keep these in fp32.
pub fn is_norm(name: &str) -> bool {
    name.contains(".downsample.1.") || name.split('.').any(|part| part.starts_with("ln_") || part.starts_with("bn"))
}

/// The tensors of a bottleneck block; its shortcut has a convolution of its own where the width changes.
fn bottleneck(name: &str, input: i64, inner: i64, shortcut: bool) -> Vec<(String, Vec<i64>)> {
    let output = inner * EXPANSION;
    let mut tensors = convolution(name, 1, [inner, input, 1, 1]);
    tensors.extend(convolution(name, 2, [inner, inner, 3, 3]));
    tensors.extend(convolution(name, 3, [output, inner, 1, 1]));
    if shortcut {
        tensors.push((format!("{name}.downsample.0.weight"), vec![output, input, 1, 1]));
        tensors.extend(batch_norm(&format!("{name}.downsample.1"), output));
    }
    tensors
}

/// The tensors of a convolution and of the batch norm behind it.
fn convolution(name: &str, number: i64, shape: [i64; 4]) -> Vec<(String, Vec<i64>)> {
    let mut tensors = vec![(format!("{name}.conv{number}.weight"), shape.to_vec())];
    tensors.extend(batch_norm(&format!("{name}.bn{number}"), shape[0]));
    tensors
}

fn batch_norm(name: &str, width: i64) -> impl Iterator<Item = (String, Vec<i64>)> {
    let running = ["running_mean", "running_var"].map(|part| (format!("{name}.{part}"), vec![width]));
    scale_and_shift(name, width).into_iter().chain(running)
}

/// The tensors of a layer norm, and the trained ones of a batch norm.
fn scale_and_shift(name: &str, width: i64) -> [(String, Vec<i64>); 2] {
    [(format!("{name}.weight"), vec![width]), (format!("{name}.bias"), vec![width])]
}

/// The tensors of a transformer block, whose hidden layer is four times as wide where `hidden` does not say.
fn block(name: &str, width: i64, hidden: Option<i64>) -> Vec<(String, Vec<i64>)> {
    let hidden = hidden.unwrap_or(4 * width);
    let mut tensors = vec![
        (format!("{name}.attn.in_proj_weight"), vec![3 * width, width]),
        (format!("{name}.attn.in_proj_bias"), vec![3 * width]),
        (format!("{name}.attn.out_proj.weight"), vec![width, width]),
        (format!("{name}.attn.out_proj.bias"), vec![width]),
    ];
    tensors.extend(scale_and_shift(&format!("{name}.ln_1"), width));
    tensors.extend([
        (format!("{name}.mlp.c_fc.weight"), vec![hidden, width]),
        (format!("{name}.mlp.c_fc.bias"), vec![hidden]),
        (format!("{name}.mlp.c_proj.weight"), vec![width, hidden]),
        (format!("{name}.mlp.c_proj.bias"), vec![width]),
    ]);
    tensors.extend(scale_and_shift(&format!("{name}.ln_2"), width));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_known_by_their_names() {
        for architecture in [Architecture::vit_big_g14(), Architecture::rn50x64(), Architecture::tiny()] {
            assert!(architecture.tensors().iter().all(|(name, _)| is_tensor(name)));
        }
        for name in
            ["visual.transformer.resblocks.3.adapter.weight", "visual", "ctx", "transformer.resblocks.x.ln_1.bias"]
        {
            assert!(!is_tensor(name), "{name}");
        }
    }

    /// Parameters of OpenAI's models, as their own `sum(p.numel())` counts them.
    #[test]
    fn published_models_have_their_published_size() {
        let known = [
            (Architecture::vit_b16(), 149_620_737),
            (Architecture::vit_b32(), 151_277_313),
            (Architecture::vit_l14(), 427_616_513),
            (Architecture::vit_l14_336(), 427_944_193),
            (Architecture::rn50(), 102_007_137),
            (Architecture::rn101(), 119_688_033),
            (Architecture::rn50x4(), 178_300_601),
            (Architecture::rn50x16(), 290_979_217),
            (Architecture::rn50x64(), 623_258_305),
        ];
        for (architecture, parameters) in known {
            let trained = architecture.tensors().into_iter().filter(|(name, _)| !name.contains(".running_"));
            let sizes = trained.map(|(_, shape)| shape.iter().product::<i64>());
            assert_eq!(sizes.sum::<i64>(), parameters, "{architecture:?}");
        }
    }
}
