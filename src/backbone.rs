//! What is specific to one CLIP model, as one value: the sizes of its towers, and what its tensors do not tell, which is
//! the number of attention heads, the activation and the preprocessing of images.
//!
//! The published models are data ([`CONFIGURATIONS`]). All of them read texts with CLIP's one tokenizer, and multiply
//! products of features by the exponential of `logit_scale`, without a bias.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, VisionLayers};
use crate::error::{Error, Result};

/// Width of one attention head in OpenAI's models.
pub const HEAD_WIDTH: i64 = 64;

/// What stands between the two layers of a transformer block's perceptron.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(1.702 * x)`: OpenAI's models, and those that OpenCLIP calls `quickgelu`.
    QuickGelu,
    /// `x * Phi(x)`, where Phi is the normal distribution: PyTorch's `nn.GELU`, in all other models of OpenCLIP.
    Gelu,
}

impl Activation {
    /// The word in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Activation::QuickGelu => "quick_gelu",
            Activation::Gelu => "gelu",
        }
    }
}

impl Display for Activation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// How an image becomes the input of the vision tower: the shorter side is resized to `size` (bicubic, as Pillow does
/// it), the centre is cropped to `size` by `size` pixels, and each channel of 0 to 1 is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Height and width, in pixels.
    pub size: u32,
    /// What is subtracted from each channel.
    pub mean: [f32; 3],
    /// What each channel is divided by afterwards.
    pub standard_deviation: [f32; 3],
}

impl Preprocessing {
    /// OpenAI's (`_transform` in `clip/clip.py`), for images of this size.
    #[expect(clippy::excessive_precision, reason = "the published digits")]
    pub const fn openai(size: u32) -> Preprocessing {
        Preprocessing {
            size,
            mean: [0.48145466, 0.4578275, 0.40821073],
            standard_deviation: [0.26862954, 0.26130258, 0.27577711],
        }
    }
}

/// A CLIP model, without its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backbone {
    /// The sizes of the towers.
    pub architecture: Architecture,
    /// Attention heads of the vision transformer, or of a ResNet's attention pooling.
    pub vision_heads: i64,
    /// Attention heads of the text transformer.
    pub text_heads: i64,
    /// The activation of both transformers.
    pub activation: Activation,
    /// How images are prepared.
    pub preprocessing: Preprocessing,
}

impl Backbone {
    /// A model of these sizes as OpenAI's code builds it: heads of width 64, QuickGELU. `pretrain` does the same.
    pub const fn openai(architecture: Architecture) -> Backbone {
        Backbone {
            architecture,
            vision_heads: architecture.attention_width() / HEAD_WIDTH,
            text_heads: architecture.text_width / HEAD_WIDTH,
            activation: Activation::QuickGelu,
            preprocessing: Preprocessing::openai(architecture.image_size as u32),
        }
    }

    /// The model of a name: OpenCLIP's (`ViT-B-16`, `RN50`), OpenAI's (`ViT-B/16`, `ViT-L/14@336px`), or `tiny`, the one that
    /// the quickstart trains.
    ///
    /// # Errors
    /// There is none; the hint lists them.
    pub fn named(name: &str) -> Result<Backbone> {
        let by = |wanted: &str| CONFIGURATIONS.iter().find(|one| one.name == wanted).map(|one| one.backbone);
        // OpenAI writes a slash where OpenCLIP writes a hyphen, and has published QuickGELU alone.
        let found = match name.split_once('/') {
            Some((kind, rest)) => {
                let hyphened = format!("{kind}-{}", rest.replace("@336px", "-336"));
                by(&format!("{hyphened}-quickgelu")).or_else(|| by(&hyphened))
            }
            None if name == "tiny" => Some(Backbone::openai(Architecture::tiny())),
            None => by(name),
        };
        let known = CONFIGURATIONS.iter().map(|one| one.name);
        let known = ["ViT-B/16", "ViT-B/32", "ViT-L/14"].into_iter().chain(known).chain(["tiny"]);
        found.ok_or_else(|| {
            let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Error::hinted(format!("there is no architecture `{name}`"), format!("these are known: {known}"))
        })
    }

    /// What it says of itself beside its sizes.
    pub fn options(&self) -> BackboneOptions {
        BackboneOptions {
            activation: Some(self.activation),
            vision_heads: Some(self.vision_heads),
            text_heads: Some(self.text_heads),
            mean: Some(self.preprocessing.mean),
            standard_deviation: Some(self.preprocessing.standard_deviation),
        }
    }
}

/// What may be said of a CLIP model because its tensors do not tell it; what is absent is not said.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneOptions {
    /// The activation of both transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Attention heads of the vision transformer, or of a ResNet's attention pooling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_heads: Option<i64>,
    /// Attention heads of the text transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_heads: Option<i64>,
    /// What is subtracted from each channel of an image; OpenAI's numbers where nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// What each channel of an image is divided by; OpenAI's numbers where nobody says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_deviation: Option<[f32; 3]>,
}

impl BackboneOptions {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == BackboneOptions::default()
    }
}

/// Who tells something of a model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Teller {
    /// The user.
    User,
    /// The file of the weights.
    File,
    /// The stage `pretrain`, which made the weights.
    Pretrain,
    /// The publisher of weights with this name.
    Published(&'static str),
    /// All published models of the same shapes.
    Shapes,
}

impl Display for Teller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Teller::User => formatter.write_str("as given"),
            Teller::File => formatter.write_str("as the file says"),
            Teller::Pretrain => formatter.write_str("as the stage `pretrain` makes it"),
            Teller::Published(name) => write!(formatter, "as published for {name}"),
            Teller::Shapes => formatter.write_str("as in every published model of this shape"),
        }
    }
}

/// A fact, and who tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told<T> {
    /// The fact.
    pub value: T,
    /// Who tells it.
    pub by: Teller,
}

/// What is known of a model; what nobody tells is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// The sizes of the towers.
    pub architecture: Architecture,
    /// The activation of both transformers.
    pub activation: Option<Told<Activation>>,
    /// Attention heads of the vision transformer, or of a ResNet's attention pooling.
    pub vision_heads: Option<Told<i64>>,
    /// Attention heads of the text transformer.
    pub text_heads: Option<Told<i64>>,
    /// How images are prepared.
    pub preprocessing: Preprocessing,
}

impl Known {
    /// What `statements` and the published models of the same shapes tell of a model of these sizes.
    ///
    /// # Errors
    /// When two statements contradict each other, or one cannot be true of these sizes.
    pub fn new(architecture: Architecture, statements: &[(Teller, BackboneOptions)]) -> Result<Known> {
        let activation = told(statements, "activation", |options| options.activation)?;
        let vision_heads = told(statements, "vision_heads", |options| options.vision_heads)?;
        let text_heads = told(statements, "text_heads", |options| options.text_heads)?;
        for (name, heads, width) in [
            ("vision_heads", vision_heads, architecture.attention_width()),
            ("text_heads", text_heads, architecture.text_width),
        ] {
            if let Some(Told { value, .. }) = heads
                && (value < 1 || width % value != 0)
            {
                return Err(Error::hinted(
                    format!("`backbone.{name}` is {value}, but the tower is {width} wide"),
                    format!("give a divisor of {width}"),
                )
                .about(format!("backbone.{name}")));
            }
        }
        let said = |get: fn(&BackboneOptions) -> Option<[f32; 3]>| statements.iter().find_map(|(_, said)| get(said));
        let openai = Preprocessing::openai(architecture.image_size as u32);
        let preprocessing = Preprocessing {
            mean: said(|options| options.mean).unwrap_or(openai.mean),
            standard_deviation: said(|options| options.standard_deviation).unwrap_or(openai.standard_deviation),
            ..openai
        };
        if preprocessing.standard_deviation.iter().any(|value| !value.is_finite() || *value <= 0.0)
            || preprocessing.mean.iter().any(|value| !value.is_finite())
        {
            return Err(Error::hinted(
                "`backbone.standard_deviation` and `backbone.mean` must be numbers, the first above 0",
                "give one for red, green and blue each, of values from 0 to 1",
            )
            .about("backbone.standard_deviation"));
        }
        Ok(Known {
            architecture,
            activation: activation.or_else(|| by_shapes(activation_of(&architecture))),
            vision_heads: vision_heads.or_else(|| by_shapes(vision_heads_of(&architecture))),
            text_heads: text_heads.or_else(|| by_shapes(text_heads_of(&architecture))),
            preprocessing,
        })
    }

    /// What the file of these weights may say of itself, for the next who reads it.
    pub fn options(&self) -> BackboneOptions {
        let openai = Preprocessing::openai(self.preprocessing.size);
        BackboneOptions {
            activation: self.activation.map(|told| told.value),
            vision_heads: self.vision_heads.map(|told| told.value),
            text_heads: self.text_heads.map(|told| told.value),
            mean: Some(self.preprocessing.mean).filter(|mean| *mean != openai.mean),
            standard_deviation: Some(self.preprocessing.standard_deviation)
                .filter(|deviation| *deviation != openai.standard_deviation),
        }
    }

    /// The model, whose weights `origin` names, as in "the weights `file`".
    ///
    /// # Errors
    /// Asks for what nobody tells.
    pub fn backbone(&self, origin: &str) -> Result<Backbone> {
        match *self {
            Known {
                architecture,
                activation: Some(Told { value: activation, .. }),
                vision_heads: Some(Told { value: vision_heads, .. }),
                text_heads: Some(Told { value: text_heads, .. }),
                preprocessing,
            } => Ok(Backbone { architecture, vision_heads, text_heads, activation, preprocessing }),
            _ => Err(self.question(origin)),
        }
    }

    fn question(&self, origin: &str) -> Error {
        let Known { architecture, activation, vision_heads, text_heads, .. } = self;
        let heads =
            |tower: &str, width: i64| format!("the attention heads of the {tower} tower, which is {width} wide");
        let questions = [
            (activation.is_none(), "the activation".to_owned(), "activation = \"gelu\""),
            (vision_heads.is_none(), heads("vision", architecture.attention_width()), "vision_heads = N"),
            (text_heads.is_none(), heads("text", architecture.text_width), "text_heads = N"),
        ];
        let open = || questions.iter().filter(|(open, ..)| *open);
        let asked: Vec<&str> = open().map(|(_, question, _)| question.as_str()).collect();
        let answers: Vec<&str> = open().map(|(.., answer)| *answer).collect();
        let mut hint = format!("add `backbone = {{ {} }}` to the stage", answers.join(", "));
        if activation.is_none() {
            hint += ", or `quick_gelu`: that is OpenAI's, and that of models named so; others of OpenCLIP have `gelu`";
        }
        hint += "; Hugging Face's `config.json` has ";
        hint += match (activation.is_none(), answers.len()) {
            (true, 1) => "it as `hidden_act`",
            (true, _) => "them as `hidden_act` and `num_attention_heads`",
            (false, _) => "them as `num_attention_heads`",
        };
        Error::hinted(format!("{origin} do not tell {}", asked.join(", nor ")), hint)
    }
}

/// What the first of the statements that say it say.
fn told<T: Copy + Display + PartialEq>(
    statements: &[(Teller, BackboneOptions)],
    name: &str,
    get: impl Fn(&BackboneOptions) -> Option<T>,
) -> Result<Option<Told<T>>> {
    let mut said = statements.iter().filter_map(|(by, options)| Some(Told { value: get(options)?, by: *by }));
    let Some(first) = said.next() else { return Ok(None) };
    match said.find(|other| other.value != first.value) {
        None => Ok(Some(first)),
        Some(other) => Err(Error::hinted(
            format!("`backbone.{name}` is {} ({}), but also {} ({})", first.value, first.by, other.value, other.by),
            "remove what is wrong",
        )
        .about(format!("backbone.{name}"))),
    }
}

fn by_shapes<T>(value: Option<T>) -> Option<Told<T>> {
    value.map(|value| Told { value, by: Teller::Shapes })
}

/// A kind of published model.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// OpenCLIP's name for it.
    pub name: &'static str,
    /// The model.
    pub backbone: Backbone,
}

/// The published models that the towers here can compute: those of OpenAI, and those that OpenCLIP lists
/// (`src/open_clip/model_configs` and `pretrained.py`), each with the activations in which somebody has published it.
pub const CONFIGURATIONS: [Configuration; 20] = {
    use Activation::{Gelu, QuickGelu};
    [
        configuration("RN50", Architecture::rn50(), QuickGelu),
        configuration("RN101", Architecture::rn101(), QuickGelu),
        configuration("RN50x4", Architecture::rn50x4(), QuickGelu),
        configuration("RN50x16", Architecture::rn50x16(), QuickGelu),
        configuration("RN50x64", Architecture::rn50x64(), QuickGelu),
        configuration("ViT-B-32-quickgelu", Architecture::vit_b32(), QuickGelu),
        configuration("ViT-B-32", Architecture::vit_b32(), Gelu),
        configuration("ViT-B-32-256", Architecture { image_size: 256, ..Architecture::vit_b32() }, Gelu),
        configuration("ViT-B-16-quickgelu", Architecture::vit_b16(), QuickGelu),
        configuration("ViT-B-16", Architecture::vit_b16(), Gelu),
        configuration("ViT-B-16-plus-240", Architecture::vit_b16_plus_240(), Gelu),
        configuration("ViT-L-14-quickgelu", Architecture::vit_l14(), QuickGelu),
        configuration("ViT-L-14", Architecture::vit_l14(), Gelu),
        configuration("ViT-L-14-336", Architecture::vit_l14_336(), QuickGelu),
        with_vision_heads(16, configuration("ViT-H-14-quickgelu", Architecture::vit_h14(), QuickGelu)),
        with_vision_heads(16, configuration("ViT-H-14", Architecture::vit_h14(), Gelu)),
        with_vision_heads(
            16,
            configuration(
                "ViT-H-14-378-quickgelu",
                Architecture { image_size: 378, ..Architecture::vit_h14() },
                QuickGelu,
            ),
        ),
        with_vision_heads(16, configuration("ViT-g-14", Architecture::vit_g14(), Gelu)),
        with_vision_heads(16, configuration("ViT-bigG-14-quickgelu", Architecture::vit_big_g14(), QuickGelu)),
        with_vision_heads(16, configuration("ViT-bigG-14", Architecture::vit_big_g14(), Gelu)),
    ]
};

const fn configuration(name: &'static str, architecture: Architecture, activation: Activation) -> Configuration {
    Configuration { name, backbone: Backbone { activation, ..Backbone::openai(architecture) } }
}

const fn with_vision_heads(vision_heads: i64, configuration: Configuration) -> Configuration {
    Configuration { backbone: Backbone { vision_heads, ..configuration.backbone }, ..configuration }
}

/// What all published models that `fit` have; nothing where they differ, or where there is none.
fn common<T: PartialEq>(fit: impl Fn(&Architecture) -> bool, get: impl Fn(&Backbone) -> T) -> Option<T> {
    let backbones = CONFIGURATIONS.iter().map(|configuration| &configuration.backbone);
    let mut values = backbones.filter(|backbone| fit(&backbone.architecture)).map(get);
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// The activation in which alone models of these sizes have been published.
fn activation_of(architecture: &Architecture) -> Option<Activation> {
    common(|known| known == architecture, |backbone| backbone.activation)
}

/// The heads that every published vision tower of this kind and width has.
fn vision_heads_of(architecture: &Architecture) -> Option<i64> {
    let resnet = |one: &Architecture| matches!(one.vision_layers, VisionLayers::ResNet(_));
    let alike =
        |known: &Architecture| resnet(known) == resnet(architecture) && known.vision_width == architecture.vision_width;
    common(alike, |backbone| backbone.vision_heads)
}

/// The heads that every published text tower of this width has.
fn text_heads_of(architecture: &Architecture) -> Option<i64> {
    common(|known| known.text_width == architecture.text_width, |backbone| backbone.text_heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(architecture: Architecture, statements: &[(Teller, BackboneOptions)]) -> Result<Known> {
        Known::new(architecture, statements)
    }

    fn says(activation: Activation) -> BackboneOptions {
        BackboneOptions { activation: Some(activation), ..BackboneOptions::default() }
    }

    /// Parameters as OpenCLIP's documents have them (`docs/model_profile.csv`), and the widths of heads of its files.
    #[test]
    fn configurations_are_those_of_open_clip() {
        let parameters = |architecture: &Architecture| {
            let trained = architecture.tensors().into_iter().filter(|(name, _)| !name.contains(".running_"));
            trained.map(|(_, shape)| shape.iter().product::<i64>()).sum::<i64>() as f64 / 1e6
        };
        for (name, millions, head_width) in [
            ("ViT-B-32", 151.28, 64),
            ("ViT-B-16-plus-240", 208.38, 64),
            ("ViT-H-14", 986.11, 80),
            ("ViT-g-14", 1366.68, 88),
            ("ViT-bigG-14", 2539.57, 104),
        ] {
            let found = CONFIGURATIONS.iter().find(|configuration| configuration.name == name).unwrap().backbone;
            let counted = parameters(&found.architecture);
            assert!((counted - millions).abs() < 0.006, "{name}: {counted} million");
            assert_eq!(found.architecture.vision_width / found.vision_heads, head_width, "{name}");
            assert_eq!(found.architecture.text_width / found.text_heads, 64, "{name}");
        }
    }

    #[test]
    fn published_widths_tell_their_heads() {
        for Configuration { name, backbone } in &CONFIGURATIONS {
            let found = known(backbone.architecture, &[]).unwrap();
            assert_eq!(found.vision_heads.map(|told| told.value), Some(backbone.vision_heads), "{name}");
            assert_eq!(found.text_heads.map(|told| told.value), Some(backbone.text_heads), "{name}");
        }
        // The width alone decides, whatever the depth: 16 heads of 80, and 20 heads of 64 for a text tower.
        let wide = Architecture {
            vision_width: 1280,
            vision_layers: VisionLayers::Transformer(2),
            text_width: 1280,
            ..Architecture::tiny()
        };
        let found = known(wide, &[(Teller::User, says(Activation::Gelu))]).unwrap().backbone("the weights").unwrap();
        assert_eq!((found.vision_heads, found.text_heads), (16, 20));
    }

    #[test]
    fn shapes_that_were_published_in_both_activations_tell_none() {
        let activation = |architecture| known(architecture, &[]).unwrap().activation.map(|told| told.value);
        assert_eq!(activation(Architecture::vit_b16()), None);
        assert_eq!(activation(Architecture::vit_h14()), None);
        assert_eq!(activation(Architecture::tiny()), None);
        assert_eq!(activation(Architecture::vit_g14()), Some(Activation::Gelu));
        assert_eq!(activation(Architecture::rn50()), Some(Activation::QuickGelu));
    }

    #[test]
    fn models_have_the_names_of_their_publishers() {
        let named = |name: &str| Backbone::named(name).unwrap();
        assert_eq!(named("ViT-B/16"), Backbone::openai(Architecture::vit_b16()));
        assert_eq!(named("ViT-L/14@336px"), Backbone::openai(Architecture::vit_l14_336()));
        assert_eq!(named("ViT-B-16").activation, Activation::Gelu);
        assert_eq!(named("RN50"), Backbone::openai(Architecture::rn50()));
        assert_eq!(named("tiny").architecture, Architecture::tiny());
        for name in ["", "/", "ViT-B/17", "vit-b/16"] {
            let error = Backbone::named(name).unwrap_err();
            assert_eq!(error.to_string(), format!("there is no architecture `{name}`"));
            assert!(error.hint().unwrap().starts_with("these are known: `ViT-B/16`, "));
        }
    }

    #[test]
    fn what_nobody_tells_is_asked_for() {
        let error = known(Architecture::vit_b32(), &[]).unwrap().backbone("the weights `w.pt`").unwrap_err();
        assert_eq!(error.to_string(), "the weights `w.pt` do not tell the activation");
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "add `backbone = { activation = \"gelu\" }` to the stage, or `quick_gelu`: that is OpenAI's, and that of \
                 models named so; others of OpenCLIP have `gelu`; Hugging Face's `config.json` has it as `hidden_act`"
            )
        );
        let odd = Architecture { vision_width: 100, text_width: 60, ..Architecture::tiny() };
        let error = known(odd, &[(Teller::File, says(Activation::Gelu))]).unwrap().backbone("the weights").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the weights do not tell the attention heads of the vision tower, which is 100 wide, nor the attention heads \
             of the text tower, which is 60 wide"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "add `backbone = { vision_heads = N, text_heads = N }` to the stage; Hugging Face's `config.json` has \
                 them as `num_attention_heads`"
            )
        );
    }

    #[test]
    fn statements_that_cannot_be_true_are_refused() {
        let message = |statements: &[(Teller, BackboneOptions)]| {
            known(Architecture::vit_b16(), statements).unwrap_err().to_string()
        };
        let both = [(Teller::User, says(Activation::Gelu)), (Teller::File, says(Activation::QuickGelu))];
        let expected = "`backbone.activation` is gelu (as given), but also quick_gelu (as the file says)";
        assert_eq!(message(&both), expected);
        for heads in [0, -1, 7] {
            let options = BackboneOptions { vision_heads: Some(heads), ..BackboneOptions::default() };
            let expected = format!("`backbone.vision_heads` is {heads}, but the tower is 768 wide");
            assert_eq!(message(&[(Teller::User, options)]), expected);
        }
    }
}
