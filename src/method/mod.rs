//! A method as its TOML file in `pipelines/methods/` states it: which learner, its options, and how it is trained.
//! The learners themselves are in the package `maple-pipe-worker`.

mod catalogue;
pub mod learnable;
mod precision;
mod pretraining;
pub mod prompt;
mod vocabulary;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use catalogue::shipped;
pub use precision::Precision;
pub use pretraining::Pretraining;
pub use prompt::{Description, Prompt};
pub use vocabulary::{Interpretation, Neighbour};

use crate::architecture::{Architecture, VisionLayers};
use crate::error::{Error, Result};

/// One method of prompt learning. Its JSON is canonical: every option stands in it, defaults too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Method {
    /// The learner and its options, at the top of the file: `learner = "maple"`, `depth = 9`, ...
    #[serde(flatten)]
    pub learner: Learner,
    /// The number formats in which it computes.
    #[serde(default)]
    pub precision: Precision,
    /// How the learner is trained; absent for `zero-shot`, which is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// The learners and their options. A `context_length` counts learned tokens, a depth the blocks that get prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "learner", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Learner {
    /// CLIP, untrained. With more than one template, each class has the mean of its normalised text features.
    ZeroShot {
        /// Texts with `{}` for the class name, beside the data set's own template.
        #[serde(default)]
        templates: Vec<String>,
        /// Whether the data set's own template is among them.
        #[serde(default = "dataset_template")]
        dataset_template: bool,
    },
    /// CoOp: context in front of, around or behind the class name.
    Coop {
        /// Learned tokens a prompt.
        context_length: i64,
        /// Words whose embeddings the context starts from; empty for a random start.
        #[serde(default)]
        context_initial_words: String,
        /// Where the class name stands.
        #[serde(default)]
        class_token_position: ClassTokenPosition,
        /// Whether each class learns a context of its own.
        #[serde(default)]
        class_specific_context: bool,
    },
    /// CoCoOp: CoOp with a context that a small network shifts for each image.
    Cocoop {
        /// Learned tokens a prompt.
        context_length: i64,
        /// Words whose embeddings the context starts from; empty for a random start.
        #[serde(default)]
        context_initial_words: String,
    },
    /// Deep visual prompt tuning, with a fixed text.
    Vpt {
        /// Learned tokens in the vision tower.
        vision_context_length: i64,
        /// Blocks of the vision tower that get learned tokens.
        vision_depth: i64,
    },
    /// Independent prompts in both towers; with `vision_depth = 0`, language prompts alone.
    Ivlp {
        /// Learned tokens in the text tower.
        context_length: i64,
        /// Words whose embeddings the first context starts from; empty for a random start.
        #[serde(default)]
        context_initial_words: String,
        /// Blocks of the text tower that get learned tokens.
        depth: i64,
        /// Learned tokens in the vision tower.
        vision_context_length: i64,
        /// Blocks of the vision tower that get learned tokens.
        vision_depth: i64,
    },
    /// MaPLe: prompts in the text tower, from which linear layers make those of the vision tower.
    Maple {
        /// Learned tokens in each tower.
        context_length: i64,
        /// Words whose embeddings the first context starts from; empty for a random start.
        #[serde(default)]
        context_initial_words: String,
        /// Blocks of each tower that get learned tokens.
        depth: i64,
    },
}

/// Where the class name stands in a prompt of CoOp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassTokenPosition {
    /// Behind the context.
    #[default]
    End,
    /// Between its halves.
    Middle,
    /// In front of it.
    Front,
}

/// How a learner is trained: SGD with a constant warm-up, then cosine annealing by epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Passes over the training images, the warm-up included.
    pub epochs: u32,
    /// Images a step.
    pub batch_size: u32,
    /// The learning rate from which the annealing starts.
    pub learning_rate: f64,
    /// Momentum of SGD.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Weight decay of SGD, on every learned tensor.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Epochs at `warmup_learning_rate`.
    #[serde(default = "warmup_epochs")]
    pub warmup_epochs: u32,
    /// The constant learning rate of the warm-up.
    #[serde(default = "warmup_learning_rate")]
    pub warmup_learning_rate: f64,
}

const fn dataset_template() -> bool {
    true
}

const fn momentum() -> f64 {
    0.9
}

const fn weight_decay() -> f64 {
    5e-4
}

const fn warmup_epochs() -> u32 {
    1
}

const fn warmup_learning_rate() -> f64 {
    1e-5
}

impl Method {
    /// Reads a method file.
    ///
    /// # Errors
    /// When it is no TOML, lacks an option, has an unknown one, or a value makes no sense.
    pub fn parse(text: &str) -> Result<Method> {
        let method: Method = toml::from_str(text).map_err(|error| Error::invalid(error.to_string()))?;
        method.validate()?;
        Ok(method)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the option that makes no sense, and what would.
    pub fn validate(&self) -> Result<()> {
        self.learner.validate()?;
        match (&self.learner, &self.training) {
            (Learner::ZeroShot { .. }, None) => Ok(()),
            (Learner::ZeroShot { .. }, Some(_)) => {
                Err(Error::hinted("`zero-shot` is not trained", "remove the table `[training]`"))
            }
            (_, Some(training)) => training.validate(),
            (_, None) => Err(Error::hinted(
                "the table `[training]` is missing",
                "add it with `epochs`, `batch_size` and `learning_rate`",
            )),
        }
    }
}

impl Learner {
    fn validate(&self) -> Result<()> {
        match self {
            Learner::ZeroShot { templates, dataset_template } => {
                if templates.is_empty() && !dataset_template {
                    return Err(Error::hinted(
                        "there is no template",
                        "give `templates`, or `dataset_template = true`",
                    ));
                }
                templates.iter().try_for_each(|template| check_template(template))
            }
            Learner::Coop { context_length, context_initial_words, class_specific_context, .. } => {
                if *class_specific_context && !context_initial_words.is_empty() {
                    return Err(Error::hinted(
                        "`class_specific_context` starts at random, so `context_initial_words` has no use",
                        "remove one of the two",
                    ));
                }
                coop_context(*context_length, context_initial_words)
            }
            Learner::Cocoop { context_length, context_initial_words } => {
                coop_context(*context_length, context_initial_words)
            }
            Learner::Vpt { vision_context_length, vision_depth } => {
                at_least_one("vision_context_length", *vision_context_length)?;
                at_least_one("vision_depth", *vision_depth)
            }
            Learner::Ivlp { context_length, context_initial_words, depth, vision_context_length, vision_depth } => {
                deep_context(*context_length, context_initial_words)?;
                at_least_one("depth", *depth)?;
                match (vision_context_length, vision_depth) {
                    (0, 0) => Ok(()),
                    (1.., 1..) => Ok(()),
                    _ => Err(Error::hinted(
                        format!(
                            "`vision_context_length` is {vision_context_length}, but `vision_depth` is {vision_depth}"
                        ),
                        "make both 0 for language prompts alone, or both at least 1",
                    )),
                }
            }
            Learner::Maple { context_length, context_initial_words, depth } => {
                deep_context(*context_length, context_initial_words)?;
                at_least_one("depth", *depth)
            }
        }
    }

    /// Whether the image tower works as in plain CLIP, so that image features may be computed once and shared.
    pub fn has_plain_vision(&self) -> bool {
        match self {
            Learner::ZeroShot { .. } | Learner::Coop { .. } | Learner::Cocoop { .. } => true,
            Learner::Ivlp { vision_depth, .. } => *vision_depth == 0,
            Learner::Vpt { .. } | Learner::Maple { .. } => false,
        }
    }

    /// Checks that the towers have as many blocks as prompts are wanted in.
    ///
    /// # Errors
    /// Names the depth and the tower.
    pub fn fits(&self, architecture: &Architecture) -> Result<()> {
        let text = architecture.text_layers;
        match self {
            Learner::ZeroShot { .. } | Learner::Coop { .. } | Learner::Cocoop { .. } => Ok(()),
            Learner::Vpt { vision_depth, .. } => in_vision("vision_depth", *vision_depth, architecture),
            Learner::Ivlp { depth, vision_depth, .. } => {
                at_most("depth", *depth, "text", text)?;
                in_vision("vision_depth", *vision_depth, architecture)
            }
            Learner::Maple { depth, .. } => {
                at_most("depth", *depth, "text", text)?;
                in_vision("depth", *depth, architecture)
            }
        }
    }
}

impl Training {
    fn validate(&self) -> Result<()> {
        at_least_one("epochs", i64::from(self.epochs))?;
        at_least_one("batch_size", i64::from(self.batch_size))?;
        let values = [
            ("learning_rate", self.learning_rate),
            ("momentum", self.momentum),
            ("weight_decay", self.weight_decay),
            ("warmup_learning_rate", self.warmup_learning_rate),
        ];
        match values.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            Some((name, value)) => Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 0 up")),
            None if self.momentum >= 1.0 => Err(Error::hinted(
                format!("`momentum` is {}, so no gradient is ever forgotten", self.momentum),
                "give a number below 1",
            )),
            None => Ok(()),
        }
    }
}

/// Checks that a text has one place for the class name.
///
/// # Errors
/// Names the text.
pub fn check_template(template: &str) -> Result<()> {
    if template.matches("{}").count() == 1 {
        return Ok(());
    }
    let message = format!("the template `{template}` does not hold `{{}}` once");
    Err(Error::hinted(message, "write `{}` where the class name goes"))
}

fn at_least_one(name: &str, value: i64) -> Result<()> {
    match value {
        1.. => Ok(()),
        _ => Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 1 up")),
    }
}

fn at_most(name: &str, depth: i64, tower: &str, blocks: i64) -> Result<()> {
    if depth <= blocks {
        return Ok(());
    }
    let message = format!("`{name}` is {depth}, but the {tower} tower has {blocks} blocks");
    Err(Error::hinted(message, format!("set `{name}` to at most {blocks}")))
}

/// Checks that the vision tower is a transformer of at least `depth` blocks; a ResNet takes no prompts.
fn in_vision(name: &str, depth: i64, architecture: &Architecture) -> Result<()> {
    match architecture.vision_layers {
        VisionLayers::Transformer(blocks) => at_most(name, depth, "vision", blocks),
        VisionLayers::ResNet(_) if depth == 0 => Ok(()),
        VisionLayers::ResNet(_) => Err(Error::hinted(
            format!("`{name}` is {depth}, but the vision tower is a ResNet, which takes no prompts"),
            "use weights with a vision transformer, such as `openai/ViT-B-16`",
        )),
    }
}

/// Checks that initial words are words and nothing else.
fn check_initial_words(words: &str) -> Result<()> {
    let wrong =
        [("{}", "leave it out: the learner puts the class name in its place"), ("_", "write spaces between the words")];
    match wrong.iter().find(|(text, _)| words.contains(text)) {
        Some((text, hint)) => Err(Error::hinted(format!("`context_initial_words` has `{text}`: `{words}`"), *hint)),
        None => Ok(()),
    }
}

/// In MaPLe and IVLP initial words may be longer than the context, of which the published code starts up to so many
/// tokens from them, and any longer one at random.
const LONGEST_FROM_WORDS: i64 = 4;

fn deep_context(context_length: i64, context_initial_words: &str) -> Result<()> {
    at_least_one("context_length", context_length)?;
    check_initial_words(context_initial_words)?;
    if context_length <= LONGEST_FROM_WORDS || context_initial_words.is_empty() {
        return Ok(());
    }
    Err(Error::hinted(
        format!("`context_length` is {context_length}, but initial words start {LONGEST_FROM_WORDS} tokens at most"),
        format!(
            "remove `context_initial_words` for a random start, as published, or set `context_length` to at most \
             {LONGEST_FROM_WORDS}"
        ),
    ))
}

/// In CoOp and CoCoOp the initial words decide how long the context is.
fn coop_context(context_length: i64, context_initial_words: &str) -> Result<()> {
    at_least_one("context_length", context_length)?;
    check_initial_words(context_initial_words)?;
    let words = context_initial_words.split_whitespace().count() as i64;
    if words == 0 || words == context_length {
        return Ok(());
    }
    Err(Error::hinted(
        format!("`context_length` is {context_length}, but `context_initial_words` has {words} words"),
        format!("set `context_length` to {words}, or remove the words for a random start"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPLE: &str = "learner = \"maple\"\ncontext_length = 2\ndepth = 9\n\
                         [training]\nepochs = 5\nbatch_size = 4\nlearning_rate = 0.0035\n";

    #[test]
    fn defaults_stand_in_the_json() {
        let method = Method::parse(MAPLE).unwrap();
        let json = serde_json::to_value(&method).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "learner": "maple", "context_length": 2, "context_initial_words": "", "depth": 9, "precision": "fp32",
                "training": {
                    "epochs": 5, "batch_size": 4, "learning_rate": 0.0035, "momentum": 0.9, "weight_decay": 0.0005,
                    "warmup_epochs": 1, "warmup_learning_rate": 0.00001,
                },
            })
        );
        assert_eq!(serde_json::from_value::<Method>(json).unwrap(), method);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with_words =
            |words: &str| MAPLE.replace("depth = 9", &format!("depth = 9\ncontext_initial_words = \"{words}\""));
        let cases = [
            (MAPLE.replace("depth", "depht"), "unknown field `depht`"),
            (MAPLE.replace("epochs", "epoch"), "unknown field `epoch`"),
            (MAPLE.replace("maple", "mapel"), "unknown variant `mapel`"),
            (MAPLE.replace("depth = 9\n", ""), "missing field `depth`"),
            (MAPLE.replace("depth = 9", "depth = 0"), "`depth` is 0"),
            (MAPLE.replace("0.0035", "-1.0"), "`learning_rate` is -1"),
            (format!("{MAPLE}momentum = 1.5\n"), "`momentum` is 1.5, so no gradient is ever forgotten"),
            (with_words("a photo of a {}"), "`context_initial_words` has `{}`: `a photo of a {}`"),
            (with_words("a_photo_of_a"), "`context_initial_words` has `_`: `a_photo_of_a`"),
            (
                with_words("a photo of a").replace("length = 2", "length = 8"),
                "`context_length` is 8, but initial words start 4 tokens at most",
            ),
            (
                MAPLE.replace("depth = 9", "depth = 9\nprecision = \"fp64\""),
                "unknown variant `fp64`, expected one of `fp32`, `published-fp32`, `fp16`, `bf16`, `mixed`",
            ),
            (MAPLE.split("[training]").next().unwrap().to_owned(), "the table `[training]` is missing"),
            ("learner = \"zero-shot\"\ndepth = 1\n".to_owned(), "unknown field `depth`"),
            (MAPLE.replace("maple", "zero-shot").replace("context_length = 2\ndepth = 9\n", ""), "is not trained"),
            ("learner = \"zero-shot\"\ndataset_template = false\n".to_owned(), "there is no template"),
            ("learner = \"zero-shot\"\ntemplates = [\"a photo\"]\n".to_owned(), "`a photo` does not hold `{}` once"),
        ];
        for (text, expected) in cases {
            let message = Method::parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\ndoes not say: {expected}");
        }
    }

    #[test]
    fn a_depth_beyond_the_tower_is_refused() {
        let learner = Method::parse(MAPLE).unwrap().learner;
        assert_eq!(learner.fits(&Architecture::vit_b16()).ok(), Some(()));
        let message = learner.fits(&Architecture::tiny()).unwrap_err().to_string();
        assert_eq!(message, "`depth` is 9, but the text tower has 3 blocks");
    }

    #[test]
    fn a_resnet_takes_no_prompts() {
        let parse = |text: &str| {
            let training = "[training]\nepochs = 1\nbatch_size = 1\nlearning_rate = 0.1\n";
            Method::parse(&format!("{text}\n{training}")).unwrap().learner
        };
        let resnet = Architecture::rn50();
        let coop = "learner = 'coop'\ncontext_length = 4";
        let cocoop = "learner = 'cocoop'\ncontext_length = 4";
        let vpt = "learner = 'vpt'\nvision_context_length = 4\nvision_depth = 3";
        let zero_shot = Learner::ZeroShot { templates: Vec::new(), dataset_template: true };
        for learner in [zero_shot, parse(coop), parse(cocoop)] {
            learner.fits(&resnet).unwrap();
        }
        for (learner, name) in [(parse(vpt), "vision_depth"), (Method::parse(MAPLE).unwrap().learner, "depth")] {
            let message = learner.fits(&resnet).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{name}` is ")), "{message}");
            assert!(message.ends_with("but the vision tower is a ResNet, which takes no prompts"), "{message}");
        }
    }
}
