//! Gets the files that a data set is made from into its folder, in the published layout.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::archive::unpack;
use super::manifest::{DataSource, Manifest};
use super::split::Split;
use super::sums::Sums;
use crate::download::{Checksum, download, shown};
use crate::error::{Error, Result};
use crate::files::{disguise_of, write_atomically};

/// Bytes that a file may have: a split file or a list, and an archive.
const MOST: [u64; 2] = [256 << 20, 1 << 40];

/// How far a source is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// These bytes are there, of this many if that is known.
    Downloading(u64, Option<u64>),
    /// The file is compared with its checksum and unpacked.
    Unpacking,
}

/// Puts one source of a data set in place. An archive that lies in the data set's folder is unpacked and stays; one that
/// was downloaded goes when it is unpacked, and files that are there already stay as they are, except a page that a server
/// has sent in place of a file. A file without a published checksum is held to the one that `sums` has: an archive's is
/// kept there when it has been unpacked, any other's by [`keep_sums`].
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
    // Where a file that is to be cut waits for that, so that it is never taken for the cut.
    let whole = folder.join(format!("{}.whole", source.file));
    let (name, url) = (name(manifest, source), shown(&source.url));
    let by_hand = || {
        let (place, then) = match (source.unpack.is_empty(), source.classes.is_empty()) {
            (true, true) => (&path, ""),
            (true, false) => (&whole, ", and fetch again to cut it"),
            (false, _) => (&path, ", and fetch again to unpack it"),
        };
        format!("download {url} and put it at `{}`{then}", place.display())
    };
    let checksum = published(manifest, source).or_else(|| sums.lock().expect("nobody panics").get(&name));
    let page = disguise_of(&path)?;
    if page.is_some() && source.by_hand.is_none() {
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let was_there = page.is_none() && path.exists();
    if was_there {
        progress(Step::Unpacking);
        hold(checksum.as_ref(), &path)?;
    }
    let mut downloaded = None;
    match &source.by_hand {
        Some(reason) if !source.gives.is_empty() => {
            let gives: Vec<String> =
                source.gives.iter().map(|place| format!("`{}`", folder.join(place).display())).collect();
            let message = format!("{} lacks {}, or a part of it", manifest.name, gives.join(" and "));
            let found = if was_there { ", which is there and whole" } else { "" };
            let hint = format!("download {} from {url}{found}: {reason}", source.file);
            return Err(Error::hinted(message, hint));
        }
        Some(reason) if !was_there => {
            let page = page.map(|what| format!("; what lies there is {what}")).unwrap_or_default();
            let message = format!("`{}` cannot be fetched: {reason}{page}", source.file);
            return Err(Error::hinted(message, by_hand()));
        }
        None if !was_there => {
            let mut get = |checksum: Option<&Checksum>, target: &Path| {
                let [most, most_of_archives] = MOST;
                let most = if source.is_plain() { most } else { most_of_archives };
                let progress = &mut |have, total| progress(Step::Downloading(have, total));
                download(&source.url, checksum, most, target, progress).map_err(|error| error.or_by_hand(by_hand))
            };
            if source.classes.is_empty() {
                downloaded = Some(get(checksum.as_ref(), &path)?);
            } else {
                if whole.exists() {
                    hold(source.checksum.as_ref(), &whole)?;
                } else {
                    get(source.checksum.as_ref(), &whole)?;
                }
                let cut = Split::read(&whole)?.cut(&source.classes);
                let cut = cut.map_err(|message| Error::format(&whole, "split file", format!("it {message}")))?;
                write_atomically(&path, cut.text().as_bytes())?;
                fs::remove_file(&whole).map_err(Error::io("remove", &whole))?;
            }
        }
        _ => {}
    }
    if source.unpack.is_empty() {
        return Ok(());
    }
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
    if published(manifest, source).is_none() {
        sums.lock().expect("nobody panics").keep(&name)?;
    }
    if !was_there {
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Refuses a file that is there and has another checksum.
fn hold(checksum: Option<&Checksum>, path: &Path) -> Result<()> {
    if let Some(checksum) = checksum
        && let Err(found) = checksum.check(path)?
    {
        let what = checksum.name();
        let message = format!("`{}` is another file: its {what} is {found}, not {checksum}", path.display());
        return Err(Error::hinted(message, "remove it, and fetch it again"));
    }
    Ok(())
}

/// Keeps the checksums of a data set's files that nobody has published. The data set is what its manifest says, so that
/// these files have been read and are no error pages.
///
/// # Errors
/// When a file cannot be read, or the list cannot be written.
pub fn keep_sums(manifest: &Manifest, data_root: &Path, sums: &mut Sums) -> Result<()> {
    let unpublished = |source: &&DataSource| source.is_plain() && published(manifest, source).is_none();
    let sources = manifest.sources.iter().filter(unpublished).map(|source| name(manifest, source));
    let split = manifest.unpublished_split().map(|file| format!("{}/{file}", manifest.folder));
    let mut names = sources.chain(split).filter(|name| data_root.join(name).is_file());
    names.try_for_each(|name| sums.keep(&name))
}

/// What a source is called in `SHA256SUMS`.
fn name(manifest: &Manifest, source: &DataSource) -> String {
    format!("{}/{}", manifest.folder, source.file)
}

/// The checksum that the manifest has for a source's file below the data set's folder.
fn published(manifest: &Manifest, source: &DataSource) -> Option<Checksum> {
    let split = manifest.split_checksum().filter(|(file, _)| *file == source.file).map(|(_, checksum)| checksum);
    // What is cut is another file than what is downloaded.
    source.checksum.clone().filter(|_| source.classes.is_empty()).or(split)
}
