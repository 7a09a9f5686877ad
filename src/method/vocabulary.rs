//! What learned context vectors are like: the words of the vocabulary whose embeddings are nearest, as the published code
//! interprets them (`interpret_prompts/interpret_prompt.py` of MaPLe's, `interpret_prompt.py` of CoOp's).

use rayon::prelude::*;
use safetensors::Dtype;
use serde::Serialize;

use super::learnable::{Form, Tower};
use super::prompt::Prompt;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Array, Checkpoint};

/// The tensor of the words' embeddings.
const TOKEN_EMBEDDING: &str = "token_embedding.weight";

/// The learned vectors that enter one block of the text tower.
#[derive(Debug, Serialize)]
pub struct Interpretation {
    /// The tensor.
    pub tensor: String,
    /// The block that they enter, from 1.
    pub depth: usize,
    /// The class that they belong to, from 0, where every class has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// For each vector the nearest words, nearest first.
    pub vectors: Vec<Vec<Neighbour>>,
}

/// A word near a vector.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// As the vocabulary writes it.
    pub word: String,
    /// Euclidean.
    pub distance: f64,
}

impl Prompt {
    /// The `count` nearest words of every learned context vector, in the order of the blocks that they enter.
    ///
    /// # Errors
    /// When the prompt has no learned text, or the weights have embeddings of another width.
    pub fn interpret(&self, weights: &Checkpoint, tokenizer: &Tokenizer, count: usize) -> Result<Vec<Interpretation>> {
        let embedding = weights.tensors().get(TOKEN_EMBEDDING);
        let embedding = embedding.ok_or_else(|| {
            Error::hinted(
                format!("{} have no `{TOKEN_EMBEDDING}`", weights.origin()),
                "give the weights of the CLIP model that the prompt was trained with",
            )
        })?;
        let words = floats(embedding);
        let mut sections = Vec::new();
        for (depth, tensor, array) in self.texts() {
            let width = array.shape.last().copied().unwrap_or(0);
            if embedding.shape.last() != Some(&width) {
                return Err(Error::hinted(
                    format!(
                        "`{tensor}` is {width} wide, but the words of {} are {:?}",
                        weights.origin(),
                        embedding.shape
                    ),
                    "give the weights of the CLIP model that the prompt was trained with",
                ));
            }
            let (values, width) = (floats(array), width.max(1) as usize);
            let rows = array.shape.iter().rev().nth(1).copied().unwrap_or(1).max(1) as usize;
            for (class, values) in values.chunks_exact(rows * width).enumerate() {
                let vectors = values.chunks_exact(width).map(|vector| nearest(vector, &words, tokenizer, count));
                let class = (array.shape.len() == 3).then_some(class);
                sections.push(Interpretation { tensor: tensor.clone(), depth, class, vectors: vectors.collect() });
            }
        }
        if sections.is_empty() {
            return Err(Error::hinted(
                "there is no learned text in this prompt, so no words are near",
                "tokens of the vision tower have no vocabulary",
            ));
        }
        Ok(sections)
    }

    /// The learned tensors of the text tower with the block that they enter, from 1, in that order.
    fn texts(&self) -> Vec<(usize, String, &Array)> {
        let learned = self.learner().map(|learner| learner.learned()).unwrap_or_default();
        let texts = learned.into_iter().filter_map(|one| match one.form {
            Form::Tokens { tower: Tower::Text, block, .. } => {
                self.tensors().get(&one.name).map(|array| (block as usize + 1, one.name, array))
            }
            _ => None,
        });
        let mut texts: Vec<(usize, String, &Array)> = texts.collect();
        texts.sort_by_key(|(depth, ..)| *depth);
        texts
    }
}

fn floats(array: &Array) -> Vec<f32> {
    let single = array.to_float(Dtype::F32);
    single.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The nearest rows of `words` to a vector as wide; of equal distances the lower number first.
fn nearest(vector: &[f32], words: &[f32], tokenizer: &Tokenizer, count: usize) -> Vec<Neighbour> {
    let distance = |word: &[f32]| -> f64 {
        let squares = word.iter().zip(vector).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let mut distances: Vec<(f64, usize)> = words
        .par_chunks_exact(vector.len())
        .map(distance)
        .enumerate()
        .map(|(word, distance)| (distance, word))
        .collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let word = |token: usize| tokenizer.word(token as i64).unwrap_or_else(|| format!("token {token}"));
    distances.into_iter().take(count).map(|(distance, token)| Neighbour { word: word(token), distance }).collect()
}
