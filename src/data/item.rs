//! One labelled image, before and after its content is known.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One image of a data set, as a split file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where it lies below the data set's image folder, with forward slashes.
    pub path: String,
    /// Its class, from 0.
    pub label: usize,
    /// The class's name, as the split file writes it (underscores kept).
    pub class_name: String,
}

/// One image together with what its file held when the data set was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indexed {
    /// Where it lies below the data set's folder, with forward slashes.
    pub path: String,
    /// Its class, from 0.
    pub label: usize,
    /// The class's name, as the split file writes it (underscores kept).
    pub class_name: String,
    /// The blake3 of the file's bytes, in lower-case hexadecimal.
    pub digest: String,
}

impl Indexed {
    /// The item, with the digest of its file.
    pub fn new(item: Item, digest: String) -> Indexed {
        Indexed { path: item.path, label: item.label, class_name: item.class_name, digest }
    }
}

/// What sampling and class selection need to know of an item.
pub trait Labelled: Clone {
    /// The class, from 0.
    fn label(&self) -> usize;
    /// The class's name.
    fn class_name(&self) -> &str;
    /// The same item with another label.
    fn relabelled(&self, label: usize) -> Self;
}

impl Labelled for Item {
    fn label(&self) -> usize {
        self.label
    }

    fn class_name(&self) -> &str {
        &self.class_name
    }

    fn relabelled(&self, label: usize) -> Item {
        Item { label, ..self.clone() }
    }
}

impl Labelled for Indexed {
    fn label(&self) -> usize {
        self.label
    }

    fn class_name(&self) -> &str {
        &self.class_name
    }

    fn relabelled(&self, label: usize) -> Indexed {
        Indexed { label, ..self.clone() }
    }
}

/// The same path without `.` in it.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Whether a path stays below the folder that it is relative to: neither absolute, nor empty, nor with `..`.
pub(super) fn stays_inside(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some() && components.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_folder_stay_inside() {
        for path in ["a.jpg", "class/a.jpg", "./a.jpg", "class/..a.jpg"] {
            assert!(stays_inside(path), "{path}");
        }
        for path in ["", "/a.jpg", "../a.jpg", "class/../../a.jpg"] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
