//! Gets the files that a data set is made from into its folder, in the published layout.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::archive::unpack;
use super::manifest::{DataSource, Manifest};
use super::sums::Sums;
use crate::download::{Checksum, download};
use crate::error::{Error, Result};

/// How far a source is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// These bytes are there, of this many if that is known.
    Downloading(u64, Option<u64>),
    /// The file is compared with its checksum and unpacked.
    Unpacking,
}

/// Puts one source of a data set in place. An archive that lies in the data set's folder is unpacked and stays; one that
/// was downloaded goes when it is unpacked, and files that are there already stay as they are. A file without a published
/// checksum is held to the one that it had when it first came, which `sums` keeps.
///
/// # Errors
/// When the file must be had by hand, cannot be had, or is another one; the hint says what to do.
pub fn fetch(
    manifest: &Manifest,
    source: &DataSource,
    data_root: &Path,
    sums: &Mutex<Sums>,
    progress: &mut dyn FnMut(Step),
) -> Result<()> {
    let folder = data_root.join(&manifest.folder);
    let path = folder.join(&source.file);
    let name = format!("{}/{}", manifest.folder, source.file);
    let by_hand = || {
        let unpacks = if source.unpack.is_empty() { "" } else { ", and fetch again to unpack it" };
        format!("download {} and put it at `{}`{unpacks}", source.url, path.display())
    };
    let checksum = published(manifest, source).or_else(|| sums.lock().expect("nobody panics").get(&name));
    let was_there = path.exists();
    if was_there {
        progress(Step::Unpacking);
        if let Some(checksum) = &checksum
            && let Err(found) = checksum.check(&path)?
        {
            let what = checksum.name();
            let message = format!("`{}` is another file: its {what} is {found}, not {checksum}", path.display());
            return Err(Error::hinted(message, "remove it, and fetch it again"));
        }
    }
    let mut downloaded = None;
    match &source.by_hand {
        Some(reason) if !source.gives.is_empty() => {
            let gives: Vec<String> =
                source.gives.iter().map(|place| format!("`{}`", folder.join(place).display())).collect();
            let message = format!("{} lacks {}, or a part of it", manifest.name, gives.join(" and "));
            let found = if was_there { ", which is there and whole" } else { "" };
            let hint = format!("download {} from {}{found}: {reason}", source.file, source.url);
            return Err(Error::hinted(message, hint));
        }
        Some(reason) if !was_there => {
            let message = format!("`{}` cannot be fetched: {reason}", source.file);
            return Err(Error::hinted(message, by_hand()));
        }
        None if !was_there => {
            let version = download(&source.url, checksum.as_ref(), 1 << 40, &path, &mut |have, total| {
                progress(Step::Downloading(have, total))
            })
            .map_err(|error| error.or_by_hand(by_hand))?;
            downloaded = Some(version);
        }
        _ => {}
    }
    if !source.unpack.is_empty() {
        progress(Step::Unpacking);
        unpack(&path, source.inner.as_deref(), &source.unpack, &folder).inspect_err(|error| {
            // What was downloaded and is no archive must not be taken for one the next time, nor for one that was put
            // there by hand.
            let _ = match (error, &downloaded) {
                (_, None) => Ok(()),
                (Error::Format { .. }, Some(_)) => fs::remove_file(&path),
                (_, Some(version)) => version.put_back(&path),
            };
        })?;
    }
    // A file that was there and is not what it should be has nothing to say about it.
    if published(manifest, source).is_none() && !(was_there && source.unpack.is_empty()) {
        sums.lock().expect("nobody panics").keep(&name)?;
    }
    if !was_there && !source.unpack.is_empty() {
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// The checksum that the manifest has for a source.
fn published(manifest: &Manifest, source: &DataSource) -> Option<Checksum> {
    let split = manifest.split_checksum().filter(|(file, _)| *file == source.file).map(|(_, checksum)| checksum);
    source.checksum.clone().or(split)
}
