//! The number formats that weights are kept in.

use safetensors::Dtype;

use super::array::Array;
use crate::architecture::is_norm;

/// A number format to convert weights to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NumberFormat {
    /// Everything in single precision
    Fp32,
    /// Linear layers, convolutions, attention and projections in half precision, as the published code makes any model
    Fp16,
    /// The same in bfloat16
    Bf16,
}

impl NumberFormat {
    /// The tensor under one of OpenAI's names in this number format; integers stay as they are.
    pub(super) fn apply(self, name: &str, array: &Array) -> Array {
        array.to_float(match self {
            NumberFormat::Fp16 if is_rounded(name) => Dtype::F16,
            NumberFormat::Bf16 if is_rounded(name) => Dtype::BF16,
            _ => Dtype::F32,
        })
    }
}

/// What `convert_weights` of OpenAI's `clip/model.py` rounds; norms, embeddings and `logit_scale` stay.
fn is_rounded(name: &str) -> bool {
    !is_norm(name) && !name.contains("embedding") && name != "logit_scale"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    #[test]
    fn what_the_published_code_rounds_is_rounded() {
        let kept = |architecture: Architecture| -> Vec<String> {
            let names = architecture.tensors().into_iter().map(|(name, _)| name);
            names.filter(|name| !is_rounded(name) && !name.ends_with(".bias")).collect()
        };
        let tiny = Architecture {
            text_layers: 1,
            vision_layers: crate::architecture::VisionLayers::Transformer(1),
            ..Architecture::tiny()
        };
        let expected = [
            "positional_embedding",
            "logit_scale",
            "visual.class_embedding",
            "visual.positional_embedding",
            "visual.ln_pre.weight",
            "visual.transformer.resblocks.0.ln_1.weight",
            "visual.transformer.resblocks.0.ln_2.weight",
            "visual.ln_post.weight",
            "transformer.resblocks.0.ln_1.weight",
            "transformer.resblocks.0.ln_2.weight",
            "token_embedding.weight",
            "ln_final.weight",
        ];
        assert_eq!(kept(tiny), expected);
        let resnet = kept(Architecture::rn50());
        assert!(resnet.contains(&"visual.layer1.0.downsample.1.running_var".to_owned()));
        assert!(resnet.contains(&"visual.attnpool.positional_embedding".to_owned()));
        assert!(!resnet.iter().any(|name| name.contains("conv") || name.contains("_proj")), "{resnet:?}");
    }

    #[test]
    fn weights_that_are_exact_in_half_precision_survive_it() {
        let bytes = [1.5f32, -0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
        let array = Array { dtype: Dtype::F32, shape: vec![2], bytes };
        let half = NumberFormat::Fp16.apply("visual.proj", &array);
        assert_eq!((half.dtype, NumberFormat::Fp32.apply("visual.proj", &half)), (Dtype::F16, array.clone()));
        assert_eq!(NumberFormat::Bf16.apply("token_embedding.weight", &array), array);
    }
}
