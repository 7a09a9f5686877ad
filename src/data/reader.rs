//! How a data set's images, labels and division are found: one reader per family of layouts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::item::{Item, normal};
use super::sampling::PythonRandom;
use super::split::Split;
use crate::error::{Error, Result};
use crate::files::read_foreign_text;
use crate::text::plural;

/// Images that are not read because their names have other extensions, counted by extension.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unread(BTreeMap<String, usize>);

impl Unread {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a file that is not read, if it looks like an image by its name or by its first bytes.
    fn add(&mut self, path: &Path) {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if OTHERS.contains(&extension.as_str()) || starts_as_image(path) {
            *self.0.entry(extension).or_default() += 1;
        }
    }

    fn and(mut self, others: Unread) -> Unread {
        others.0.into_iter().for_each(|(extension, count)| *self.0.entry(extension).or_default() += count);
        self
    }
}

impl Display for Unread {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let count = self.0.values().sum::<usize>();
        let (files, verbs) =
            if count == 1 { ("file", "looks like an image and is") } else { ("files", "look like images and are") };
        let name = |extension: &String| match extension.as_str() {
            "" => "no extension".to_owned(),
            extension => format!(".{extension}"),
        };
        let counts: Vec<String> =
            self.0.iter().map(|(extension, count)| format!("{} {count}", name(extension))).collect();
        let read = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
        write!(formatter, "{count} {files} {verbs} not read: {}; what is read is {read}", counts.join(", "))
    }
}

fn starts_as_image(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = path.is_file().then(|| fs::File::open(path).and_then(|file| file.take(32).read_to_end(&mut start)));
    read.is_some_and(|read| read.is_ok()) && image::guess_format(&start).is_ok()
}

/// Whether a file counts as an image, by its name.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.iter().any(|known| extension == *known)
}

/// What files are called in messages.
const CLASS_NAMES: &str = "list of class names";
const IMAGE_LIST: &str = "list of images";

/// What counts as an image in class folders; other files there are not looked at.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// What images are called that are not read.
const OTHERS: [&str; 32] = [
    "apng", "arw", "avif", "cr2", "cr3", "dds", "dib", "dng", "exr", "hdr", "heic", "heif", "ico", "j2k", "jfif",
    "jif", "jp2", "jpe", "jxl", "nef", "orf", "pbm", "pcx", "pgm", "pnm", "ppm", "psd", "raw", "svg", "tga", "tif",
    "tiff",
];

/// How a data set's images, labels and division are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reader {
    /// One of CoOp's `split_zhou_*.json` files.
    SplitJson {
        /// The file, below the data set's folder.
        file: String,
        /// The SHA-256 of the published file in hexadecimal; another file is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// One folder per class, below one folder per part or divided here. Labels are the places of the sorted folders.
    ClassFolders(ClassFolders),
    /// One list per part, of `<image> <class name>` lines, as FGVC-Aircraft has them.
    ImageLists(ImageLists),
    /// A table with the columns `path`, `label`, `classname` and `split` (`train`, `val` or `test`).
    Csv {
        /// The file, below the data set's folder.
        file: String,
    },
}

/// Where class folders lie. Files that are no images, and hidden ones, are not looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassFolders {
    /// The folder with the training images' class folders, below `images`. Without it the data set is for testing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<String>,
    /// The folder with the validation images' class folders, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// The folder with the test images' class folders; `.` where they lie in `images` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// How to divide the images of each class, where the class folders lie in `images` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// A file of `<folder> <class name>` lines below the data set's folder. Without it a class is called as its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<String>,
    /// The folders are called `0`, `1`, ... after the lines of `class_names`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numbered: bool,
}

/// How the images of each class are divided: shuffled, then cut, as CoOp's `read_and_split_data` does. The rest is for
/// testing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Division {
    /// The fraction for training; CoOp takes 0.5.
    pub train: f64,
    /// The fraction for validation; CoOp takes 0.2.
    pub val: f64,
    /// For Python's `random`.
    #[serde(default = "one")]
    pub seed: u64,
}

fn one() -> u64 {
    1
}

/// Lists of images; all files lie below the data set's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageLists {
    /// The class names, one per line; their order gives the labels.
    pub class_names: String,
    /// The training images.
    pub train: String,
    /// The validation images.
    pub val: String,
    /// The test images.
    pub test: String,
    /// What an image's file name has behind its name in the lists.
    pub suffix: String,
}

impl Reader {
    /// The files that it reads beside images, each with its key, below the data set's folder.
    pub(super) fn files(&self) -> Vec<(&'static str, &str)> {
        match self {
            Reader::SplitJson { file, .. } | Reader::Csv { file } => vec![("file", file)],
            Reader::ClassFolders(folders) => {
                folders.class_names.iter().map(|file| ("class_names", file.as_str())).collect()
            }
            Reader::ImageLists(lists) => vec![
                ("class_names", &lists.class_names),
                ("train", &lists.train),
                ("val", &lists.val),
                ("test", &lists.test),
            ],
        }
    }

    /// The folders that hold its images, each with its key, below the image folder.
    pub(super) fn parts(&self) -> Vec<(&'static str, &str)> {
        let Reader::ClassFolders(folders) = self else { return Vec::new() };
        folders.parts().into_iter().filter_map(|(part, folder)| Some((part, folder?))).collect()
    }

    /// Where a part (or with another word, the classes) comes from: a file below the data set's folder, or a folder
    /// of images.
    pub(super) fn place(&self, part: &str, images: &str) -> PathBuf {
        let is_it = |(key, _): &(&str, &str)| *key == part;
        match self {
            Reader::ClassFolders(_) => {
                Path::new(images).join(self.parts().into_iter().find(is_it).map_or(".", |(_, folder)| folder))
            }
            _ => {
                let files = self.files();
                files
                    .iter()
                    .copied()
                    .find(is_it)
                    .or(files.first().copied())
                    .map_or(PathBuf::new(), |(_, file)| file.into())
            }
        }
    }

    /// The class folders that are not there although `class_names` names them, below the data set's folder; known where
    /// it names as many as there are classes.
    pub(super) fn absent_class_folders(&self, folder: &Path, images: &str, classes: usize) -> Result<Vec<PathBuf>> {
        let Reader::ClassFolders(ClassFolders { class_names: Some(file), numbered, .. }) = self else {
            return Ok(Vec::new());
        };
        let names = read_class_names(&folder.join(file))?;
        if names.len() != classes {
            return Ok(Vec::new());
        }
        let name =
            |(label, (name, _)): (usize, &(String, String))| if *numbered { label.to_string() } else { name.clone() };
        let names: Vec<String> = names.iter().enumerate().map(name).collect();
        let parts = self.parts().into_iter().map(|(_, part)| Path::new(images).join(part));
        let folders = parts.flat_map(|part| names.iter().map(move |name| part.join(name)));
        Ok(folders.filter(|class| !folder.join(class).is_dir()).collect())
    }

    /// The images in class folders that are not read, where `images` is the image folder below the data set's folder.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn unread(&self, folder: &Path, images: &str) -> Result<Unread> {
        let Reader::ClassFolders(folders) = self else { return Ok(Unread::default()) };
        let parts = if folders.division.is_some() {
            vec!["."]
        } else {
            folders.parts().into_iter().filter_map(|(_, part)| part).collect()
        };
        let parts = parts.into_iter().map(|part| unread(&normal(&folder.join(images).join(part))));
        parts.collect::<Result<Vec<Unread>>>().map(|parts| parts.into_iter().fold(Unread::default(), Unread::and))
    }

    /// What is wrong with the values by themselves.
    pub(super) fn check(&self) -> Result<()> {
        let Reader::ClassFolders(ClassFolders { train, val, test, division, class_names, numbered }) = self else {
            return Ok(());
        };
        match (division, test) {
            (None, None) => Err(Error::hinted(
                "`class-folders` needs `test` or `division`",
                "`train = \"train\"`, `test = \"test\"` name folders; `division = { train = 0.5, val = 0.2 }` cuts each class",
            )),
            (Some(_), _) if train.is_some() || val.is_some() || test.is_some() => Err(Error::hinted(
                "`division` divides what `train`, `val` or `test` name already",
                "remove one or the other",
            )
            .about("division")),
            (None, Some(_)) if val.is_some() && train.is_none() => {
                Err(Error::hinted("`val` without `train`", "a data set for testing only has `test` alone").about("val"))
            }
            (Some(Division { train, val, .. }), _) if !(*train > 0.0 && *val >= 0.0 && train + val < 1.0) => {
                let message = format!("`division` takes {train} and {val} of the images and leaves nothing to test");
                let hint = "give two fractions whose sum is below 1, for example 0.5 and 0.2";
                Err(Error::hinted(message, hint).about("division"))
            }
            _ if *numbered && class_names.is_none() => {
                let hint = "name the file whose lines they count";
                Err(Error::hinted("`numbered` folders need `class_names`", hint).about("numbered"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the division in the data set's folder, where `images` is the image folder below it.
    pub(super) fn read(&self, folder: &Path, images: &str) -> Result<Split<Item>> {
        match self {
            Reader::SplitJson { file, .. } => Split::read(&folder.join(file)),
            Reader::ClassFolders(folders) => folders.read(folder, &normal(&folder.join(images))),
            Reader::ImageLists(lists) => lists.read(folder),
            Reader::Csv { file } => read_csv(&folder.join(file)),
        }
    }
}

/// The image files of each class folder, sorted.
type Found = BTreeMap<String, Vec<String>>;

impl ClassFolders {
    fn parts(&self) -> [(&'static str, Option<&str>); 3] {
        [("train", self.train.as_deref()), ("val", self.val.as_deref()), ("test", self.test.as_deref())]
    }

    fn read(&self, folder: &Path, images: &Path) -> Result<Split<Item>> {
        let names = match &self.class_names {
            Some(file) => Some(read_class_names(&folder.join(file))?),
            None => None,
        };
        if let Some(division) = &self.division {
            let found = class_files(images)?;
            let classes = self.classes(images, &[&found], names.as_deref())?;
            return division.divide(images, &found, &classes);
        }
        let mut found = Vec::new();
        for (_, part) in self.parts() {
            found.push(part.map_or_else(|| Ok(Found::new()), |part| class_files(&images.join(part)))?);
        }
        let classes = self.classes(images, &found.iter().collect::<Vec<_>>(), names.as_deref())?;
        let items = |place: usize| {
            let prefix =
                self.parts()[place].1.filter(|part| *part != ".").map_or(String::new(), |part| part.to_owned() + "/");
            classes
                .iter()
                .enumerate()
                .flat_map(|(label, (folder, name))| items(&prefix, folder, label, name, found[place].get(folder)))
                .collect::<Vec<_>>()
        };
        let split = Split { train: items(0), val: items(1), test: items(2) };
        if self.train.is_some() {
            let trained: BTreeSet<usize> = split.train.iter().map(|item| item.label).collect();
            if let Some((_, (folder, _))) = classes.iter().enumerate().find(|(label, _)| !trained.contains(label)) {
                let message = format!("`{}` has no training images of class `{folder}`", images.display());
                let hint = match self.train.iter().map(|part| unread(&images.join(part))).find_map(Result::ok) {
                    Some(unread) if !unread.is_empty() => format!("{unread}"),
                    _ => "every class needs some: add them, or remove its other folders".to_owned(),
                };
                return Err(Error::hinted(message, hint));
            }
        }
        if split.test.is_empty() {
            return Err(Error::hinted(
                format!("`{}` has no test images", images.display()),
                "it must hold one folder per class, with images in it",
            ));
        }
        Ok(split)
    }

    /// The folder and the name of every class, by label.
    fn classes(
        &self,
        images: &Path,
        found: &[&Found],
        names: Option<&[(String, String)]>,
    ) -> Result<Vec<(String, String)>> {
        let folders: BTreeSet<&String> = found.iter().flat_map(|found| found.keys()).collect();
        let Some(names) = names else {
            return Ok(folders.into_iter().map(|folder| (folder.clone(), folder.clone())).collect());
        };
        let unnamed = |folder: &str| {
            let message = format!("`{}` has a folder `{folder}` that `class_names` does not name", images.display());
            Error::hinted(message, "take the folder away, or take the `classnames.txt` that belongs to these images")
        };
        if self.numbered {
            let classes: Vec<(String, String)> =
                names.iter().enumerate().map(|(label, (_, name))| (label.to_string(), name.clone())).collect();
            let known: BTreeSet<&String> = classes.iter().map(|(folder, _)| folder).collect();
            if let Some(folder) = folders.difference(&known).next() {
                return Err(unnamed(folder));
            }
            if let Some(folder) = known.difference(&folders).next() {
                let message = format!("`{}` has no folder `{folder}`", images.display());
                return Err(Error::hinted(message, "the data set is incomplete: fetch or unpack it again"));
            }
            return Ok(classes);
        }
        let names: HashMap<&str, &str> = names.iter().map(|(folder, name)| (folder.as_str(), name.as_str())).collect();
        let named = |folder: &String| {
            let name = names.get(folder.as_str()).ok_or_else(|| unnamed(folder))?;
            Ok((folder.clone(), (*name).to_owned()))
        };
        folders.into_iter().map(named).collect()
    }
}

/// The images of one class.
fn items(prefix: &str, folder: &str, label: usize, name: &str, files: Option<&Vec<String>>) -> Vec<Item> {
    let item = |file: &String| Item { path: format!("{prefix}{folder}/{file}"), label, class_name: name.to_owned() };
    files.map_or_else(Vec::new, |files| files.iter().map(item).collect())
}

impl Division {
    fn divide(&self, images: &Path, found: &Found, classes: &[(String, String)]) -> Result<Split<Item>> {
        let mut random = PythonRandom::new(self.seed);
        let mut split = Split { train: Vec::new(), val: Vec::new(), test: Vec::new() };
        for (label, (folder, name)) in classes.iter().enumerate() {
            let mut items = items("", folder, label, name, found.get(folder));
            random.shuffle(&mut items);
            let count = items.len() as f64;
            let train = (count * self.train).round_ties_even() as usize;
            let val = (count * self.val).round_ties_even() as usize;
            if train == 0 || train + val >= items.len() || (val == 0 && self.val > 0.0) {
                let count = plural(items.len(), "image", "images");
                let message = format!("`{}` has {count}, too few to divide", images.join(folder).display());
                return Err(Error::hinted(
                    message,
                    "every part needs at least one of each class: add images, or change `division`",
                ));
            }
            split.test.extend(items.split_off(train + val));
            split.val.extend(items.split_off(train));
            split.train.extend(items);
        }
        if split.train.is_empty() {
            let message = format!("`{}` has no class folders", images.display());
            return Err(Error::hinted(message, "it must hold one folder per class, with images in it"));
        }
        Ok(split)
    }
}

impl ImageLists {
    fn read(&self, folder: &Path) -> Result<Split<Item>> {
        let path = folder.join(&self.class_names);
        let labels: HashMap<String, usize> =
            read_lines(&path, CLASS_NAMES)?.into_iter().enumerate().map(|(label, (_, name))| (name, label)).collect();
        let part = |file: &String| {
            let path = folder.join(file);
            let item = |(line, text): (usize, String)| {
                let wrong = |what: String| Error::format(&path, IMAGE_LIST, format!("line {line} {what}"));
                let (image, class_name) =
                    text.split_once(' ').ok_or_else(|| wrong("is not `<image> <class name>`".to_owned()))?;
                let label = labels.get(class_name).copied();
                let label = label.ok_or_else(|| {
                    wrong(format!("names the class `{class_name}`, which `{}` lacks", self.class_names))
                })?;
                Ok(Item { path: format!("{image}{}", self.suffix), label, class_name: class_name.to_owned() })
            };
            read_lines(&path, IMAGE_LIST)?.into_iter().map(item).collect::<Result<Vec<_>>>()
        };
        let split = Split { train: part(&self.train)?, val: part(&self.val)?, test: part(&self.test)? };
        split.check().map_err(|message| Error::format(folder.join(&self.train), IMAGE_LIST, message))?;
        Ok(split)
    }
}

/// The columns of a table of images.
const COLUMNS: [&str; 4] = ["path", "label", "classname", "split"];

fn read_csv(path: &Path) -> Result<Split<Item>> {
    const FORMAT: &str = "table of images";
    let text = read_foreign_text(path, FORMAT)?;
    let wrong = |message: String| Error::format(path, FORMAT, message).with_hint(csv_hint);
    let broken = |error: csv::Error| wrong(error.to_string());
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(broken)?.clone();
    let column = |name: &str| {
        header.iter().position(|known| known == name).ok_or_else(|| {
            let separator = [(";", "a semicolon"), ("\t", "a tab"), ("|", "`|`")].into_iter();
            let separator = separator.filter(|(sign, _)| header.len() == 1 && header[0].contains(sign));
            wrong(match separator.map(|(_, name)| name).next() {
                Some(separator) => format!("between its columns stands {separator}, not a comma"),
                None => format!("its first line has no column `{name}`"),
            })
        })
    };
    let columns: Vec<usize> = COLUMNS.into_iter().map(column).collect::<Result<_>>()?;
    let mut split = Split { train: Vec::new(), val: Vec::new(), test: Vec::new() };
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let in_line = |what: String| {
            // Empty lines before a record belong to it.
            let start = record.position().map_or(0, |position| position.byte() as usize);
            let empty = text[start..].len() - text[start..].trim_start().len();
            wrong(format!("line {} {what}", text[..start + empty].matches('\n').count() + 1))
        };
        if record.len() != header.len() {
            let fields = plural(record.len(), "field", "fields");
            return Err(in_line(format!("has {fields}, but the first line has {}", header.len())));
        }
        let [image, label, class_name, part] = [0, 1, 2, 3].map(|place| &record[columns[place]]);
        let items = match part {
            "train" => &mut split.train,
            "val" => &mut split.val,
            "test" => &mut split.test,
            _ => return Err(in_line(format!("has the split `{part}`, not `train`, `val` or `test`"))),
        };
        let label = label.parse().map_err(|_| in_line(format!("has the label `{label}`, not an integer from 0 up")))?;
        items.push(Item { path: image.to_owned(), label, class_name: class_name.to_owned() });
    }
    split.check().map_err(wrong)?;
    Ok(split)
}

fn csv_hint() -> String {
    format!("its first line is `{}`, and an image is, for example, `cat/1.jpg,0,cat,train`", COLUMNS.join(","))
}

/// `classnames.txt`: on each line a folder and what its class is called.
fn read_class_names(path: &Path) -> Result<Vec<(String, String)>> {
    let wrong = |line: usize, what: String| Error::format(path, CLASS_NAMES, format!("line {line} {what}"));
    let mut names: Vec<(String, String)> = Vec::new();
    let mut known = HashSet::new();
    for (line, text) in read_lines(path, CLASS_NAMES)? {
        let (folder, name) =
            text.split_once(' ').ok_or_else(|| wrong(line, "is not `<folder> <class name>`".to_owned()))?;
        if !known.insert(folder.to_owned()) {
            return Err(wrong(line, format!("names the folder `{folder}` again")));
        }
        names.push((folder.to_owned(), name.to_owned()));
    }
    Ok(names)
}

/// The lines of a text, without white space around them, each with its number; empty ones are left out.
fn read_lines(path: &Path, format: &'static str) -> Result<Vec<(usize, String)>> {
    let text = read_foreign_text(path, format)?;
    let lines = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty()).collect())
}

/// The images in the class folders of `folder` that are not read.
fn unread(folder: &Path) -> Result<Unread> {
    let folders = entries(folder, |path, is_folder| is_folder.unwrap_or_else(|| path.is_dir()))?;
    let of_class = |name: &String| {
        let class = folder.join(name);
        let names = entries(&class, |path, is_folder| !is_image(path) && is_folder != Some(true))?;
        let mut unread = Unread::default();
        names.iter().for_each(|name| unread.add(&class.join(name)));
        Ok(unread)
    };
    folders.par_iter().map(of_class).try_reduce(Unread::default, |one, other| Ok(one.and(other)))
}

/// The images in each folder of `folder`, links followed, hidden files and folders left out.
fn class_files(folder: &Path) -> Result<Found> {
    let folders = entries(folder, |path, is_folder| is_folder.unwrap_or_else(|| path.is_dir()))?;
    let files = |name: String| {
        let is_wanted =
            |path: &Path, is_folder: Option<bool>| is_image(path) && !is_folder.unwrap_or_else(|| path.is_dir());
        let files = entries(&folder.join(&name), is_wanted)?;
        Ok((name, files))
    };
    folders.into_par_iter().map(files).collect()
}

/// The sorted names of a folder's entries that are wanted; `wanted` is told whether it is a folder, unless it is a link.
fn entries(folder: &Path, wanted: impl Fn(&Path, Option<bool>) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
        let Ok(name) = entry.file_name().into_string() else {
            let message = format!("the file name `{}` is not plain UTF-8", entry.path().display());
            return Err(Error::hinted(message, "rename the file"));
        };
        if !name.starts_with('.') && wanted(&entry.path(), (!kind.is_symlink()).then(|| kind.is_dir())) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
