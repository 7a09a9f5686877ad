//! PromptSRC: the prompts of independent vision-language prompting, a loss that holds what they make near plain CLIP, and their
//! average over the epochs (`trainers/promptsrc.py` of the published code).

use std::cell::OnceCell;

use tch::{Kind, Tensor};

use super::ivlp::Ivlp;
use crate::clip::{Clip, Kinds, VisionPrompts};
use crate::method::learner::{Learner, Parts, Text};
use crate::method::loss::{Forward, Term};
use crate::method::passes;
use crate::method::teacher::mean_text_features;
use maple_pipe::error::Result;
use maple_pipe::method::learners::{self, Aggregate};

/// The prompts, the teacher's texts, and the sums of what is learned.
pub(super) struct PromptSrc {
    prompts: Ivlp,
    options: learners::PromptSrc,
    class_names: Vec<String>,
    parts: passes::Parts,
    /// What plain CLIP says of the classes; made when a loss is first asked for, since an evaluation does not need it.
    teacher: OnceCell<Tensor>,
    learned: Vec<(String, Tensor)>,
    /// What is learned times the weight of each epoch so far, in the order of `learned`.
    sums: Vec<Tensor>,
}

impl PromptSrc {
    pub(super) fn new(options: &learners::PromptSrc, parts: &Parts<'_>) -> Result<PromptSrc> {
        options.teacher_templates().iter().try_for_each(|template| parts.words.check_room(template))?;
        let learned = parts.learned.named();
        let zeros = |tensor: &Tensor| match options.aggregate {
            Aggregate::Prompts => tensor.detach().to_kind(Kind::Float).zeros_like(),
            Aggregate::All => tensor.detach().zeros_like(),
        };
        Ok(PromptSrc {
            prompts: Ivlp::new(&options.prompts(), parts)?,
            options: options.clone(),
            class_names: parts.words.class_names.to_vec(),
            parts: parts.words.parts,
            teacher: OnceCell::new(),
            sums: learned.iter().map(|(_, tensor)| zeros(tensor)).collect(),
            learned,
        })
    }

    /// What plain CLIP says of the classes, normalised `(classes, embedding)` in fp32.
    fn teacher(&self, clip: &Clip) -> &Tensor {
        self.teacher.get_or_init(|| {
            let templates = self.options.teacher_templates();
            let features = mean_text_features(clip, &templates, &self.class_names, self.parts);
            features.expect("every text was looked at when the learner was bound")
        })
    }
}

impl Learner for PromptSrc {
    fn vision_prompts(&self) -> VisionPrompts {
        self.prompts.vision_prompts()
    }

    fn text(&self, image_features: &Tensor) -> Text<'_> {
        self.prompts.text(image_features)
    }

    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        let clip = forward.clip;
        let class_features = forward.class_features.squeeze_dim(0);
        let (image_features, of_classes) = (&forward.image_features, self.teacher(clip));
        let of_images = forward.frozen_image_features.as_ref().unwrap_or(image_features).detach();
        // The published code rounds what it rounds of the prompts.
        let rounded = of_classes.to_kind(Kinds::of(clip.precision()).prompts).to_kind(clip.kind());
        let expected = (clip.logit_scale() * of_images.matmul(&rounded.tr())).log_softmax(-1, Kind::Float);
        let found = forward.logits.log_softmax(-1, Kind::Float);
        // The mean over images and classes, as published, and not that over images.
        let divergence = (expected.exp() * (&expected - found)).mean(Kind::Float);
        vec![
            forward.cross_entropy(),
            Term {
                name: "text_features",
                weight: self.options.text_loss_weight,
                value: mean_distance(&class_features, of_classes),
            },
            Term {
                name: "image_features",
                weight: self.options.image_loss_weight,
                value: mean_distance(image_features, &of_images),
            },
            Term { name: "logits", weight: 1.0, value: divergence },
        ]
    }

    fn after_epoch(&mut self, epoch: u32, epochs: u32) {
        let weight = self.options.epoch_weights(epochs)[epoch as usize - 1];
        for (sum, (_, tensor)) in self.sums.iter_mut().zip(&self.learned) {
            *sum += tensor.detach().to_kind(sum.kind()) * weight;
            if epoch == epochs {
                tensor.shallow_clone().copy_(sum);
            }
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let named = self.learned.iter().zip(&self.sums);
        named.map(|((name, _), sum)| (format!("aggregate.{name}"), sum.shallow_clone())).collect()
    }
}

/// The mean absolute difference of all entries.
fn mean_distance(found: &Tensor, expected: &Tensor) -> Tensor {
    (found.to_kind(Kind::Float) - expected.to_kind(Kind::Float)).abs().mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Architecture, Tokenizer, Weights};
    use crate::device::of_tests;
    use crate::method::pretrain::random_weights;
    use crate::method::{Inputs, Model, Seen, total};
    use maple_pipe::backbone::Backbone;
    use maple_pipe::method::Method;
    use tch::no_grad;

    /// Without prompts in the vision tower the student's image features are the teacher's, whether they come as features or not.
    #[test]
    fn features_may_take_the_place_of_images_where_no_token_is_learned_there() {
        let options =
            "learner = 'promptsrc'\ncontext_length = 2\ndepth = 2\nvision_context_length = 0\nvision_depth = 0";
        let rest = "aggregation_mean = 1\naggregation_deviation = 1\n[training]\nepochs = 2\nbatch_size = 2\nlearning_rate = 1";
        let method = Method::parse(&format!("{options}\n{rest}")).unwrap();
        let sizes = Architecture::tiny();
        let weights = Weights::from_tensors(random_weights(&sizes, 1));
        let clip = Clip::from_weights(&weights, &Backbone::openai(sizes), of_tests(), method.precision).unwrap();
        let classes = ["cat", "dog"].map(str::to_owned);
        let model = Model::new(&clip, &Tokenizer::new(), &method, &classes, &Inputs::default(), 1).unwrap();
        let images = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, clip.device())).sin().reshape([2, 3, 32, 32]);
        let labels = Tensor::from_slice(&[0i64, 1]).to_device(clip.device());
        let features = no_grad(|| clip.image_features(&images));
        let losses = [Seen::Images(&images), Seen::Features(&features)].map(|seen| {
            let loss = model.loss(seen, &labels);
            assert_eq!(loss.terms[2].value.double_value(&[]), 0.0);
            total(&loss.terms).double_value(&[])
        });
        assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
    }
}
