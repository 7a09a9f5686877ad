//! The sizes of a CLIP model, and the names and shapes of the tensors that it consists of.
//!
//! Numbers are those of OpenAI's `clip/model.py`: a head is 64 wide, a block's hidden layer four times its width.

/// Width of one attention head in every published CLIP transformer.
pub const HEAD_WIDTH: i64 = 64;

/// The sizes that decide every tensor of a CLIP model with a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Height and width of an image, in pixels.
    pub image_size: i64,
    /// Height and width of a patch, in pixels.
    pub patch_size: i64,
    /// Width of the vision transformer.
    pub vision_width: i64,
    /// Number of blocks of the vision transformer.
    pub vision_layers: i64,
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

impl Architecture {
    /// OpenAI's ViT-B/16.
    pub const fn vit_b16() -> Architecture {
        Architecture {
            image_size: 224,
            patch_size: 16,
            vision_width: 768,
            vision_layers: 12,
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
            vision_layers: 24,
            text_width: 768,
            embedding: 768,
            ..Architecture::vit_b16()
        }
    }

    /// OpenAI's ViT-L/14 at 336 pixels.
    pub const fn vit_l14_336() -> Architecture {
        Architecture { image_size: 336, ..Architecture::vit_l14() }
    }

    /// A model small enough for two CPU cores: 32 pixel images, four vision blocks, three text blocks.
    pub const fn tiny() -> Architecture {
        Architecture {
            image_size: 32,
            patch_size: 8,
            vision_width: 128,
            vision_layers: 4,
            text_width: 64,
            text_layers: 3,
            text_positions: 77,
            vocabulary: 49_408,
            embedding: 32,
        }
    }

    /// Number of attention heads of the vision transformer.
    pub const fn vision_heads(&self) -> i64 {
        self.vision_width / HEAD_WIDTH
    }

    /// Number of attention heads of the text transformer.
    pub const fn text_heads(&self) -> i64 {
        self.text_width / HEAD_WIDTH
    }

    /// Positions of the vision transformer without prompts: one class token and the patches.
    pub const fn vision_positions(&self) -> i64 {
        let side = self.image_size / self.patch_size;
        side * side + 1
    }

    /// Name (OpenAI's key) and shape of every tensor, in the order of OpenAI's state dict.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let vision = self.vision_width;
        let mut tensors = vec![
            ("positional_embedding".to_owned(), vec![self.text_positions, self.text_width]),
            ("text_projection".to_owned(), vec![self.text_width, self.embedding]),
            ("logit_scale".to_owned(), vec![]),
            ("visual.class_embedding".to_owned(), vec![vision]),
            ("visual.positional_embedding".to_owned(), vec![self.vision_positions(), vision]),
            ("visual.proj".to_owned(), vec![vision, self.embedding]),
            ("visual.conv1.weight".to_owned(), vec![vision, 3, self.patch_size, self.patch_size]),
        ];
        tensors.extend(layer_norm("visual.ln_pre", vision));
        (0..self.vision_layers)
            .for_each(|i| tensors.extend(block(&format!("visual.transformer.resblocks.{i}"), vision)));
        tensors.extend(layer_norm("visual.ln_post", vision));
        (0..self.text_layers)
            .for_each(|i| tensors.extend(block(&format!("transformer.resblocks.{i}"), self.text_width)));
        tensors.push(("token_embedding.weight".to_owned(), vec![self.vocabulary, self.text_width]));
        tensors.extend(layer_norm("ln_final", self.text_width));
        tensors
    }
}

/// The tensors of a layer norm.
fn layer_norm(name: &str, width: i64) -> [(String, Vec<i64>); 2] {
    [(format!("{name}.weight"), vec![width]), (format!("{name}.bias"), vec![width])]
}

/// The tensors of a transformer block.
fn block(name: &str, width: i64) -> Vec<(String, Vec<i64>)> {
    let mut tensors = vec![
        (format!("{name}.attn.in_proj_weight"), vec![3 * width, width]),
        (format!("{name}.attn.in_proj_bias"), vec![3 * width]),
        (format!("{name}.attn.out_proj.weight"), vec![width, width]),
        (format!("{name}.attn.out_proj.bias"), vec![width]),
    ];
    tensors.extend(layer_norm(&format!("{name}.ln_1"), width));
    tensors.extend([
        (format!("{name}.mlp.c_fc.weight"), vec![4 * width, width]),
        (format!("{name}.mlp.c_fc.bias"), vec![4 * width]),
        (format!("{name}.mlp.c_proj.weight"), vec![width, 4 * width]),
        (format!("{name}.mlp.c_proj.bias"), vec![width]),
    ]);
    tensors.extend(layer_norm(&format!("{name}.ln_2"), width));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters of OpenAI's ViT-B/16, ViT-B/32 and ViT-L/14, as their own `sum(p.numel())` counts them.
    #[test]
    fn published_models_have_their_published_size() {
        let known = [
            (Architecture::vit_b16(), 149_620_737),
            (Architecture::vit_b32(), 151_277_313),
            (Architecture::vit_l14(), 427_616_513),
            (Architecture::vit_l14_336(), 427_944_193),
        ];
        for (architecture, parameters) in known {
            let sizes = architecture.tensors().into_iter().map(|(_, shape)| shape.iter().product::<i64>());
            assert_eq!(sizes.sum::<i64>(), parameters, "{architecture:?}");
        }
    }
}
