//! What can be learned: tokens and linear layers, under their published names. Each learner lists its own, and the model
//! that is trained, the file that is written, the checkpoint that is imported and the words near a prompt follow from the
//! list.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;

/// The context, in every learner with a learned text.
pub const CONTEXT: &str = "prompt_learner.ctx";
/// The network that makes tokens of features.
pub(super) const META_NET: &str = "prompt_learner.meta_net";
/// The shallow tokens of the vision tower.
pub const VISION: &str = "image_encoder.VPT";
/// The tokens of the vision tower's blocks behind the first; `*` is the number of the block, from 1.
pub const VISION_BLOCKS: &str = "image_encoder.transformer.resblocks.*.VPT_shallow";

/// More blocks than any tower has.
pub(super) const DEEPEST: i64 = 1_000;

/// The length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many.
    Count(i64),
    /// The width of the text tower.
    Text,
    /// So many times that width: tokens side by side.
    Texts(i64),
    /// The width of the vision tower.
    Vision,
    /// The width of the space that both towers lead to.
    Embedding,
    /// That width divided by so much.
    Reduced(i64),
    /// One for each class.
    Classes,
    /// One for each image of the few-shot sample.
    Images,
}

impl Length {
    /// The number in a model and with so many classes and images.
    pub fn of(self, architecture: &Architecture, classes: usize, images: usize) -> i64 {
        match self {
            Length::Count(count) => count,
            Length::Text => architecture.text_width,
            Length::Texts(count) => count * architecture.text_width,
            Length::Vision => architecture.vision_width,
            Length::Embedding => architecture.embedding,
            Length::Reduced(divisor) => architecture.embedding / divisor,
            Length::Classes => classes as i64,
            Length::Images => images as i64,
        }
    }
}

/// Neighbouring blocks of a tower: the first and the last of them, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocks(pub [i64; 2]);

impl Blocks {
    /// The last of them, from 1.
    pub fn last(self) -> i64 {
        self.0[1]
    }

    /// Their numbers, from 0.
    pub fn numbers(self) -> impl Iterator<Item = i64> {
        let Blocks([first, last]) = self;
        first - 1..last
    }

    /// These and others, and what is between them.
    pub(super) fn with(self, Blocks([first, last]): Blocks) -> Blocks {
        Blocks([self.0[0].min(first), self.0[1].max(last)])
    }

    /// The blocks in front of each of them.
    pub(super) fn one_less(self) -> Blocks {
        Blocks(self.0.map(|number| number - 1))
    }
}

/// One thing that is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Its published name; a layer's tensors have more behind it.
    pub name: String,
    /// What it is.
    pub form: Form,
    /// Whether it is learned in fp32 whatever the precision of the method.
    pub wide: bool,
}

/// The forms of what is learned.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Tokens that take the place of others, or stand beside them, in front of a block of a tower.
    Tokens {
        /// Which tower.
        tower: Tower,
        /// The block, from 0.
        block: i64,
        /// How many.
        count: i64,
        /// Whether each class has its own.
        per_class: bool,
        /// Words whose embeddings they start from; empty for a random start.
        initial_words: String,
    },
    /// A linear layer: `NAME.weight` and `NAME.bias`.
    Linear {
        /// The width that it leads to.
        output: Length,
        /// The width that it leads from.
        input: Length,
        /// The name under which it starts at random: layers that share it start alike.
        drawn_as: String,
    },
    /// A tensor behind the towers, such as weights of classes.
    Free {
        /// Its shape.
        axes: Vec<Length>,
        /// Where it starts.
        start: Start,
    },
    /// An update of a square product in a tower: `NAME.w_lora_A`, `(rank, width)`, which starts as a linear layer does, and
    /// `NAME.w_lora_B`, `(width, rank)`, which starts at zero.
    LowRank {
        /// Which tower.
        tower: Tower,
        /// The rank.
        rank: i64,
    },
    /// A linear layer of an adapter in a tower, `NAME.weight` and `NAME.bias`: its weight starts from a normal distribution
    /// with a variance of two over the width that it leads to, its bias at zero.
    AdapterLayer {
        /// The width that it leads to.
        output: Length,
        /// The width that it leads from.
        input: Length,
    },
}

/// Where a tensor behind the towers starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At random, as the weight of a linear layer.
    Uniform,
    /// From what the learner puts there; zeros before that.
    Given,
    /// The same, and no step moves it.
    Fixed,
}

/// The towers of CLIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Tower {
    Text,
    Vision,
}

impl Learned {
    /// Tokens at the input of the text tower, which classes share.
    pub(super) fn context(count: i64, initial_words: &str) -> Learned {
        Learned::at_input(count, false, initial_words)
    }

    /// Tokens at the input of the text tower, for each class its own.
    pub(super) fn context_per_class(count: i64) -> Learned {
        Learned::at_input(count, true, "")
    }

    fn at_input(count: i64, per_class: bool, initial_words: &str) -> Learned {
        let initial_words = initial_words.to_owned();
        let form = Form::Tokens { tower: Tower::Text, block: 0, count, per_class, initial_words };
        Learned { name: CONTEXT.to_owned(), form, wide: false }
    }

    /// Tokens in front of a block of a tower, with a random start. The published code keeps them in fp32.
    pub(super) fn tokens(name: String, tower: Tower, block: i64, count: i64) -> Learned {
        let form = Form::Tokens { tower, block, count, per_class: false, initial_words: String::new() };
        Learned { name, form, wide: true }
    }

    /// Tokens for the first `depth` blocks of the vision tower.
    pub(super) fn vision(count: i64, depth: i64) -> impl Iterator<Item = Learned> {
        (0..depth).map(move |block| Learned::tokens(vision_name(block), Tower::Vision, block, count))
    }

    /// A linear layer.
    pub(super) fn linear(name: String, output: Length, input: Length) -> Learned {
        let drawn_as = name.clone();
        Learned { name, form: Form::Linear { output, input, drawn_as }, wide: false }
    }

    /// A tensor behind the towers, in fp32.
    pub(super) fn free(name: &str, axes: &[Length], start: Start) -> Learned {
        Learned { name: name.to_owned(), form: Form::Free { axes: axes.to_vec(), start }, wide: true }
    }

    /// The names and shapes of its tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<Length>)> {
        match &self.form {
            &Form::Tokens { tower, count, per_class, .. } => {
                let width = if tower == Tower::Text { Length::Text } else { Length::Vision };
                let classes = per_class.then_some(Length::Classes);
                vec![(self.name.clone(), classes.into_iter().chain([Length::Count(count), width]).collect())]
            }
            Form::Free { axes, .. } => vec![(self.name.clone(), axes.clone())],
            &Form::LowRank { tower, rank } => {
                let width = if tower == Tower::Text { Length::Text } else { Length::Vision };
                let (down, up) = (vec![Length::Count(rank), width], vec![width, Length::Count(rank)]);
                vec![(format!("{}.w_lora_A", self.name), down), (format!("{}.w_lora_B", self.name), up)]
            }
            &(Form::Linear { output, input, .. } | Form::AdapterLayer { output, input }) => {
                let [weight, bias] = ["weight", "bias"].map(|part| format!("{}.{part}", self.name));
                vec![(weight, vec![output, input]), (bias, vec![output])]
            }
        }
    }
}

/// A published name with a number in the place of its `*`.
pub fn numbered(name: &str, number: i64) -> String {
    name.replacen('*', &number.to_string(), 1)
}

/// The name of the vision tower's tokens in front of a block, from 0.
pub fn vision_name(block: i64) -> String {
    if block == 0 { VISION.to_owned() } else { numbered(VISION_BLOCKS, block) }
}

/// Whether a tensor's name is `stem`, in which `*` stands for any part between two dots, or has more parts behind that.
pub(super) fn is_below(name: &str, stem: &str) -> bool {
    let mut parts = name.split('.');
    stem.split('.').all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
}

/// The names and shapes of a file's tensors.
#[derive(Debug)]
pub struct TensorShapes(pub BTreeMap<String, Vec<i64>>);

impl TensorShapes {
    /// The shape of a tensor, if the file has it.
    pub(super) fn get(&self, name: &str) -> Option<&[i64]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// How many tokens a tensor holds, for each class if they are bound to classes.
    pub(super) fn tokens(&self, name: &str) -> Option<i64> {
        self.get(name)?.iter().rev().nth(1).copied()
    }

    /// The width that a linear layer leads to.
    pub(super) fn outputs(&self, layer: &str) -> Option<i64> {
        ["weight", "bias"].iter().find_map(|part| self.get(&format!("{layer}.{part}"))?.first().copied())
    }

    /// The blocks whose numbers stand for the `*` in names of this form, which count from 0; none where none has one.
    pub(super) fn blocks(&self, form: &str) -> Option<Blocks> {
        let (front, behind) = form.split_once('*')?;
        let number = |name: &String| name.strip_prefix(front)?.strip_suffix(behind)?.parse::<i64>().ok();
        let numbers = self.0.keys().filter_map(number).filter(|number| (0..DEEPEST).contains(number));
        numbers.map(|number| Blocks([number + 1; 2])).reduce(Blocks::with)
    }

    /// How many tensors have a name of this form, with any number for its `*`.
    pub(super) fn count(&self, form: &str) -> i64 {
        self.0.keys().filter(|name| is_below(name, form)).count() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stem_takes_whole_parts() {
        let cases = [
            ("prompt_learner.ctx", "prompt_learner.ctx", true),
            ("prompt_learner.ctxx", "prompt_learner.ctx", false),
            ("prompt_learner.proj.weight", "prompt_learner.proj", true),
            ("prompt_learner", "prompt_learner.ctx", false),
            ("image_encoder.transformer.resblocks.3.VPT_shallow", VISION_BLOCKS, true),
            ("image_encoder.transformer.resblocks.3.attn", VISION_BLOCKS, false),
        ];
        for (name, stem, expected) in cases {
            assert_eq!(is_below(name, stem), expected, "{name}, {stem}");
        }
    }
}
