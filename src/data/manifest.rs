//! Data set manifests: one TOML file a data set, `data-manifests/*.toml`, with its layout, counts and sources.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::item::{Item, stays_inside};
use super::split::Split;
use crate::error::{Error, Result};

/// What a data set is called, where its files lie, and what they must amount to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name in print, e.g. `Caltech101`. Like all that does not decide what the data set holds, it is not written.
    #[serde(skip_serializing)]
    pub name: String,
    /// The data set's folder below the data root.
    #[serde(skip_serializing)]
    pub folder: String,
    /// The image folder below `folder`; image paths are relative to it.
    pub images: String,
    /// The zero-shot prompt, with `{}` where the class name goes.
    pub template: String,
    /// How the division into training, validation and test images is found.
    pub reader: Reader,
    /// What the reader must find.
    #[serde(default)]
    pub counts: Counts,
    /// The files that the data set is made from.
    #[serde(default, rename = "source", skip_serializing)]
    pub sources: Vec<Source>,
    /// What a person should know, and where facts come from.
    #[serde(default, skip_serializing)]
    pub notes: Vec<String>,
}

/// How a data set's images, labels and division are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reader {
    /// One of CoOp's `split_zhou_*.json` files.
    SplitJson {
        /// The file, below the data set's folder.
        file: String,
    },
}

/// Numbers that a data set must have; what is left out is not checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<usize>,
    /// Test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

/// A file to be downloaded by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub file: String,
    /// Where it can be had.
    pub url: String,
    /// Its MD5 in hexadecimal, where its publisher or a widely used library gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
}

impl Manifest {
    /// The files and folders that are read, below the data set's folder.
    pub fn within(&self) -> Vec<String> {
        let Reader::SplitJson { file } = &self.reader;
        vec![self.images.clone(), file.clone()]
    }

    /// Reads the division into training, validation and test images in the data set's folder, and checks it against
    /// the counts.
    ///
    /// # Errors
    /// When the split cannot be read, or the counts differ.
    pub fn split(&self, folder: &Path) -> Result<Split<Item>> {
        let (split, file) = match &self.reader {
            Reader::SplitJson { file } => (Split::read(&folder.join(file))?, folder.join(file)),
        };
        self.counts.check(&split).map_err(|message| {
            let message =
                format!("data set `{}` is not what its manifest says: `{}` has {message}", self.name, file.display());
            Error::hinted(
                message,
                "fetch the published file again, or write a manifest of your own for another version",
            )
        })?;
        Ok(split)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When the template has not exactly one `{}`, or a path leaves the folder that it is relative to.
    pub fn check(&self) -> Result<()> {
        if self.template.matches("{}").count() != 1 {
            let message = format!("`template` must have one `{{}}` for the class name, not `{}`", self.template);
            return Err(Error::invalid(message));
        }
        let Reader::SplitJson { file } = &self.reader;
        for (key, path) in [("folder", &self.folder), ("images", &self.images), ("reader.file", file)] {
            if !stays_inside(path) {
                let message = format!("`{key}` must be a relative path without `..`, not `{path}`");
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }
}

impl Counts {
    /// The first number that differs.
    fn check(&self, split: &Split<Item>) -> Result<(), String> {
        let found = [
            ("classes", self.classes, split.class_names().len()),
            ("training images", self.train, split.train.len()),
            ("validation images", self.val, split.val.len()),
            ("test images", self.test, split.test.len()),
        ];
        for (what, expected, found) in found {
            if let Some(expected) = expected.filter(|&expected| expected != found) {
                return Err(format!("{found} {what}, not {expected}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = r#"
        name = "Tiny"
        folder = "tiny"
        images = "pictures"
        template = "a photo of a {}."
        reader = { kind = "split-json", file = "split.json" }
        counts = { classes = 1, test = 1 }
    "#;

    #[test]
    fn a_split_is_read_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let manifest: Manifest = toml::from_str(TEXT).unwrap();
        let split = |test: &str| format!(r#"{{"train": [["a.jpg", 0, "a"]], "val": [], "test": [{test}]}}"#);
        let file = folder.path().join("split.json");
        fs::write(&file, split(r#"["b.jpg", 0, "a"]"#)).unwrap();
        assert_eq!(manifest.split(folder.path()).unwrap().test[0].path, "b.jpg");
        fs::write(&file, split(r#"["b.jpg", 0, "a"], ["c.jpg", 0, "a"]"#)).unwrap();
        let error = manifest.split(folder.path()).unwrap_err().to_string();
        assert!(error.contains("split.json` has 2 test images, not 1"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (good, bad, message) in [
            ("a {}.", "a dog.", "`template` must have one `{}`"),
            ("\"tiny\"", "\"../tiny\"", "`folder` must be a relative path"),
            ("\"split.json\"", "\"/split.json\"", "`reader.file` must be a relative path"),
        ] {
            let manifest: Manifest = toml::from_str(&TEXT.replace(good, bad)).unwrap();
            let error = manifest.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_shipped_manifests_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests");
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files.iter().filter(|file| file.is_file()) {
            toml::from_str::<Manifest>(&fs::read_to_string(file).unwrap()).unwrap().check().unwrap();
        }
    }
}
