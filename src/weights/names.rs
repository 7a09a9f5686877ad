//! The key names of CLIP's tensors: those of Hugging Face's `CLIPModel` and of open_clip, turned into OpenAI's.

use std::collections::BTreeMap;

use super::array::Array;

/// Entries of published files that are no weights: numbers about the model, and what can be counted.
const NO_WEIGHTS: [&str; 5] =
    ["input_resolution", "context_length", "vocab_size", ".position_ids", ".num_batches_tracked"];

/// Names of Hugging Face's, or parts of them, and OpenAI's for them.
const HUGGING_FACE: [(&str, &str); 15] = [
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    // The missing letter is theirs.
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    (".self_attn.", ".attn."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];

/// Whose names a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// OpenAI's, which open_clip shares.
    OpenAi,
    /// Those of Hugging Face's `CLIPModel`.
    HuggingFace,
}

/// What has a name: a tensor, or its shape alone.
pub(super) trait Named: Clone {
    /// A matrix with its axes swapped; anything else as it is.
    fn transposed(&self) -> Self;

    /// The parts below each other; `None` where they do not fit.
    fn stacked(parts: &[Self]) -> Option<Self>;
}

impl Named for Array {
    fn transposed(&self) -> Array {
        Array::transposed(self)
    }

    fn stacked(parts: &[Array]) -> Option<Array> {
        Array::stacked(parts)
    }
}

impl Named for Vec<i64> {
    fn transposed(&self) -> Vec<i64> {
        if let &[rows, columns] = self.as_slice() { vec![columns, rows] } else { self.clone() }
    }

    fn stacked(parts: &[Vec<i64>]) -> Option<Vec<i64>> {
        let (_, others) = parts.first()?.split_first()?;
        let rows =
            parts.iter().map(|part| part.split_first().filter(|(_, rest)| *rest == others).map(|(rows, _)| *rows));
        Some([&[rows.sum::<Option<i64>>()?], others].concat())
    }
}

/// The tensors, or their shapes, under OpenAI's names, and whose they had. A name that is not known stays as it is.
pub(super) fn openai<T: Named>(tensors: BTreeMap<String, T>) -> (BTreeMap<String, T>, Names) {
    let mut tensors: BTreeMap<String, T> = tensors
        .into_iter()
        .map(|(name, array)| (plain(&name).to_owned(), array))
        .filter(|(name, _)| !NO_WEIGHTS.iter().any(|end| name.ends_with(end)))
        .collect();
    if !tensors.keys().any(|name| name.starts_with("text_model.") || name.starts_with("vision_model.")) {
        return (tensors, Names::OpenAi);
    }
    tensors = tensors.into_iter().map(renamed).collect();
    join_attention(&mut tensors);
    (tensors, Names::HuggingFace)
}

/// A name without what wrappers put in front: `DataParallel`, and open_clip's models with a text tower of their own.
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.strip_prefix("text.").unwrap_or(name)
}

/// Projections are linear layers there, and matrices on the other side of a product here.
fn renamed<T: Named>((name, array): (String, T)) -> (String, T) {
    match name.as_str() {
        "visual_projection.weight" => ("visual.proj".to_owned(), array.transposed()),
        "text_projection.weight" => ("text_projection".to_owned(), array.transposed()),
        _ => (HUGGING_FACE.iter().fold(name, |name, (theirs, ours)| name.replace(theirs, ours)), array),
    }
}

/// Puts the projections of queries, keys and values below each other, where all three are there.
fn join_attention<T: Named>(tensors: &mut BTreeMap<String, T>) {
    const QUERY: &str = ".attn.q_proj.";
    let queries: Vec<String> = tensors.keys().filter(|name| name.contains(QUERY)).cloned().collect();
    for name in queries {
        let parts = ["q", "k", "v"].map(|part| name.replace(QUERY, &format!(".attn.{part}_proj.")));
        let arrays: Vec<T> = parts.iter().filter_map(|part| tensors.get(part)).cloned().collect();
        if let (3, Some(joined)) = (arrays.len(), T::stacked(&arrays)) {
            parts.iter().for_each(|part| drop(tensors.remove(part)));
            tensors.insert(name.replace(QUERY, ".attn.in_proj_"), joined);
        }
    }
}
