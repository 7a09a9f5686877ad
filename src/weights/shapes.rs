//! The names and shapes of a checkpoint's tensors: which model they are, and what is missing, surplus or misshapen.

use std::collections::BTreeMap;

use super::mistaken::{SHARD, is_shard};
use crate::architecture::{Architecture, VisionLayers};
use crate::backbone::BackboneOptions;
use crate::error::{Error, Result};
use crate::text::few;

/// How many names an error lists.
const LISTED: usize = 5;
/// What to do about weights that cannot be understood.
const HINT: &str = "give a checkpoint with the key names of OpenAI, Hugging Face's `CLIPModel` or open_clip";

/// Names and shapes of tensors, and where these come from.
#[derive(Clone, Debug)]
pub struct Shapes {
    pub(super) origin: String,
    pub(super) said: BackboneOptions,
    pub(super) shapes: BTreeMap<String, Vec<i64>>,
}

impl Shapes {
    /// `origin` reads as in "the weights `file`".
    pub fn new(origin: impl Into<String>, shapes: impl IntoIterator<Item = (String, Vec<i64>)>) -> Shapes {
        Shapes { origin: origin.into(), said: BackboneOptions::default(), shapes: shapes.into_iter().collect() }
    }

    /// The same, of a file that says this of the model.
    pub(super) fn saying(self, said: BackboneOptions) -> Shapes {
        Shapes { said, ..self }
    }

    /// Where the tensors come from, as it reads in a message: "the weights `file`".
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the file says of the model beside its tensors.
    pub fn said(&self) -> &BackboneOptions {
        &self.said
    }

    /// Checks that exactly the `expected` names and shapes are there.
    ///
    /// # Errors
    /// Names every missing, surplus or misshapen tensor (the first few of each).
    pub fn expect(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let names: BTreeMap<&str, &[i64]> =
            expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let missing = names.keys().filter(|name| !self.shapes.contains_key(**name));
        let surplus = self.shapes.keys().filter(|name| !names.contains_key(name.as_str()));
        let misshapen = names.iter().filter_map(|(name, shape)| {
            let found = self.shapes.get(*name)?;
            (found != shape).then(|| format!("`{name}` is {found:?}, not {shape:?}"))
        });
        let parts = [
            listed("missing: ", missing.map(|name| format!("`{name}`")).collect()),
            listed("unknown: ", surplus.map(|name| format!("`{name}`")).collect()),
            listed("", misshapen.collect()),
        ];
        let problems: Vec<String> = parts.into_iter().flatten().collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(format!("{} do not fit: {}", self.origin, problems.join("; ")))),
        }
    }

    /// The sizes of the CLIP model that these are the tensors of, under OpenAI's key names.
    ///
    /// # Errors
    /// When they are those of no CLIP model; what is missing, surplus or misshapen is named.
    pub fn architecture(&self) -> Result<Architecture> {
        let [vocabulary, text_width] = self.shape("token_embedding.weight")?;
        let [text_positions, _] = self.shape("positional_embedding")?;
        let [_, embedding] = self.shape("text_projection")?;
        let (vision_width, vision_layers, patch_size, vision_positions) =
            match self.shapes.contains_key("visual.layer1.0.conv1.weight") {
                true => self.resnet()?,
                false => self.vision_transformer()?,
            };
        let text_layers = self.count("transformer.resblocks.", "attn.in_proj_weight");
        if vision_width == 0 || patch_size == 0 {
            return Err(self.not_clip("visual.conv1.weight"));
        }
        if text_width == 0 {
            return Err(self.not_clip("token_embedding.weight"));
        }
        if text_layers == 0 {
            return Err(self.not_clip("transformer.resblocks.0.attn.in_proj_weight"));
        }
        let architecture = Architecture {
            image_size: (vision_positions.max(1) - 1).isqrt().saturating_mul(patch_size),
            patch_size,
            vision_width,
            vision_layers,
            vision_hidden_width: self.vision_hidden_width(vision_width),
            text_width,
            text_layers,
            text_positions,
            vocabulary,
            embedding,
        };
        // Beyond sizes that models have, the shapes of the other tensors may be beyond numbers.
        if let Some((size, right)) = architecture.mistake() {
            let message = format!("{} are not those of a CLIP model: `{size}` is not {right}", self.origin);
            return Err(Error::hinted(message, self.hint()));
        }
        self.expect(&architecture.tensors())?;
        Ok(architecture)
    }

    /// Width, blocks, patch size and positions of a vision transformer.
    fn vision_transformer(&self) -> Result<(i64, VisionLayers, i64, i64)> {
        let name = "visual.conv1.weight";
        let [width, _, patch_size, _] = self.shape(name)?;
        let [positions, _] = self.shape("visual.positional_embedding")?;
        let layers = self.count("visual.transformer.resblocks.", "attn.in_proj_weight");
        match layers {
            0 => Err(self.not_clip("visual.transformer.resblocks.0.attn.in_proj_weight")),
            _ => Ok((width, VisionLayers::Transformer(layers), patch_size, positions)),
        }
    }

    /// The width of the hidden layer in a vision transformer's blocks, where it is not four times theirs.
    fn vision_hidden_width(&self, width: i64) -> Option<i64> {
        let [hidden, _] = self.shape("visual.transformer.resblocks.0.mlp.c_fc.weight").ok()?;
        (hidden != 4 * width).then_some(hidden)
    }

    /// Width, blocks, patch size and positions of a ResNet.
    fn resnet(&self) -> Result<(i64, VisionLayers, i64, i64)> {
        let [width, ..] = self.shape::<4>("visual.layer1.0.conv1.weight")?;
        let [positions, _] = self.shape("visual.attnpool.positional_embedding")?;
        let stages = [1, 2, 3, 4].map(|stage| self.count(&format!("visual.layer{stage}."), "conv1.weight"));
        // The stem's first two convolutions have half the width.
        match stages.contains(&0) || width % 2 != 0 {
            true => Err(self.not_clip("visual.layer1.0.conv1.weight")),
            false => Ok((width, VisionLayers::ResNet(stages), Architecture::rn50().patch_size, positions)),
        }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    /// The shape of a tensor that has to be there and to have `N` axes.
    fn shape<const N: usize>(&self, name: &str) -> Result<[i64; N]> {
        let found = self.shapes.get(name).map(Vec::as_slice).unwrap_or_default();
        found.try_into().map_err(|_| {
            let message = format!("{} have no `{name}` of {N} axes{}", self.origin, self.instead(name));
            Error::hinted(message, self.hint())
        })
    }

    /// What is there in place of a tensor: one whose name has more in front, or whatever else.
    fn instead(&self, name: &str) -> String {
        let behind = format!(".{name}");
        let alike = self.names().find(|known| known.ends_with(&behind));
        match (self.shapes.get(name), alike) {
            (Some(shape), _) => format!(": it is {shape:?}"),
            (None, Some(alike)) => format!(", but `{alike}`"),
            (None, None) if self.shapes.is_empty() => String::new(),
            (None, None) => format!("; they have {}", few(LISTED, self.names().map(|name| format!("`{name}`")))),
        }
    }

    fn hint(&self) -> &'static str {
        if is_shard(&self.origin) { SHARD } else { HINT }
    }

    /// How many blocks there are whose tensors begin with `prefix`, counted by one of them.
    fn count(&self, prefix: &str, tensor: &str) -> i64 {
        (0..).take_while(|i| self.shapes.contains_key(&format!("{prefix}{i}.{tensor}"))).count() as i64
    }

    fn not_clip(&self, name: &str) -> Error {
        let message = format!("{} are not those of a CLIP model", self.origin);
        Error::hinted(format!("{message}: `{name}` is missing or has an unknown shape"), self.hint())
    }
}

/// The first few of `names` behind `label`, and how many more there are.
fn listed(label: &str, names: Vec<String>) -> Option<String> {
    (!names.is_empty()).then(|| format!("{label}{}", few(LISTED, names.into_iter())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(tensors: Vec<(String, Vec<i64>)>) -> Shapes {
        Shapes::new("the weights", tensors)
    }

    #[test]
    fn the_model_is_read_from_the_shapes() {
        for architecture in [
            Architecture::tiny(),
            Architecture::vit_b32(),
            Architecture::rn50(),
            Architecture::rn50x16(),
            Architecture::vit_h14(),
            Architecture::vit_big_g14(),
            Architecture { vision_width: 100, text_width: 60, ..Architecture::tiny() },
            Architecture { vocabulary: 9, ..Architecture::tiny() },
        ] {
            assert_eq!(shapes(architecture.tensors()).architecture().unwrap(), architecture);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let found = shapes(vec![("a".to_owned(), vec![2, 3]), ("b".to_owned(), vec![3, 2])]);
        let message = found.expect(&[("a".to_owned(), vec![2, 2]), ("c".to_owned(), vec![1])]).unwrap_err().to_string();
        assert_eq!(message, "the weights do not fit: missing: `c`; unknown: `b`; `a` is [2, 3], not [2, 2]");
        let expected: Vec<(String, Vec<i64>)> = (0..7).map(|number| (number.to_string(), vec![])).collect();
        let message = shapes(vec![]).expect(&expected).unwrap_err().to_string();
        assert_eq!(message, "the weights do not fit: missing: `0`, `1`, `2`, `3`, `4` and 2 more");
    }

    #[test]
    fn other_weights_are_refused() {
        let message = |tensors: Vec<(String, Vec<i64>)>| shapes(tensors).architecture().unwrap_err().to_string();
        assert_eq!(message(vec![]), "the weights have no `token_embedding.weight` of 2 axes");
        for (name, shape) in [
            ("visual.conv1.weight", vec![128, 3, 0, 0]),
            ("visual.conv1.weight", vec![0, 3, 8, 8]),
            ("token_embedding.weight", vec![9, 0]),
        ] {
            let mut tensors = Architecture::tiny().tensors();
            tensors.iter_mut().filter(|(known, _)| known == name).for_each(|(_, known)| *known = shape.clone());
            assert!(message(tensors).contains("are not those of a CLIP model"), "{name} {shape:?}");
        }
        for missing in ["visual.layer3.", "transformer.resblocks.0.", "visual.transformer.resblocks.0."] {
            for architecture in [Architecture::tiny(), Architecture::rn50()] {
                let mut tensors = architecture.tensors();
                let whole = tensors.len();
                tensors.retain(|(name, _)| !name.starts_with(missing));
                if tensors.len() < whole {
                    assert!(message(tensors).contains("are not those of a CLIP model"), "{missing}");
                }
            }
        }
    }
}
