//! Whether the files of a data set are what its manifest says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::image::decode;
use super::item::Item;
use super::manifest::Manifest;
use super::reader::Reader;
use super::split::Split;
use super::sums::Sums;
use crate::error::{Error, Result};

/// What a check found.
#[derive(Debug)]
pub struct Check {
    /// The division; `None` where it cannot be read.
    pub split: Option<Split<Item>>,
    /// Which of its images are there, part by part.
    pub on_disk: Split<bool>,
    /// What is not as the manifest says, a sentence each.
    pub differences: Vec<String>,
    /// Files and folders that are not there.
    pub missing: Vec<PathBuf>,
    /// Files and folders that are there and have too little in them, or are others.
    pub short: Vec<PathBuf>,
    /// Images that cannot be decoded, a sentence each.
    pub broken: Vec<String>,
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
        missing: manifest.lacks(folder),
        short: Vec::new(),
        broken: Vec::new(),
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
        check.missing.append(&mut missing);
    }
    let items: Vec<&Item> = split.parts().into_iter().flat_map(|(_, items)| items).collect();
    if deep {
        let done = AtomicUsize::new(0);
        let broken = |item: &&Item| {
            let path = place(item);
            let result = match std::fs::read(&path) {
                Ok(bytes) => decode(&bytes, &path).err(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => Some(Error::io("read", &path)(error)),
            };
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            result.map(|error| error.to_string())
        };
        check.broken = items.par_iter().filter_map(broken).collect();
    }
    check.split = Some(split);
    Ok(check)
}

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
