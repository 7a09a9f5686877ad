//! What plain CLIP says of classes, for learners that compare their own features with it.

use tch::{Kind, Tensor};

use super::context::Words;
use super::passes::Parts;
use crate::clip::{Clip, Tokenizer, normalised};
use maple_pipe::error::Result;

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
