//! What people give in place of a file of tensors, called by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use serde::Deserialize;
use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::files::{START, foreign, read_small};
use crate::text::few;

/// What it should have been, in messages.
pub(super) const FORMAT: &str = "checkpoint";
/// How many files an error names.
const NAMED: usize = 5;
/// How deep below a folder its checkpoints are looked for: the published code keeps them in one of the model's name.
const DEEPEST: usize = 3;
/// The most files that are looked at.
const MOST: usize = 10_000;

/// What to do about a shard.
pub(super) const SHARD: &str = "it is one of several shards, which hold the model together: give one file that holds all of it; Hugging \
                                Face's `save_pretrained(..., max_shard_size=\"100GB\")` writes it";

/// Opens a file of tensors, and reads its first bytes.
///
/// # Errors
/// When it cannot be read, or is a folder: names the checkpoints in it.
pub(super) fn open(path: &Path) -> Result<(File, Vec<u8>)> {
    if path.is_dir() {
        return Err(folder(path));
    }
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut start = Vec::new();
    file.by_ref().take(START as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    file.rewind().map_err(Error::io("read", path))?;
    Ok((file, start))
}

/// The error about a file that begins like none of tensors.
pub(super) fn unknown(path: &Path, start: &[u8]) -> Error {
    if let Some((found, hint)) = foreign(start) {
        return Error::hinted(format!("`{}` is {found}, not a {FORMAT}", path.display()), hint);
    }
    if start.first() == Some(&0x80) {
        return Error::format(path, FORMAT, "it is a pickle, but `torch.save` did not write it");
    }
    index(path)
        .or_else(|| pointer(path))
        .unwrap_or_else(|| Error::format(path, FORMAT, "it is neither PyTorch's nor safetensors"))
}

/// Whether the end of a path is the name of one of several shards, as Hugging Face has them.
pub(super) fn is_shard(path: &str) -> bool {
    let number = |text: &str| Some(text).filter(|text| text.len() == 5)?.parse::<u32>().ok();
    let count = path.rsplit_once("-of-").and_then(|(before, after)| {
        number(before.rsplit_once('-')?.1)?;
        number(after.split_once('.')?.0)
    });
    count.is_some_and(|count| count > 1)
}

fn folder(path: &Path) -> Error {
    let entries = WalkDir::new(path).max_depth(DEEPEST).sort_by_file_name().into_iter().take(MOST).flatten();
    let files = entries.filter(|entry| entry.file_type().is_file()).filter(|entry| {
        let name = entry.file_name().to_string_lossy();
        [".safetensors", ".pt", ".pth", ".bin", ".ckpt"].iter().any(|end| name.ends_with(end)) || name.contains(".pth.")
    });
    let files: Vec<String> = files.map(|entry| format!("`{}`", entry.path().display())).collect();
    Error::hinted(
        format!("`{}` is a folder, not a {FORMAT}", path.display()),
        match files.is_empty() {
            true => "give a file".to_owned(),
            false => format!("give a file in it: {}", few(NAMED, files.into_iter())),
        },
    )
}

/// What Hugging Face writes beside the shards of a model.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn index(path: &Path) -> Option<Error> {
    let Index { weight_map } = serde_json::from_str(&read_small(path).ok()??).ok()?;
    let shards: BTreeSet<String> = weight_map.into_values().map(|shard| format!("`{shard}`")).collect();
    let shards = few(NAMED, shards.into_iter().collect::<Vec<_>>().into_iter());
    let message = format!("`{}` is an index of shards, not a {FORMAT}: {shards}", path.display());
    Some(Error::hinted(message, SHARD.replacen("it is one of several shards, which", "the shards", 1)))
}

/// The published code writes a text file `checkpoint` that names the last checkpoint.
fn pointer(path: &Path) -> Option<Error> {
    let text = read_small(path).ok()??;
    let name = text.trim();
    let file = path.with_file_name(Path::new(name).file_name()?);
    (!name.contains('\n') && file.is_file() && file != path).then(|| {
        Error::hinted(
            format!("`{}` is a text that names a {FORMAT}", path.display()),
            format!("give what it names: `{}`", file.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_told_by_their_numbers() {
        for (path, expected) in [
            ("a/model-00001-of-00002.safetensors", true),
            ("the weights `pytorch_model-00013-of-00013.bin`", true),
            ("model-00001-of-00001.safetensors", false),
            ("model-1-of-2.safetensors", false),
            ("a-of-b.pt", false),
            ("model.safetensors", false),
        ] {
            assert_eq!(is_shard(path), expected, "{path}");
        }
    }
}
