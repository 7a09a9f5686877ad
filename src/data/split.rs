//! A data set's division into training, validation and test images, as CoOp's `split_zhou_*.json` files hold it:
//! `{"train": [[path, label, class name], ...], "val": ..., "test": ...}`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::{fmt, fs};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;

use super::item::{Item, Labelled, stays_inside};
use crate::error::{Error, Result};
use crate::files::read_foreign_text;

/// The name of the file format in error messages.
const FORMAT: &str = "split file";

/// The three parts of a data set, each in the order of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split<T> {
    /// Training images, from which few-shot samples are drawn.
    pub train: Vec<T>,
    /// Validation images; may be empty.
    pub val: Vec<T>,
    /// Test images.
    pub test: Vec<T>,
}

impl<T> Split<T> {
    /// The parts with their names in split files.
    pub fn parts(&self) -> [(&'static str, &[T]); 3] {
        [("train", &self.train), ("val", &self.val), ("test", &self.test)]
    }
}

impl<T: Labelled> Split<T> {
    /// The class names by label, `0..n`: those of the training images, or of the test images where there are no others.
    pub fn class_names(&self) -> Vec<String> {
        let items = if self.train.is_empty() { &self.test } else { &self.train };
        let names: BTreeMap<usize, &str> = items.iter().map(|item| (item.label(), item.class_name())).collect();
        names.into_values().map(str::to_owned).collect()
    }
}

impl Split<Item> {
    /// Reads a split file and checks it.
    ///
    /// # Errors
    /// When the file cannot be read or is no split file; when `train` or `test` is empty, the training labels are not
    /// `0..n`, another part has a label without training images, a label has two names, or a path leaves the folder.
    pub fn read(path: &Path) -> Result<Split<Item>> {
        let text = read_foreign_text(path, FORMAT)?;
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let triples: Split<(String, usize, String)> =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| Error::format(path, FORMAT, error))?;
        // Whatever follows belongs to another file, or to a merge that nobody has finished.
        deserializer.end().map_err(|error| Error::format(path, FORMAT, error))?;
        let items = |part: Vec<(String, usize, String)>| {
            part.into_iter().map(|(path, label, class_name)| Item { path, label, class_name }).collect()
        };
        let split = Split { train: items(triples.train), val: items(triples.val), test: items(triples.test) };
        split.check().map_err(|message| Error::format(path, FORMAT, message))?;
        Ok(split)
    }

    /// Writes a split file.
    ///
    /// # Errors
    /// When the file cannot be written, or would be refused by [`Split::read`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check().map_err(|message| Error::format(path, FORMAT, message))?;
        let json = serde_json::to_value(self.triples()).map_err(|error| Error::format(path, FORMAT, error))?;
        fs::write(path, json.to_string()).map_err(Error::io("write", path))
    }

    /// The images of these classes, labelled anew in the order of their labels.
    ///
    /// # Errors
    /// Names a class that has no images.
    pub fn cut(&self, classes: &[String]) -> Result<Split<Item>, String> {
        let labels: BTreeMap<&str, usize> =
            self.train.iter().chain(&self.test).map(|item| (item.class_name.as_str(), item.label)).collect();
        let label = |name: &String| labels.get(name.as_str()).copied().ok_or_else(|| format!("has no class `{name}`"));
        let kept: BTreeSet<usize> = classes.iter().map(label).collect::<Result<_, String>>()?;
        let new = |label: usize| kept.iter().position(|&one| one == label);
        let part = |items: &[Item]| items.iter().filter_map(|item| Some(item.relabelled(new(item.label)?))).collect();
        Ok(Split { train: part(&self.train), val: part(&self.val), test: part(&self.test) })
    }

    /// The text of a split file, with the spaces with which Python writes JSON: where Python has cut one, the bytes are its.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        self.triples()
            .serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced))
            .expect("a vector takes all writes");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    fn triples(&self) -> Split<(&str, usize, &str)> {
        fn part(items: &[Item]) -> Vec<(&str, usize, &str)> {
            items.iter().map(|item| (item.path.as_str(), item.label, item.class_name.as_str())).collect()
        }
        Split { train: part(&self.train), val: part(&self.val), test: part(&self.test) }
    }

    /// What is wrong with the split, and where.
    pub(super) fn check(&self) -> Result<(), String> {
        for (part, items) in [("train", &self.train), ("test", &self.test)] {
            if items.is_empty() {
                return Err(format!("`{part}` has no images"));
            }
        }
        let names = self.check_entries()?;
        if let Some((missing, label)) = names.keys().enumerate().find(|(place, label)| place != *label) {
            return Err(format!("`train` has images of label {label} but none of label {missing}"));
        }
        Ok(())
    }

    /// Checks every entry by itself and against those before it; returns the class names by training label.
    fn check_entries(&self) -> Result<BTreeMap<usize, &str>, String> {
        let mut names: BTreeMap<usize, &str> = BTreeMap::new();
        for (part, items) in self.parts() {
            for (place, item) in items.iter().enumerate() {
                let entry = || format!("`{part}[{place}]` (`{}`)", item.path);
                if !stays_inside(&item.path) {
                    return Err(format!("{} is not a path below the image folder", entry()));
                }
                if part == "train" {
                    names.entry(item.label).or_insert(&item.class_name);
                }
                match names.get(&item.label) {
                    None => return Err(format!("{} has label {}, which no image of `train` has", entry(), item.label)),
                    Some(name) if *name != item.class_name => {
                        let (label, other) = (item.label, &item.class_name);
                        return Err(format!("{} names label {label} `{other}`, but it was `{name}` before", entry()));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(names)
    }
}

/// A part of a data set's split.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitPart {
    /// The training images.
    Train,
    /// The validation images.
    Val,
    /// The test images.
    #[default]
    Test,
}

impl SplitPart {
    /// They are the test images.
    pub fn is_test(&self) -> bool {
        *self == SplitPart::Test
    }
}

impl fmt::Display for SplitPart {
    /// As in "the test images".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SplitPart::Train => "training",
            SplitPart::Val => "validation",
            SplitPart::Test => "test",
        })
    }
}

/// JSON on one line, with a space behind each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Split<Item>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.json");
        fs::write(&path, text).unwrap();
        Split::read(&path)
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("split.json` is not a valid split file"), "{error}");
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let item =
            |path: &str, label, class_name: &str| Item { path: path.into(), label, class_name: class_name.into() };
        let split = Split {
            train: vec![item("b/1.jpg", 1, "b_b"), item("a/1.jpg", 0, "a")],
            val: vec![],
            test: vec![item("a/ü 2.jpg", 0, "a")],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("split.json");
        split.write(&path).unwrap();
        assert_eq!(Split::read(&path).unwrap(), split);
        assert_eq!(split.class_names(), ["a", "b_b"]);
    }

    #[test]
    fn a_cut_has_the_bytes_that_python_gives_it() {
        let text = r#"{"train": [["b/1.jpg", 1, "b"], ["c/1.jpg", 2, "c_c"], ["a/1.jpg", 0, "a"]], "val": [["b/2.jpg", 1, "b"]], "test": [["a/2.jpg", 0, "a"], ["c/2.jpg", 2, "c_c"]]}"#;
        let split = read(text).unwrap();
        assert_eq!(split.text(), text);
        let cut = |classes: &[&str]| split.cut(&classes.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let expected = r#"{"train": [["c/1.jpg", 1, "c_c"], ["a/1.jpg", 0, "a"]], "val": [], "test": [["a/2.jpg", 0, "a"], ["c/2.jpg", 1, "c_c"]]}"#;
        assert_eq!(cut(&["c_c", "a"]).unwrap().text(), expected);
        assert_eq!(cut(&["b", "a", "c_c"]).unwrap(), split);
        assert_eq!(cut(&["a", "d"]).unwrap_err(), "has no class `d`");
    }

    #[test]
    fn broken_files_are_refused_with_the_entry() {
        refuses("<!DOCTYPE html><title>Quota exceeded</title>", "it is a web page");
        refuses("version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer");
        refuses("{", "line 1");
        refuses(r#"{"train": [["a.jpg", "0", "a"]], "val": [], "test": []}"#, "train[0][1]");
        refuses(r#"{"train": [["a.jpg", -1, "a"]], "val": [], "test": []}"#, "train[0][1]");
        refuses(r#"{"train": [["a.jpg", 0, "a"]], "val": []}"#, "missing field `test`");
        refuses("", "EOF while parsing a value at line 1 column 0");
    }

    /// A file is read to its end: what an unfinished merge or a second copy leaves there is no white space.
    #[test]
    fn nothing_may_follow_the_division() {
        let division = r#"{"train": [["a.jpg", 0, "a"]], "val": [], "test": [["a.jpg", 0, "a"]]}"#;
        for rest in ["\n>>>>>>> theirs\n", division, "]", "\0", "\n0"] {
            let line = if rest.starts_with('\n') { 2 } else { 1 };
            refuses(&format!("{division}{rest}"), &format!("trailing characters at line {line}"));
        }
        for rest in ["", "\n", " \r\n\t "] {
            assert_eq!(read(&format!("{division}{rest}")).unwrap().train.len(), 1);
            assert_eq!(read(&format!("\u{feff}{division}{rest}")).unwrap().test.len(), 1);
        }
    }

    #[test]
    fn broken_splits_are_refused_with_the_entry() {
        let split = |train: &str, test: &str| format!(r#"{{"train": [{train}], "val": [], "test": [{test}]}}"#);
        let image = r#"["a.jpg", 0, "a"]"#;
        refuses(&split("", image), "`train` has no images");
        refuses(&split(image, ""), "`test` has no images");
        refuses(&split(image, r#"["/a.jpg", 0, "a"]"#), "`test[0]` (`/a.jpg`) is not a path below the image folder");
        refuses(&split(r#"["x/../../a.jpg", 0, "a"]"#, image), "`train[0]` (`x/../../a.jpg`) is not a path below");
        refuses(&split(r#"["a.jpg", 0, "a"], ["b.jpg", 0, "b"]"#, image), "`train[1]` (`b.jpg`) names label 0 `b`");
        refuses(&split(image, r#"["b.jpg", 1, "b"]"#), "`test[0]` (`b.jpg`) has label 1, which no image of `train`");
        refuses(&split(r#"["a.jpg", 0, "a"], ["c.jpg", 2, "c"]"#, image), "label 2 but none of label 1");
    }
}
