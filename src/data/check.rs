//! Whether the files of a data set match its manifest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::catalogue::shipped;
use super::image::decode;
use super::item::Item;
use super::likeness::alike;
use super::manifest::Manifest;
use super::reader::Reader;
use super::split::Split;
use super::sums::Sums;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::text::{NAMED, few, plural};

/// What a check found.
#[derive(Debug)]
pub struct Check {
    /// The division; `None` where it cannot be read.
    pub split: Option<Split<Item>>,
    /// Which of its images are there, part by part.
    pub on_disk: Split<bool>,
    /// What does not match the manifest, a sentence each.
    pub differences: Vec<String>,
    /// What to do about them, where something is known.
    pub hint: Option<String>,
    /// Files and folders that are not there.
    pub missing: Vec<PathBuf>,
    /// Files and folders that are there and have too little in them, or are others.
    pub short: Vec<PathBuf>,
    /// Images that cannot be decoded, a sentence each.
    pub broken: Vec<String>,
    /// What a person should know, although it contradicts no manifest, a sentence each.
    pub notes: Vec<String>,
}

impl Check {
    /// Whether nothing is wrong.
    pub fn is_complete(&self) -> bool {
        self.differences.is_empty() && self.missing.is_empty() && self.broken.is_empty()
    }

    /// Where there is too little.
    pub fn lacking(&self) -> Vec<PathBuf> {
        [self.missing.as_slice(), &self.short].concat()
    }

    /// Missing files, grouped by their nearest folder that exists. If `class/` is missing, it stands for all its files.
    pub fn missing_by_folder(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut folders: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for path in &self.missing {
            let absent = path.ancestors().take_while(|path| !path.exists()).last().unwrap_or(path);
            folders.entry(absent.parent().unwrap_or(absent)).or_default().insert(absent);
        }
        folders
    }
}

/// Compares a data set's folder with its manifest and with what is known of its split file in `sums`; with `deep`, every
/// image is decoded, and `progress` gets how many there are and how many were.
///
/// # Errors
/// Only when something is there and cannot be read.
pub fn check(
    manifest: &Manifest,
    folder: &Path,
    sums: &Sums,
    deep: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Check> {
    let mut check = Check {
        split: None,
        on_disk: Split { train: Vec::new(), val: Vec::new(), test: Vec::new() },
        differences: Vec::new(),
        hint: None,
        missing: manifest.lacks(folder),
        short: Vec::new(),
        broken: Vec::new(),
        notes: Vec::new(),
    };
    let lacks_files = manifest.reader.files().iter().any(|(_, file)| check.missing.contains(&folder.join(file)));
    let folders = matches!(manifest.reader, Reader::ClassFolders(_));
    if lacks_files || (folders && !check.missing.is_empty()) {
        return Ok(check);
    }
    if let Some(classes) = manifest.counts.classes {
        let absent = manifest.reader.absent_class_folders(folder, &manifest.images, classes)?;
        check.missing.extend(absent.into_iter().map(|class| folder.join(class).components().collect::<PathBuf>()));
    }
    let split = match manifest.read(folder) {
        Ok(split) => split,
        Err(error @ (Error::Format { .. } | Error::Invalid { .. })) => {
            check.differences.push(error.to_string());
            check.hint = error.hint().map(Into::into);
            return Ok(check);
        }
        Err(error) => return Err(error),
    };
    let differences = manifest.differences(folder, &split)?;
    check.short = differences.iter().filter(|difference| difference.lacks).map(|one| one.place.clone()).collect();
    check.differences = differences.iter().map(ToString::to_string).collect();
    if let Some(changed) = changed(manifest, folder, sums)? {
        check.differences.push(changed);
        check.short.extend(manifest.unpublished_split().map(|file| folder.join(file)));
    }
    let images = manifest.image_folder(folder);
    // Class folders name what was found in them.
    let place = |item: &Item| images.join(&item.path).components().collect::<PathBuf>();
    let is_there = |item: &Item| folders || place(item).is_file();
    let found = |items: &[Item]| items.par_iter().map(is_there).collect();
    check.on_disk = Split { train: found(&split.train), val: found(&split.val), test: found(&split.test) };
    if !folders {
        if let Some(difference) = too_few(manifest, &images, &check) {
            check.differences.push(difference);
            check.short.push(images.clone());
        }
        let mut missing: Vec<PathBuf> = split
            .parts()
            .into_iter()
            .zip(check.on_disk.parts())
            .flat_map(|((_, items), (_, found))| items.iter().zip(found).filter(|(_, found)| !**found))
            .map(|(item, _)| place(item))
            .filter(|path| !check.missing.iter().any(|folder| path.starts_with(folder)))
            .collect();
        check.hint = hint(&images, &split, &check.on_disk);
        check.missing.append(&mut missing);
    }
    let unread = manifest.reader.unread(folder, &manifest.images)?;
    if !unread.is_empty() {
        check.notes.push(unread.to_string());
    }
    if deep {
        let count = split.parts().iter().map(|(_, items)| items.len()).sum();
        let done = AtomicUsize::new(0);
        // What an image is told from others by: its content, where it can be read.
        let look = |item: &Item| -> (Option<Digest>, Option<String>) {
            let path = place(item);
            let (digest, error) = match std::fs::read(&path) {
                Ok(bytes) => (Some(Digest::of(&bytes)), decode(&bytes, &path).err()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, None),
                Err(error) => (None, Some(Error::io("read", &path)(error))),
            };
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, count);
            (digest, error.map(|error| error.to_string()))
        };
        let found = split.parts().map(|(_, items)| items.par_iter().map(look).unzip::<_, _, Vec<_>, Vec<_>>());
        check.broken = found.iter().flat_map(|(_, errors)| errors).flatten().cloned().collect();
        check.notes.extend(repeated(&split, &found.map(|(digests, _)| digests)));
    } else {
        let places = split.parts().map(|(_, items)| items.iter().map(|item| Some(place(item))).collect());
        check.notes.extend(repeated(&split, &places));
    }
    check.split = Some(split);
    Ok(check)
}

/// The other shipped data set that is complete in this folder of the data root, in which both of them lie.
pub fn other_there(manifest: &Manifest, folder: &Path, sums: &Sums) -> Option<&'static str> {
    let is_other = |known: &Manifest| known.folder == manifest.folder && known.name != manifest.name;
    let is_complete =
        |known: &Manifest| check(known, folder, sums, false, &|_, _| {}).is_ok_and(|found| found.is_complete());
    let mut others = shipped().filter(|(_, known)| is_other(known));
    others.find(|(_, known)| is_complete(known)).map(|(name, _)| name)
}

/// Says which images are in two parts, or twice in one; `identities` tells images from others, and says nothing of some.
fn repeated<T: Eq + Hash>(split: &Split<Item>, identities: &[Vec<Option<T>>; 3]) -> Vec<String> {
    let parts = split.parts();
    let mut sentences = Vec::new();
    let mut say = |images: &[&Item], what: &str, where_else: String| {
        let names = few(NAMED, images.iter().map(|item| item.path.clone()));
        let count = plural(images.len(), "image", "images");
        if !images.is_empty() {
            sentences.push(format!("`{what}` has {count} {where_else}: {names}"));
        }
    };
    for (place, (part, items)) in parts.iter().enumerate() {
        let known: Vec<(&Item, &T)> =
            items.iter().zip(&identities[place]).filter_map(|(item, one)| Some((item, one.as_ref()?))).collect();
        let mut seen = HashSet::new();
        let again: Vec<&Item> = known.iter().filter(|(_, one)| !seen.insert(*one)).map(|(item, _)| *item).collect();
        say(&again, part, "more than once".to_owned());
        for ((other, _), theirs) in parts.iter().zip(identities).take(place) {
            let theirs: HashSet<&T> = theirs.iter().flatten().collect();
            let both: Vec<&Item> =
                known.iter().filter(|(_, one)| theirs.contains(one)).map(|(item, _)| *item).collect();
            say(&both, part, format!("that `{other}` has, too"));
        }
    }
    sentences
}

/// What to do about images that are there under other names.
fn hint(images: &Path, split: &Split<Item>, on_disk: &Split<bool>) -> Option<String> {
    let parts = split.parts().into_iter().zip(on_disk.parts());
    let absent =
        || parts.clone().flat_map(|((_, items), (_, found))| items.iter().zip(found)).filter(|(_, found)| !**found);
    absent().next()?;
    let files = walkdir::WalkDir::new(images).follow_links(true).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file());
    let there = files.filter_map(|entry| Some(entry.path().strip_prefix(images).ok()?.to_str()?.to_owned()));
    alike(absent().map(|(item, _)| item.path.as_str()), there).map(|alike| format!("{alike}: {CORRECT}"))
}

/// What to do where names differ from those of the files.
pub const CORRECT: &str = "rename the files, or correct the list";

/// A split file that is no longer what it was when it came.
fn changed(manifest: &Manifest, folder: &Path, sums: &Sums) -> Result<Option<String>> {
    let Some(file) = manifest.unpublished_split() else { return Ok(None) };
    let Some(checksum) = sums.get(&format!("{}/{file}", manifest.folder)) else { return Ok(None) };
    let path = folder.join(file);
    let found = checksum.check(&path)?.err();
    Ok(found.map(|found| {
        format!("`{}` is not what it was when it came: its SHA-256 is {found}, not {checksum}", path.display())
    }))
}

/// Says how many images there are when something differs, since a split file may name fewer than there should be.
fn too_few(manifest: &Manifest, images: &Path, check: &Check) -> Option<String> {
    let needed = manifest.counts.images().filter(|_| !check.differences.is_empty())?;
    let files = walkdir::WalkDir::new(images).follow_links(true).into_iter().flatten();
    let found = files.filter(|entry| entry.file_type().is_file()).count();
    (found < needed).then(|| format!("`{}` holds {found} files, but {needed} images are needed", images.display()))
}
