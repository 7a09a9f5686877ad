//! The tensors that each learner learns: their published names and shapes, and what a file's tensors tell of the learner.

use std::collections::BTreeMap;

use super::{ClassTokenPosition, Learner};

/// The length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// So many.
    Count(i64),
    /// The width of the text tower.
    Text,
    /// The width of the vision tower.
    Vision,
    /// The width of the space that both towers lead to.
    Embedding,
    /// The width of CoCoOp's hidden layer.
    Hidden,
    /// One for each class.
    Classes,
}

/// The context, in every learner with a learned text.
pub const CONTEXT: &str = "prompt_learner.ctx";
/// MaPLe's projection of the context to the vision tower.
pub const PROJECTION: &str = "prompt_learner.proj";
/// MaPLe's deep prompts, by number.
pub const DEEP: &str = "prompt_learner.compound_prompts_text";
/// MaPLe's projections of these.
pub const DEEP_PROJECTION: &str = "prompt_learner.compound_prompt_projections";
/// CoCoOp's network.
pub const META_NET: &str = "prompt_learner.meta_net";
/// The shallow tokens of the vision tower.
const VISION: &str = "image_encoder.VPT";

/// The name of the deep tokens of the vision tower's block.
fn vision_block(block: i64) -> String {
    match block {
        0 => VISION.to_owned(),
        block => format!("image_encoder.transformer.resblocks.{block}.VPT_shallow"),
    }
}

/// The name of the deep tokens of the text tower's block.
fn text_block(block: i64) -> String {
    format!("text_encoder.transformer.resblocks.{block}.VPT_shallow")
}

/// The name of a vision tower's tokens for the first `depth` blocks.
pub fn vision_names(depth: i64) -> impl Iterator<Item = String> {
    (0..depth).map(vision_block)
}

/// The names of the text tower's deep tokens for the blocks behind the first, `depth` blocks in all.
pub fn text_names(depth: i64) -> impl Iterator<Item = String> {
    (1..depth).map(text_block)
}

impl Learner {
    /// What is learned, under the published names and in their order, with shapes.
    pub fn learnable(&self) -> Vec<(String, Vec<Axis>)> {
        use Axis::{Classes, Count, Embedding, Hidden, Text, Vision};
        let linear = |name: &str, output, input| {
            [(format!("{name}.weight"), vec![output, input]), (format!("{name}.bias"), vec![output])]
        };
        let context = |length: i64| (CONTEXT.to_owned(), vec![Count(length), Text]);
        let mut learnable = Vec::new();
        match *self {
            Learner::ZeroShot { .. } => {}
            Learner::Coop { context_length, class_specific_context: true, .. } => {
                learnable.push((CONTEXT.to_owned(), vec![Classes, Count(context_length), Text]));
            }
            Learner::Coop { context_length, .. } => learnable.push(context(context_length)),
            Learner::Cocoop { context_length, .. } => {
                learnable.push(context(context_length));
                learnable.extend(linear(&format!("{META_NET}.linear1"), Hidden, Embedding));
                learnable.extend(linear(&format!("{META_NET}.linear2"), Text, Hidden));
            }
            Learner::Vpt { vision_context_length, vision_depth } => {
                let tokens = vec![Count(vision_context_length), Vision];
                learnable.extend(vision_names(vision_depth).map(|name| (name, tokens.clone())));
            }
            Learner::Ivlp { context_length, depth, vision_context_length, vision_depth, .. } => {
                learnable.push(context(context_length));
                let tokens = vec![Count(vision_context_length), Vision];
                learnable.extend(vision_names(vision_depth).map(|name| (name, tokens.clone())));
                learnable.extend(text_names(depth).map(|name| (name, vec![Count(context_length), Text])));
            }
            Learner::Maple { context_length, depth, .. } => {
                learnable.push(context(context_length));
                learnable.extend(linear(PROJECTION, Vision, Text));
                let deep = 0..depth - 1;
                learnable.extend(deep.clone().map(|one| (format!("{DEEP}.{one}"), vec![Count(context_length), Text])));
                learnable.extend(deep.flat_map(|one| linear(&format!("{DEEP_PROJECTION}.{one}"), Vision, Text)));
            }
        }
        learnable
    }

    /// The learner that tensors of these names and shapes are of, with those options that they tell; the others have
    /// their defaults.
    pub fn of_tensors(shapes: &BTreeMap<String, Vec<i64>>) -> Option<Learner> {
        let rows = |name: &str| shapes.get(name)?.iter().rev().nth(1).copied();
        let count =
            |names: &mut dyn Iterator<Item = String>| names.take_while(|name| shapes.contains_key(name)).count() as i64;
        let vision_depth = count(&mut vision_names(i64::MAX));
        let vision_context_length = rows(VISION).unwrap_or(0);
        let Some(context_length) = rows(CONTEXT) else {
            return (vision_depth > 0).then_some(Learner::Vpt { vision_context_length, vision_depth });
        };
        let context_initial_words = String::new();
        let depth = 1 + count(&mut text_names(i64::MAX));
        let begins = |prefix: &str| shapes.keys().any(|name| name.starts_with(prefix));
        Some(if begins(PROJECTION) {
            let depth = 1 + count(&mut (0..).map(|one| format!("{DEEP}.{one}")));
            Learner::Maple { context_length, context_initial_words, depth }
        } else if begins(META_NET) {
            Learner::Cocoop { context_length, context_initial_words }
        } else if depth > 1 || vision_depth > 0 {
            Learner::Ivlp { context_length, context_initial_words, depth, vision_context_length, vision_depth }
        } else {
            let class_specific_context = shapes[CONTEXT].len() == 3;
            let class_token_position = ClassTokenPosition::End;
            Learner::Coop { context_length, context_initial_words, class_token_position, class_specific_context }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(learner: &Learner) -> BTreeMap<String, Vec<i64>> {
        let length = |axis: Axis| match axis {
            Axis::Count(count) => count,
            Axis::Text => 512,
            Axis::Vision => 768,
            Axis::Embedding => 512,
            Axis::Hidden => 32,
            Axis::Classes => 37,
        };
        let learnable = learner.learnable().into_iter();
        learnable.map(|(name, axes)| (name, axes.into_iter().map(length).collect())).collect()
    }

    #[test]
    fn a_learner_is_recognised_by_what_it_learns() {
        let words = String::new;
        let position = ClassTokenPosition::End;
        let coop = |class_specific_context| Learner::Coop {
            context_length: 16,
            context_initial_words: words(),
            class_token_position: position,
            class_specific_context,
        };
        let ivlp = |vision_context_length, vision_depth| Learner::Ivlp {
            context_length: 4,
            context_initial_words: words(),
            depth: 12,
            vision_context_length,
            vision_depth,
        };
        let learners = [
            coop(false),
            coop(true),
            Learner::Cocoop { context_length: 4, context_initial_words: words() },
            Learner::Vpt { vision_context_length: 8, vision_depth: 12 },
            ivlp(2, 9),
            ivlp(0, 0),
            Learner::Maple { context_length: 2, context_initial_words: words(), depth: 9 },
            Learner::Maple { context_length: 2, context_initial_words: words(), depth: 1 },
        ];
        for learner in learners {
            assert_eq!(Learner::of_tensors(&shapes(&learner)), Some(learner));
        }
        assert_eq!(Learner::of_tensors(&BTreeMap::from([("layer1.weight".to_owned(), vec![3, 3])])), None);
    }
}
