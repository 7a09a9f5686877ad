//! Data set manifests: one TOML file per data set, `data-manifests/*.toml`, with its layout, counts and sources.
//!
//! What is written again, into keys, is what decides the images, their classes and the prompt, and what they must amount
//! to: a check that decides whether a node succeeds is part of its key. The rest informs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::item::{Item, normal, stays_inside};
use super::reader::Reader;
use super::split::Split;
use crate::download::{Checksum, shown};
use crate::error::{Error, Result};
use crate::files::disguise_of;
use crate::text::{NAMED, few, plural};

/// What a data set is called, where its files lie, and what they must amount to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name in print, e.g. `Caltech101`. Like all that does not decide what the data set holds, it is not written.
    #[serde(skip_serializing)]
    pub name: String,
    /// The data set's folder below the data root.
    #[serde(skip_serializing)]
    pub folder: String,
    /// The image folder below `folder`; image paths are relative to it.
    #[serde(default = "here")]
    pub images: String,
    /// The folders below `images` that hold images, where it holds other things, too.
    #[serde(default, skip_serializing)]
    pub parts: Vec<String>,
    /// The zero-shot prompt, with `{}` where the class name goes.
    pub template: String,
    /// How the division into training, validation and test images is found.
    pub reader: Reader,
    /// What the reader must find.
    #[serde(default, skip_serializing_if = "Counts::assert_nothing")]
    pub counts: Counts,
    /// The files that the data set is made from.
    #[serde(default, rename = "source", skip_serializing)]
    pub sources: Vec<DataSource>,
    /// Under which licence or terms the images may be used.
    #[serde(default, skip_serializing)]
    pub licence: Option<String>,
    /// What a person should know, and where facts come from.
    #[serde(default, skip_serializing)]
    pub notes: Vec<String>,
}

fn here() -> String {
    ".".to_owned()
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
    /// Test images of each class, where all have as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_per_class: Option<usize>,
}

/// A way in which a data set does not match its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file or folder that shows it.
    pub place: PathBuf,
    /// What it has or is, and what it should.
    pub text: String,
    /// Whether there is too little or another file, so that the source may help.
    pub lacks: bool,
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` {}", self.place.display(), self.text)
    }
}

/// A file that a data set is made from: an archive to unpack, or a file to put into the data set's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Its name in the data set's folder.
    pub file: String,
    /// Where it can be had.
    pub url: String,
    /// Why a program cannot get it there: what a person must do.
    #[serde(default)]
    pub by_hand: Option<String>,
    /// Its SHA-256 or MD5, where its publisher or a widely used library gives one.
    #[serde(default)]
    pub checksum: Option<Checksum>,
    /// What a person makes of it below the data set's folder, where a program cannot.
    #[serde(default)]
    pub gives: Vec<String>,
    /// The archive in this archive that holds the files.
    #[serde(default)]
    pub inner: Option<String>,
    /// Files and folders of the archive, and where they go below the data set's folder.
    #[serde(default)]
    pub unpack: BTreeMap<String, String>,
    /// Of this split file, the classes that the data set has; they are labelled anew, in their order.
    #[serde(default)]
    pub classes: Vec<String>,
}

impl DataSource {
    /// What the data set's folder has when this source is in place.
    pub fn places(&self) -> Vec<&str> {
        let places: Vec<&str> = self.gives.iter().chain(self.unpack.values()).map(String::as_str).collect();
        if places.is_empty() { vec![&self.file] } else { places }
    }

    /// Whether the data set's folder has all that comes of it, be it whole or not. A page in place of a file is nothing.
    pub fn is_there(&self, folder: &Path) -> bool {
        let is_there = |path: PathBuf| path.exists() && !disguise_of(&path).is_ok_and(|what| what.is_some());
        self.places().iter().all(|place| is_there(folder.join(place)))
    }

    /// Whether something of what the data set's folder lacks comes of this source.
    pub fn has_some_of(&self, folder: &Path, lacking: &[PathBuf]) -> bool {
        let places = || self.places().into_iter().map(|place| folder.join(place));
        lacking.iter().any(|path| places().any(|place| path.starts_with(&place) || place.starts_with(path)))
    }

    /// Whether a program can get it, and whatever is there does not stand in its way.
    pub fn can_be_had(&self, folder: &Path) -> bool {
        let path = folder.join(&self.file);
        self.by_hand.is_none() && (!path.exists() || disguise_of(&path).is_ok_and(|what| what.is_some()))
    }

    /// Whether it is a file to put into the data set's folder as it comes.
    pub fn is_plain(&self) -> bool {
        self.unpack.is_empty() && self.gives.is_empty()
    }
}

impl Manifest {
    /// The files and folders that are read, below the data set's folder.
    pub fn within(&self) -> Vec<String> {
        let below = |part: &str| match (self.images.as_str(), part) {
            (".", part) => part.to_owned(),
            (images, ".") => images.to_owned(),
            (images, part) => format!("{images}/{part}"),
        };
        let parts: Vec<&str> = match self.reader.parts() {
            parts if parts.is_empty() => self.parts.iter().map(String::as_str).collect(),
            parts => parts.into_iter().map(|(_, part)| part).collect(),
        };
        let images: Vec<String> =
            if parts.is_empty() { vec![self.images.clone()] } else { parts.into_iter().map(below).collect() };
        images.into_iter().chain(self.reader.files().into_iter().map(|(_, file)| file.to_owned())).collect()
    }

    /// Where what of [`Manifest::within`] can be had, as far as the manifest says.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let address = |path: String| {
            let source = self.sources.iter().find(|source| source.places().contains(&path.as_str()))?;
            Some((path, shown(&source.url)))
        };
        self.within().into_iter().filter_map(address).collect()
    }

    /// What of [`Manifest::within`] the data set's folder lacks.
    pub fn lacks(&self, folder: &Path) -> Vec<PathBuf> {
        self.within().into_iter().map(|path| normal(&folder.join(path))).filter(|path| !path.exists()).collect()
    }

    /// Reads the division into training, validation and test images in the data set's folder, and checks it against
    /// the split file's checksum and the counts.
    ///
    /// # Errors
    /// When the split cannot be read, or is not what the manifest says.
    pub fn split(&self, folder: &Path) -> Result<Split<Item>> {
        let split = self.read(folder)?;
        match self.differences(folder, &split)?.first() {
            None => Ok(split),
            Some(difference) => Err(Error::hinted(
                format!("data set `{}` does not match its manifest: {difference}", self.name),
                "fetch the published files again, or write a manifest of your own for another version",
            )),
        }
    }

    /// Reads the division without comparing it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, folder: &Path) -> Result<Split<Item>> {
        self.reader.read(folder, &self.images)
    }

    /// Every way in which a division that was read in `folder` is not what the manifest says.
    ///
    /// # Errors
    /// When the split file cannot be read.
    pub fn differences(&self, folder: &Path, split: &Split<Item>) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        if let Some((file, checksum)) = self.split_checksum()
            && let Err(found) = checksum.check(&folder.join(file))?
        {
            let text = format!("is not the published file: its SHA-256 is {found}, not {checksum}");
            differences.push(Difference { place: folder.join(file), text, lacks: true });
        }
        let place = |part: &str| normal(&folder.join(self.reader.place(part, &self.images)));
        differences.extend(self.counts.differences(split).into_iter().map(|(part, text, lacks)| Difference {
            place: place(part),
            text,
            lacks,
        }));
        Ok(differences)
    }

    /// The image folder of the data set in `folder`.
    pub fn image_folder(&self, folder: &Path) -> PathBuf {
        normal(&folder.join(&self.images))
    }

    /// The split file and its published checksum, where one is known.
    pub fn split_checksum(&self) -> Option<(&str, Checksum)> {
        match &self.reader {
            Reader::SplitJson { file, sha256: Some(sha256) } => Some((file, Checksum::Sha256(sha256.clone()))),
            _ => None,
        }
    }

    /// The split file, where nobody has published its checksum.
    pub fn unpublished_split(&self) -> Option<&str> {
        match &self.reader {
            Reader::SplitJson { file, sha256: None } => Some(file),
            _ => None,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// When the template has not exactly one `{}`, a path leaves the folder that it is relative to, a checksum has not
    /// its length, or the reader's values contradict each other.
    pub fn check(&self) -> Result<()> {
        if self.template.matches("{}").count() != 1 {
            let message = format!("`template` must have one `{{}}` for the class name, not `{}`", self.template);
            return Err(Error::invalid(message).about("template"));
        }
        let own = [("folder", self.folder.as_str()), ("images", self.images.as_str())];
        let own = own.into_iter().chain(self.parts.iter().map(|part| ("parts", part.as_str())));
        let own = own.map(|(key, path)| (key.to_owned(), path));
        let reader = self.reader.files().into_iter().chain(self.reader.parts());
        let reader = reader.map(|(key, path)| (format!("reader.{key}"), path));
        let sources = self.sources.iter().flat_map(|source| {
            let places = source.places().into_iter().chain([source.file.as_str()]);
            places.chain(source.unpack.keys().map(String::as_str)).map(|path| ("source".to_owned(), path))
        });
        for (key, path) in own.chain(reader).chain(sources) {
            if !stays_inside(path) {
                let message = format!("`{key}` must be a relative path without `..`, not `{path}`");
                return Err(Error::invalid(message).about(key));
            }
        }
        let checksums = self.sources.iter().filter_map(|source| source.checksum.clone());
        for checksum in checksums.chain(self.split_checksum().map(|(_, checksum)| checksum)) {
            let text = checksum.to_string();
            if text.len() != checksum.digits() || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                let message = format!("`{text}` is no {} of {} hexadecimal digits", checksum.name(), checksum.digits());
                return Err(Error::invalid(message));
            }
        }
        self.reader.check()
    }
}

impl Counts {
    /// Whether every number is left out.
    fn assert_nothing(&self) -> bool {
        *self == Counts::default()
    }

    /// Images in all parts together, where all are known.
    pub fn images(&self) -> Option<usize> {
        Some(self.train? + self.val? + self.test?)
    }

    /// The numbers that differ: of which part, how, and whether they are too small.
    fn differences(&self, split: &Split<Item>) -> Vec<(&'static str, String, bool)> {
        let found = [
            ("classes", "class", "classes", self.classes, split.class_names().len()),
            ("train", "training image", "training images", self.train, split.train.len()),
            ("val", "validation image", "validation images", self.val, split.val.len()),
            ("test", "test image", "test images", self.test, split.test.len()),
        ];
        let differs = |(part, one, what, expected, found): (&'static str, &str, &str, Option<usize>, usize)| {
            let expected = expected.filter(|&expected| expected != found)?;
            Some((part, format!("has {}, not {expected}", plural(found, one, what)), found < expected))
        };
        found.into_iter().filter_map(differs).chain(self.uneven(split)).collect()
    }

    /// The classes that have not as many test images as each should.
    fn uneven(&self, split: &Split<Item>) -> Option<(&'static str, String, bool)> {
        let expected = self.test_per_class?;
        let names = split.class_names();
        let mut counts = vec![0; names.len()];
        for item in &split.test {
            counts.get_mut(item.label).into_iter().for_each(|count| *count += 1);
        }
        let uneven: Vec<(String, usize)> =
            names.into_iter().zip(counts).filter(|(_, count)| *count != expected).collect();
        let lacks = uneven.iter().any(|(_, count)| *count < expected);
        let list = few(NAMED, uneven.iter().map(|(name, count)| format!("{name} ({count})")));
        (!uneven.is_empty()).then(|| ("test", format!("has not {expected} test images of each class: {list}"), lacks))
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
