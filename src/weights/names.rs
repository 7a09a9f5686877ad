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

    /// Takes the axes away from what is one number.
    fn make_number(&mut self);
}

impl Named for Array {
    fn transposed(&self) -> Array {
        Array::transposed(self)
    }

    fn stacked(parts: &[Array]) -> Option<Array> {
        Array::stacked(parts)
    }

    fn make_number(&mut self) {
        self.shape.make_number();
    }
}

impl Named for Vec<i64> {
    fn transposed(&self) -> Vec<i64> {
        if let &[rows, columns] = self.as_slice() { vec![columns, rows] } else { self.clone() }
    }

    fn stacked(parts: &[Vec<i64>]) -> Option<Vec<i64>> {
        let (_, others) = parts.first()?.split_first()?;
        let mut sum = 0i64;
        for part in parts {
            let (rows, _) = part.split_first().filter(|(_, rest)| *rest == others)?;
            sum = sum.checked_add(*rows)?;
        }
        Some([&[sum], others].concat())
    }

    fn make_number(&mut self) {
        if self.iter().all(|length| *length == 1) {
            self.clear();
        }
    }
}

/// What wrappers such as `DataParallel`, Lightning or `torch.compile` put in front of all names: the shortest beginning
/// that all have, behind which one is `known`. Empty where there is none.
pub fn wrapper<'n>(names: impl IntoIterator<Item = &'n str>, known: impl Fn(&str) -> bool) -> &'n str {
    let names: Vec<&str> = names.into_iter().collect();
    let Some((first, others)) = names.split_first() else { return "" };
    let alike = |name: &&str| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let common = others.iter().map(alike).min().unwrap_or(first.len());
    let ends = first.match_indices('.').map(|(place, _)| place + 1).take_while(|end| *end <= common);
    let mut candidates = std::iter::once(0).chain(ends).map(|end| &first[..end]);
    candidates.find(|wrapper| names.iter().any(|name| known(&name[wrapper.len()..]))).unwrap_or_default()
}

/// Whether a name is one that CLIP's tensors have at the top.
fn is_clip(name: &str) -> bool {
    ["visual.", "token_embedding.", "text.", "text_model.", "vision_model."].iter().any(|part| name.starts_with(part))
}

/// Whether an entry of a published file is no weight.
pub fn is_no_weight(name: &str) -> bool {
    NO_WEIGHTS.iter().any(|end| name.ends_with(end))
}

/// The tensors, or their shapes, under OpenAI's names, and whose they had. A name that is not known stays as it is.
pub(super) fn openai<T: Named>(tensors: BTreeMap<String, T>) -> (BTreeMap<String, T>, Names) {
    let wrapper = wrapper(tensors.keys().map(String::as_str), is_clip).len();
    let mut tensors: BTreeMap<String, T> = tensors
        .into_iter()
        .map(|(name, array)| {
            let name = &name[wrapper..];
            // open_clip's models with a text tower of their own.
            (name.strip_prefix("text.").unwrap_or(name).to_owned(), array)
        })
        .filter(|(name, _)| !is_no_weight(name))
        .collect();
    // Some libraries keep the number as a list of one.
    if let Some(scale) = tensors.get_mut("logit_scale") {
        scale.make_number();
    }
    if !tensors.keys().any(|name| name.starts_with("text_model.") || name.starts_with("vision_model.")) {
        return (tensors, Names::OpenAi);
    }
    tensors = tensors.into_iter().map(renamed).collect();
    join_attention(&mut tensors);
    (tensors, Names::HuggingFace)
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
