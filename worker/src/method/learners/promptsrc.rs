//! PromptSRC: the prompts of independent vision-language prompting, a loss that holds what they make near plain CLIP, and their
//! average over the epochs (`trainers/promptsrc.py` of the published code).

use std::cell::OnceCell;

use tch::{Kind, Tensor};

use super::ivlp::Ivlp;
use crate::clip::{Clip, Kinds, Tokenizer, VisionPrompts, normalised};
use crate::method::context::Words;
use crate::method::learner::{Learner, Parts, Text};
use crate::method::loss::{Forward, Term};
use crate::method::passes;
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

    /// What plain CLIP says of the classes.
    fn teacher(&self, clip: &Clip) -> &Tensor {
        self.teacher.get_or_init(|| of_classes(clip, &self.options.teacher_templates(), &self.class_names, self.parts))
    }
}

/// What plain CLIP says of classes, normalised `(classes, embedding)` in fp32: the mean of the features of all templates, of which
/// each has its own length. One template is computed at a time. All of them have room for every name.
fn of_classes(clip: &Clip, templates: &[&str], class_names: &[String], parts: passes::Parts) -> Tensor {
    let (clip, tokenizer) = (clip.with_text_in_fp32(), Tokenizer::new());
    let words = Words { clip: &clip, tokenizer: &tokenizer, class_names, parts };
    let features = |template: &&str| words.fixed_features(template).expect("there is room");
    let sum = templates.iter().map(features).reduce(|sum, features| sum + features);
    normalised(&(sum.expect("there is a template") / templates.len() as f64))
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
    use crate::clip::{Architecture, Clip, Weights};
    use crate::method::pretrain::random_weights;
    use crate::method::{Inputs, Model, Seen, total};
    use maple_pipe::backbone::Backbone;
    use maple_pipe::method::Method;
    use tch::no_grad;

    fn method(precision: &str, vision: i64) -> Method {
        let options =
            "learner = 'promptsrc'\ncontext_length = 2\ndepth = 2\naggregation_mean = 1\naggregation_deviation = 1";
        let vision = format!("vision_context_length = {vision}\nvision_depth = {vision}");
        let training = "[training]\nepochs = 2\nbatch_size = 2\nlearning_rate = 0.01";
        Method::parse(&format!("{options}\n{vision}\nprecision = '{precision}'\n{training}")).unwrap()
    }

    fn clip(precision: &str) -> Clip {
        let sizes = Architecture::tiny();
        let weights = random_weights(&sizes, 1).into_iter().map(|(name, tensor)| {
            // Values that 16 bits hold, as those of published weights are.
            (name, tensor.to_kind(Kind::Half).to_kind(Kind::Float))
        });
        let weights = Weights::from_tensors(weights.collect::<Vec<_>>());
        let precision = method(precision, 2).precision;
        Clip::from_weights(&weights, &Backbone::openai(sizes), crate::device::of_tests(), precision).unwrap()
    }

    fn images(clip: &Clip) -> (Tensor, Tensor) {
        let pixels = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, clip.device())).sin().reshape([2, 3, 32, 32]);
        (pixels, Tensor::from_slice(&[0i64, 1]).to_device(clip.device()))
    }

    /// The published code has the teacher's texts from a copy of the model in fp32, whatever the precision.
    #[test]
    fn the_teacher_s_texts_are_computed_in_fp32() {
        let names = ["cat", "sea_lion"].map(str::to_owned);
        let templates = ["a photo of a {}.", "the {} in a video game."];
        let (half, single) = (clip("fp16"), clip("fp32"));
        let [found, same] = [&half, &single].map(|clip| of_classes(clip, &templates, &names, passes::Parts::WHOLE));
        assert_eq!(found, same);
        let features = templates.iter().map(|template| {
            let ids = names.iter().map(|name| {
                let text = template.replace("{}", &name.replace('_', " "));
                let mut ids = Tokenizer::new().tokenize(&text, 77, name).unwrap();
                ids.resize(77, 0);
                Tensor::from_slice(&ids).to_device(single.device())
            });
            no_grad(|| single.text_features(&Tensor::stack(&ids.collect::<Vec<_>>(), 0)))
        });
        let mean = Tensor::stack(&features.collect::<Vec<_>>(), 0).mean_dim([0i64].as_slice(), false, None);
        assert!((found - normalised(&mean)).abs().max().double_value(&[]) < 1e-6);
    }

    /// Without prompts in the vision tower the student's image features are the teacher's, whether they come as features or not.
    #[test]
    fn features_may_take_the_place_of_images_where_no_token_is_learned_there() {
        let clip = clip("fp32");
        let (images, labels) = images(&clip);
        let classes = ["cat", "dog"].map(str::to_owned);
        let method = method("fp32", 0);
        let model = Model::new(&clip, &Tokenizer::new(), &method, &classes, &Inputs::default(), 1).unwrap();
        let features = no_grad(|| clip.image_features(&images));
        let losses = [Seen::Images(&images), Seen::Features(&features)].map(|seen| {
            let loss = model.loss(seen, &labels);
            assert_eq!(loss.terms[2].value.double_value(&[]), 0.0);
            total(&loss.terms).double_value(&[])
        });
        assert!((losses[0] - losses[1]).abs() < 1e-5, "{losses:?}");
    }
}
