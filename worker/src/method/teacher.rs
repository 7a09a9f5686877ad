//! What plain CLIP says of classes, for learners that compare their own features with it.

use std::cell::OnceCell;

use tch::{Kind, Tensor, no_grad};

use super::context::{ClassPrompts, Words};
use super::loss::{Forward, Term};
use super::passes::Parts;
use crate::clip::{Clip, Tokenizer, normalised};
use maple_pipe::error::Result;

/// Below this a product of lengths counts as this, so that nothing is divided by zero.
const EPSILON: f64 = 1e-7;

/// CLIP without anything learned, and the text of every class that it reads.
pub(super) struct Teacher {
    prompts: ClassPrompts,
    /// Made when they are first asked for: an evaluation does not need them.
    features: OnceCell<Tensor>,
}

impl Teacher {
    /// Reads a template such as "a photo of a {}.".
    ///
    /// # Errors
    /// When the template has no place for the class name, or the text of a class is too long.
    pub(super) fn new(words: &Words<'_>, template: &str) -> Result<Teacher> {
        Ok(Teacher { prompts: words.fixed_prompts(template)?, features: OnceCell::new() })
    }

    /// Its features of the classes `(classes, embedding)`, normalised, without any gradient.
    pub(super) fn text_features(&self, clip: &Clip) -> &Tensor {
        self.features.get_or_init(|| normalised(&self.prompts.fixed_features(clip)))
    }

    /// The term that holds what the model says of images near what the teacher says: the cross-entropy of the logits for the
    /// teacher's probabilities, the mean over the batch, in fp32. It is for learners with the image tower of plain CLIP.
    pub(super) fn logits_distance(&self, forward: &Forward<'_>) -> Term {
        let probabilities = no_grad(|| {
            let logits = forward.image_features.matmul(&self.text_features(forward.clip).tr());
            (forward.clip.logit_scale() * logits).softmax(-1, Kind::Float)
        });
        let by_class = probabilities * forward.logits.log_softmax(-1, Kind::Float);
        let value = -by_class.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float).mean(Kind::Float);
        Term { name: "teacher_logits", weight: 1.0, value }
    }

    /// The term that holds the classes' features near the teacher's: 1 less the mean cosine of the two, in fp32.
    pub(super) fn text_distance(&self, forward: &Forward<'_>, weight: f64) -> Term {
        let teacher = self.text_features(forward.clip).to_kind(Kind::Float);
        let learned = forward.class_features.squeeze_dim(0).to_kind(Kind::Float);
        let value: Tensor = 1.0 - Tensor::cosine_similarity(&learned, &teacher, -1, EPSILON).mean(Kind::Float);
        Term { name: "text_features", weight, value }
    }
}

/// The normalised mean feature of texts that `templates` make of each class's name, `(classes, embedding)`, in fp32 whatever the
/// precision of the model, and without gradients. Each feature has its own length in the mean. One template is computed at a time.
///
/// # Errors
/// A template has no place for the name, or a text is too long.
pub fn mean_text_features(clip: &Clip, templates: &[&str], class_names: &[String], parts: Parts) -> Result<Tensor> {
    let (clip, tokenizer) = (clip.with_text_in_fp32(), Tokenizer::new());
    let words = Words { clip: &clip, tokenizer: &tokenizer, class_names, parts };
    let mut sum =
        Tensor::zeros([class_names.len() as i64, clip.architecture().embedding], (Kind::Float, clip.device()));
    for template in templates {
        sum += words.fixed_features(template)?;
    }
    Ok(normalised(&(sum / templates.len() as f64)))
}
