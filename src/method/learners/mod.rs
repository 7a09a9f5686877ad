//! The learners, one file each: options, what makes sense of them, and what is learned under which published names. Their
//! computation is in the files of the same names in the package `maple-pipe-worker`.
//!
//! The list below is the only place that names them all; from it come what method files may say, their schema and
//! reference, and what is known of a checkpoint by its tensors.

mod clip_adapter;
mod clip_lora;
mod cocoop;
mod coop;
mod ivlp;
mod kgcoop;
mod linear_probe;
mod maple;
mod mma;
mod prograd;
mod promptsrc;
mod task_residual;
mod tcp;
mod tip_adapter;
mod vpt;
mod zero_shot;
mod zs_lp;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use clip_lora::{Product, update_name};
pub use coop::ClassTokenPosition;
pub use ivlp::TEXT_BLOCKS;
pub use maple::{DEEP, DEEP_PROJECTION, PROJECTION};
pub use mma::adapter_layers;
pub use promptsrc::Aggregate;
pub use tcp::CLASS_TOKENS;

pub use clip_adapter::LAYERS as ADAPTER_LAYERS;
pub use cocoop::linear as meta_net;
pub use linear_probe::{BIAS, C, WEIGHT};
pub use task_residual::RESIDUAL;
pub use tip_adapter::{ALPHA, BETA, COUNTS, KEYS};
pub use zs_lp::CLASS_WEIGHTS;

use super::learnable::{Form, Learned, Length, TensorShapes, Tower, is_below};
use super::options::{CheckpointLayout, Input, Options, Steps, Teacher};
use crate::architecture::Architecture;
use crate::data::SplitPart;
use crate::error::Result;

macro_rules! learners {
    ($($name:tt => $file:ident::$options:ident,)+) => {
        $(pub use $file::$options;)+

        /// The learners and their options. A `context_length` counts learned tokens, a depth the blocks that get prompts.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "learner")]
        #[expect(missing_docs, reason = "the options say it")]
        pub enum Learner {
            $(#[serde(rename = $name)] $options($options),)+
        }

        impl Learner {
            /// The names of all learners in method files.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Its name in a method file.
            pub fn name(&self) -> &'static str {
                match self { $(Learner::$options(_) => $name,)+ }
            }

            /// Checks the values.
            ///
            /// # Errors
            /// Names the option that makes no sense, and what would.
            pub(super) fn validate(&self) -> Result<()> {
                match self { $(Learner::$options(options) => options.validate(),)+ }
            }

            /// Checks that a model has room for what is learned.
            ///
            /// # Errors
            /// Names the option and the tower.
            pub fn fits(&self, architecture: &Architecture) -> Result<()> {
                match self { $(Learner::$options(options) => options.fits(architecture),)+ }
            }

            /// What is learned, in the published order; nothing where there is no training.
            pub fn learned(&self) -> Vec<Learned> {
                match self { $(Learner::$options(options) => options.learned(),)+ }
            }

            /// Whether the image tower works as in plain CLIP, so that image features may be computed once and shared.
            pub fn has_plain_vision(&self) -> bool {
                match self { $(Learner::$options(options) => options.has_plain_vision(),)+ }
            }

            /// Whether every image has prompts of its own: they come of its features.
            pub fn has_texts_per_image(&self) -> bool {
                match self { $(Learner::$options(options) => options.has_texts_per_image(),)+ }
            }

            /// Whether it works behind the towers: its training takes all its image features from a `features` stage.
            pub fn works_on_features(&self) -> bool {
                match self { $(Learner::$options(options) => options.works_on_features(),)+ }
            }

            /// Whether what is learned is found by steps down a loss.
            pub(super) fn steps(&self) -> Steps {
                match self { $(Learner::$options(options) => options.steps(),)+ }
            }

            /// The images by which a training chooses what steps do not find.
            pub fn chooses_by(&self) -> &'static [SplitPart] {
                match self { $(Learner::$options(options) => options.chooses_by(),)+ }
            }

            /// How many texts a class has.
            pub fn texts_per_class(&self) -> usize {
                match self { $(Learner::$options(options) => options.texts_per_class(),)+ }
            }

            /// What it reads beside images and weights.
            pub fn inputs(&self) -> Vec<Input> {
                match self { $(Learner::$options(options) => options.inputs(),)+ }
            }

            /// What a training asks of plain CLIP.
            pub fn teacher(&self) -> Teacher {
                match self { $(Learner::$options(options) => options.teacher(),)+ }
            }

            /// The weights with which a training of so many epochs averages CLIP's own tensors over them.
            pub(super) fn clip_average(&self, epochs: u32) -> Vec<f64> {
                match self { $(Learner::$options(options) => options.clip_average(epochs),)+ }
            }

            /// The options that tensors tell.
            pub(super) fn told(&self) -> &'static [&'static str] {
                match self { $(Learner::$options(_) => $options::TOLD,)+ }
            }

            /// Under what published names its checkpoints alone hold frozen tensors.
            fn frozen(&self) -> &'static [&'static str] {
                match self { $(Learner::$options(_) => $options::FROZEN,)+ }
            }

            /// Under what published names its checkpoints hold tensors that nothing uses.
            fn left_over(&self) -> &'static [&'static str] {
                match self { $(Learner::$options(_) => $options::LEFT_OVER,)+ }
            }

            /// The learners whose checkpoints published code loads, and how it keeps them.
            pub(super) fn layouts() -> impl Iterator<Item = (&'static str, CheckpointLayout)> {
                [$(($name, $options::LAYOUT)),+].into_iter().filter_map(|(name, layout)| Some((name, layout?)))
            }

            /// Every learner that tensors of these shapes may be of.
            fn candidates(shapes: &TensorShapes) -> impl Iterator<Item = Learner> {
                [$($options::of_tensors(shapes).map(Learner::$options)),+].into_iter().flatten()
            }

            /// Whether a tensor is one that some learner learns, or that its checkpoints have left over, by its published name.
            pub(super) fn is_learned(name: &str) -> bool {
                [$($options::STEMS, $options::LEFT_OVER),+].iter().any(|stems| stems.iter().any(|stem| is_below(name, stem)))
            }
        }
    };
}

learners! {
    "zero-shot" => zero_shot::ZeroShot,
    "coop" => coop::Coop,
    "cocoop" => cocoop::Cocoop,
    "vpt" => vpt::Vpt,
    "ivlp" => ivlp::Ivlp,
    "maple" => maple::Maple,
    "promptsrc" => promptsrc::PromptSrc,
    "kgcoop" => kgcoop::Kgcoop,
    "tcp" => tcp::Tcp,
    "prograd" => prograd::Prograd,
    "linear-probe" => linear_probe::LinearProbe,
    "zs-lp" => zs_lp::ZsLp,
    "task-residual" => task_residual::TaskResidual,
    "clip-adapter" => clip_adapter::ClipAdapter,
    "tip-adapter" => tip_adapter::TipAdapter,
    "clip-lora" => clip_lora::ClipLora,
    "mma" => mma::Mma,
}

impl Learner {
    /// The names and shapes of the tensors that are learned, in the published order.
    pub fn learnable(&self) -> Vec<(String, Vec<Length>)> {
        self.learned().iter().flat_map(Learned::tensors).collect()
    }

    /// Whether its prompts run through the text tower in every step of a training.
    pub fn learns_text(&self) -> bool {
        self.learned().iter().any(|one| match one.form {
            Form::Tokens { tower, .. } | Form::LowRank { tower, .. } => tower == Tower::Text,
            Form::AdapterLayer { input, .. } => input == Length::Text,
            Form::Linear { .. } | Form::Free { .. } => false,
        })
    }

    /// Whether what is learned belongs to certain classes.
    pub(super) fn is_bound(&self) -> bool {
        self.learnable().iter().any(|(_, axes)| axes.contains(&Length::Classes))
    }

    /// Whether a tensor is one that checkpoints of this learner hold and that nothing uses.
    pub(super) fn leaves_over(&self, name: &str) -> bool {
        self.left_over().iter().any(|stem| is_below(name, stem)) && !self.learnable().iter().any(|(own, _)| own == name)
    }

    /// The learners that tensors of these shapes are of, with those options that they tell: those with the fewest tensors that
    /// they lack or do not know; of equals, those which know more, and then those which learn the same as the first of the list.
    /// Their order is that of the list.
    pub(super) fn of_tensors(shapes: &TensorShapes) -> Vec<Learner> {
        let differences = |learner: &Learner| {
            let own = learner.learnable();
            let found = own.iter().filter(|(name, _)| shapes.get(name).is_some()).count();
            let left_over = shapes.0.keys().filter(|name| learner.leaves_over(name)).count();
            let (missing, unknown) = (own.len() - found, shapes.0.len() - found - left_over);
            (missing + unknown, unknown)
        };
        let first = Learner::candidates(shapes).min_by_key(differences).map(|learner| learner.learnable());
        Learner::candidates(shapes).filter(|learner| Some(learner.learnable()) == first).collect()
    }

    /// How many of the names are there under which its checkpoints hold more than what is learned: frozen tensors, `None` where
    /// one of them lacks, and tensors that nothing uses.
    pub(super) fn likeness(&self, names: &[String]) -> Option<usize> {
        let (frozen, is_there) = (self.frozen(), |stem: &&&str| names.iter().any(|name| is_below(name, stem)));
        let left_over = self.left_over().iter().filter(is_there).count();
        frozen.iter().all(|stem| is_there(&stem)).then_some(frozen.len() + left_over)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::method::learnable::Blocks;

    fn shapes(learner: &Learner) -> TensorShapes {
        let length = |length: Length| length.of(&Architecture::vit_b16(), 37, 74);
        let learnable = learner.learnable().into_iter();
        TensorShapes(learnable.map(|(name, axes)| (name, axes.into_iter().map(length).collect())).collect())
    }

    fn learners() -> Vec<Learner> {
        let coop = |class_specific_context| {
            Learner::Coop(Coop {
                context_length: 16,
                context_initial_words: String::new(),
                class_token_position: ClassTokenPosition::End,
                class_specific_context,
            })
        };
        let ivlp = |vision_context_length, vision_depth| {
            Learner::Ivlp(Ivlp {
                context_length: 4,
                context_initial_words: String::new(),
                depth: 12,
                vision_context_length,
                vision_depth,
            })
        };
        let of = |text: &str| toml::from_str::<Learner>(text).unwrap();
        let clip_lora = |text_blocks, vision_blocks| {
            let template = "a photo of a {}.".to_owned();
            let products = vec![Product::Query, Product::Output];
            Learner::ClipLora(ClipLora {
                template,
                rank: 3,
                alpha: 1.0,
                dropout: 0.0,
                products,
                text_blocks,
                vision_blocks,
            })
        };
        let maple = |depth| Learner::Maple(Maple { context_length: 2, context_initial_words: String::new(), depth });
        vec![
            coop(false),
            coop(true),
            Learner::Cocoop(Cocoop { context_length: 4, context_initial_words: String::new() }),
            Learner::Vpt(Vpt { vision_context_length: 8, vision_depth: 12 }),
            ivlp(2, 9),
            ivlp(0, 0),
            maple(9),
            maple(1),
            Learner::Tcp(Tcp {
                context_length: 4,
                context_initial_words: String::new(),
                prompt_template: "X X X X {}.".to_owned(),
                teacher_template: "a photo of a {}.".to_owned(),
                teacher_weight: 8.0,
                class_token_block: 8,
            }),
            of("learner = 'linear-probe'"),
            of("learner = 'zs-lp'"),
            of("learner = 'task-residual'"),
            of("learner = 'clip-adapter'"),
            of("learner = 'tip-adapter'"),
            clip_lora(Some(Blocks([1, 12])), Some(Blocks([2, 3]))),
            clip_lora(None, Some(Blocks([12, 12]))),
            Learner::Mma(Mma { blocks: Blocks([5, 12]), width: 32, scale: 0.001 }),
        ]
    }

    /// Two that learn the same cannot be told apart by it; that which needs no more than its prompts is the first.
    #[test]
    fn learners_that_learn_the_same_are_recognised_together() {
        let alike: [(usize, &[&str]); 2] =
            [(4, &["ivlp", "promptsrc"]), (0, &["coop", "ivlp", "promptsrc", "kgcoop", "prograd"])];
        for (one, expected) in alike {
            let first = learners().remove(one);
            let found = Learner::of_tensors(&shapes(&first));
            assert_eq!(found.iter().map(Learner::name).collect::<Vec<_>>(), expected);
            assert_eq!(found[0], first);
            assert!(found.iter().all(|learner| shapes(learner).0 == shapes(&first).0));
        }
    }

    /// KgCoOp learns what CoOp learns; what its checkpoints have left over tells the two apart.
    #[test]
    fn what_is_left_over_tells_a_learner() {
        let TensorShapes(plain) = shapes(&learners()[0]);
        let unused = [
            ("bias_vectors", vec![1, 512]),
            ("meta_net.linear1.weight", vec![512, 512]),
            ("meta_net.linear1.bias", vec![512]),
        ];
        let unused = unused.map(|(name, shape)| (format!("prompt_learner.{name}"), shape));
        let all: BTreeMap<_, _> = plain.into_iter().chain(unused.clone()).collect();
        let names: Vec<String> = all.keys().cloned().collect();
        let found = Learner::of_tensors(&TensorShapes(all));
        let found = found.into_iter().rev().max_by_key(|learner| learner.likeness(&names)).unwrap();
        assert_eq!(found.name(), "kgcoop");
        assert!(unused.iter().all(|(name, _)| found.leaves_over(name) && Learner::is_learned(name)));
        assert!(!found.leaves_over(crate::method::learnable::CONTEXT));
    }

    #[test]
    fn a_learner_is_recognised_by_what_it_learns() {
        for learner in learners() {
            assert_eq!(Learner::of_tensors(&shapes(&learner)).first(), Some(&learner));
        }
        let foreign = BTreeMap::from([("layer1.weight".to_owned(), vec![3, 3])]);
        assert_eq!(Learner::of_tensors(&TensorShapes(foreign)), []);
    }

    /// One that lacks a tensor is still known, so that a message can name what is missing.
    #[test]
    fn a_learner_is_recognised_by_most_of_what_it_learns() {
        for learner in learners() {
            let TensorShapes(whole) = shapes(&learner);
            for name in whole.keys().filter(|name| whole.len() > 2 && !name.ends_with("ctx") && !name.ends_with("VPT"))
            {
                let mut damaged = whole.clone();
                damaged.remove(name);
                let found = Learner::of_tensors(&TensorShapes(damaged));
                assert_eq!(found[0].name(), learner.name(), "without `{name}`");
            }
        }
    }

    #[test]
    fn what_is_learned_tells_which_texts_are_read() {
        let told = |learner: &Learner| (learner.learns_text(), learner.has_texts_per_image());
        let all: Vec<(bool, bool)> = learners().iter().map(told).collect();
        let [no_text, shared, per_image] = [(false, false), (true, false), (true, true)];
        let [changed, on_features] = [[shared, no_text, shared], [no_text; 3]];
        assert_eq!(all[..9], [shared, shared, per_image, no_text, shared, shared, shared, shared, shared]);
        assert_eq!((&all[9..12], &all[12..14], &all[14..]), (&on_features[..], &on_features[..2], &changed[..]));
    }

    #[test]
    fn what_is_learned_is_found_in_a_checkpoint() {
        for learner in learners() {
            for (name, _) in learner.learnable() {
                assert!(Learner::is_learned(&name), "{name}");
            }
        }
    }
}
