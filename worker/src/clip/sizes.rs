//! Reads the sizes of a CLIP model from the shapes of its weights.

use super::weights::Weights;
use maple_pipe::architecture::{Architecture, HEAD_WIDTH};
use maple_pipe::error::{Error, Result};

/// Reads the sizes from the shapes of `weights`.
///
/// # Errors
/// When the weights are those of a ResNet, or of no CLIP model.
pub fn read(weights: &Weights) -> Result<Architecture> {
    if weights.get("visual.layer1.0.conv1.weight").is_some() {
        return Err(Error::hinted(
            format!("{} hold a ResNet vision tower", weights.origin()),
            "use weights with a vision transformer, such as `ViT-B/16`",
        ));
    }
    let [vision_width, 3, patch_size, _] = weights.shape("visual.conv1.weight")? else {
        return Err(not_clip(weights, "visual.conv1.weight"));
    };
    let [vision_positions, _] = weights.shape("visual.positional_embedding")?;
    let [vocabulary, text_width] = weights.shape("token_embedding.weight")?;
    let [text_positions, _] = weights.shape("positional_embedding")?;
    let [_, embedding] = weights.shape("text_projection")?;
    let architecture = Architecture {
        image_size: vision_positions.saturating_sub(1).isqrt() * patch_size,
        patch_size,
        vision_width,
        vision_layers: layers(weights, "visual.transformer.resblocks."),
        text_width,
        text_layers: layers(weights, "transformer.resblocks."),
        text_positions,
        vocabulary,
        embedding,
    };
    check(&architecture, weights)?;
    Ok(architecture)
}

/// Refuses sizes that no CLIP model can have.
fn check(architecture: &Architecture, weights: &Weights) -> Result<()> {
    let widths =
        [("visual.conv1.weight", architecture.vision_width), ("token_embedding.weight", architecture.text_width)];
    for (name, width) in widths {
        if width == 0 || width % HEAD_WIDTH != 0 {
            return Err(not_clip(weights, name));
        }
    }
    if architecture.patch_size == 0 {
        return Err(not_clip(weights, "visual.conv1.weight"));
    }
    if architecture.vision_layers == 0 || architecture.text_layers == 0 {
        return Err(not_clip(weights, "transformer.resblocks.0"));
    }
    Ok(())
}

/// How many blocks `weights` have under `prefix`.
fn layers(weights: &Weights, prefix: &str) -> i64 {
    (0..).take_while(|i| weights.get(&format!("{prefix}{i}.attn.in_proj_weight")).is_some()).count() as i64
}

fn not_clip(weights: &Weights, name: &str) -> Error {
    Error::hinted(
        format!("{} are not those of a CLIP model: `{name}` is missing or has an unknown shape", weights.origin()),
        "give a safetensors file with OpenAI's key names",
    )
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    fn empty(tensors: Vec<(String, Vec<i64>)>) -> Weights {
        let zeros = |shape: Vec<i64>| Tensor::zeros(shape, (Kind::Half, Device::Cpu));
        Weights::from_tensors(tensors.into_iter().map(|(name, shape)| (name, zeros(shape))))
    }

    #[test]
    fn sizes_are_read_from_the_weights() {
        for architecture in
            [Architecture::tiny(), Architecture::vit_b32(), Architecture { vocabulary: 9, ..Architecture::tiny() }]
        {
            assert_eq!(read(&empty(architecture.tensors())).unwrap(), architecture);
        }
    }

    #[test]
    fn other_weights_are_refused() {
        let message = |tensors: Vec<(String, Vec<i64>)>| read(&empty(tensors)).unwrap_err().to_string();
        assert_eq!(
            message(vec![("visual.layer1.0.conv1.weight".to_owned(), vec![1])]),
            "the weights hold a ResNet vision tower"
        );
        assert_eq!(message(vec![]), "the weights have no `visual.conv1.weight` of 4 axes");
        for sizes in [
            Architecture { patch_size: 0, image_size: 0, ..Architecture::tiny() },
            Architecture { text_width: 70, ..Architecture::tiny() },
            Architecture { text_layers: 0, ..Architecture::tiny() },
        ] {
            let mut tensors = tensors_of_any_size(&sizes);
            tensors.retain(|(name, _)| name != "logit_scale");
            assert!(message(tensors).contains("are not those of a CLIP model"), "{sizes:?}");
        }
    }

    /// [`Architecture::tensors`] for sizes that no model has.
    fn tensors_of_any_size(sizes: &Architecture) -> Vec<(String, Vec<i64>)> {
        let mut tensors = Architecture { patch_size: sizes.patch_size.max(1), ..*sizes }.tensors();
        for (name, shape) in &mut tensors {
            if name == "visual.conv1.weight" {
                *shape = vec![shape[0], 3, sizes.patch_size, sizes.patch_size];
            }
        }
        tensors
    }
}
