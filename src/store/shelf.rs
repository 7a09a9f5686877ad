//! Shelves: what holds artifacts under their digests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::listing::Listing;
use super::record::{Artifact, ArtifactKind};
use super::scratch::Scratch;
use super::stat_cache::StatCache;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{create_parent, is_executable, sync, sync_parent, temporary_file, write_by_way_of};

/// Holds artifacts.
pub trait Shelf: std::fmt::Debug + Send + Sync {
    /// Which of these artifacts are there and have the right size. Many are asked for at once, because an answer may come
    /// from far away.
    fn has(&self, artifacts: &[&Artifact]) -> Vec<bool>;

    /// Where an artifact can be read on this machine. Its bytes have been compared with its digest.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not there, or where it holds other bytes.
    fn get(&self, artifact: &Artifact) -> Result<PathBuf>;

    /// Takes a file or a folder, which is moved, and returns what it is. What is on its way lies in `scratch`. With `durably`
    /// it is on the disk when this returns.
    ///
    /// # Errors
    /// The output is missing, or the shelf cannot be written.
    fn put(&self, path: &Path, scratch: &Scratch, durably: bool) -> Result<Artifact>;
}

/// The shelf of a store on this machine.
#[derive(Debug)]
pub struct LocalShelf {
    /// The store's folder.
    root: PathBuf,
    /// The digests of artifacts as they were last read, so that an unchanged one is read once.
    read: StatCache,
}

/// Where a store keeps what has this digest.
pub(super) fn place(root: &Path, kind: &str, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    // It is asked for ten thousands of times.
    let mut path = PathBuf::with_capacity(root.as_os_str().len() + kind.len() + 2 * name.len());
    path.extend([root, Path::new(kind), Path::new(&name[..2]), Path::new(&name)]);
    path
}

impl Shelf for LocalShelf {
    fn has(&self, artifacts: &[&Artifact]) -> Vec<bool> {
        artifacts.iter().map(|artifact| self.holds(artifact)).collect()
    }

    fn get(&self, artifact: &Artifact) -> Result<PathBuf> {
        let path = self.path(artifact);
        if self.holds(artifact) && self.is_as_made(artifact)? {
            return Ok(path);
        }
        let lost = !path.exists();
        Err(Error::Damaged { path, lost })
    }

    fn put(&self, path: &Path, scratch: &Scratch, durably: bool) -> Result<Artifact> {
        take_over(path)?;
        let (artifact, listing) = Artifact::of(path)?;
        self.keep(path, &artifact, listing, scratch)?;
        if durably {
            self.sync(&artifact)?;
        }
        Ok(artifact)
    }
}

impl LocalShelf {
    /// The shelf of the store in `root`.
    pub(super) fn new(root: &Path) -> LocalShelf {
        LocalShelf { root: root.to_owned(), read: StatCache::open(root.join("verified")) }
    }

    /// Takes a file or a folder that came from elsewhere, if it is the artifact that it is said to be; whether it is.
    ///
    /// # Errors
    /// It is not there, or the shelf cannot be written.
    pub(super) fn adopt(&self, path: &Path, artifact: &Artifact, scratch: &Scratch) -> Result<bool> {
        take_over(path)?;
        let (found, listing) = Artifact::of(path)?;
        if found != *artifact {
            return Ok(false);
        }
        self.keep(path, &found, listing, scratch)?;
        Ok(true)
    }

    /// Moves what is this artifact to its place.
    fn keep(&self, path: &Path, artifact: &Artifact, listing: Option<Listing>, scratch: &Scratch) -> Result<()> {
        if let Some(listing) = listing {
            let place = self.place("artifacts", &artifact.digest);
            create_parent(&place)?;
            write_by_way_of(scratch.file()?, &place, listing.text().as_bytes(), false)?;
        }
        let place = self.path(artifact);
        create_parent(&place)?;
        match artifact.kind {
            // What lies there intact may be synced already.
            ArtifactKind::File if self.holds(artifact) && self.is_intact(artifact) => Ok(()),
            ArtifactKind::File => fs::rename(path, &place).map_err(Error::io("move into the store", &place)),
            ArtifactKind::Folder => self.adopt_folder(path, artifact, &place),
        }
    }

    /// What was read of artifacts.
    pub(super) fn read(&self) -> &StatCache {
        &self.read
    }

    /// Where an artifact lies, if it is there.
    pub fn path(&self, artifact: &Artifact) -> PathBuf {
        match artifact.kind {
            ArtifactKind::File => self.place("artifacts", &artifact.digest),
            ArtifactKind::Folder => self.place("folders", &artifact.digest),
        }
    }

    /// The digests of a folder artifact's files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn listing(&self, artifact: &Artifact) -> Result<Listing> {
        Listing::read(&self.place("artifacts", &artifact.digest))
    }

    fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        place(&self.root, kind, digest)
    }

    /// The same as [`LocalShelf::is_intact`], but what has not changed since it was read is not read again.
    fn is_as_made(&self, artifact: &Artifact) -> Result<bool> {
        let path = self.path(artifact);
        Ok(match artifact.kind {
            ArtifactKind::File => self.read.file(&path)? == artifact.digest,
            ArtifactKind::Folder => {
                self.listing(artifact)?.digest() == artifact.digest
                    && self.read.folder(&path, &[String::new()])? == artifact.digest
            }
        })
    }

    /// Waits until an artifact is on the disk.
    fn sync(&self, artifact: &Artifact) -> Result<()> {
        let place = self.path(artifact);
        if artifact.kind == ArtifactKind::Folder {
            let listing = self.listing(artifact)?;
            let files: Vec<&String> = listing.files().map(|(file, _)| file).collect();
            files.par_iter().try_for_each(|file| sync(&place.join(file)))?;
            sync_parent(&place);
        }
        let file = self.place("artifacts", &artifact.digest);
        sync(&file)?;
        sync_parent(&file);
        Ok(())
    }

    /// The artifact has the content that its digest names.
    pub(super) fn is_intact(&self, artifact: &Artifact) -> bool {
        let is_listed = || self.listing(artifact).is_ok_and(|listing| listing.digest() == artifact.digest);
        Artifact::of(&self.path(artifact)).is_ok_and(|(found, _)| found.is_same(artifact))
            && (artifact.kind == ArtifactKind::File || is_listed())
    }

    /// A folder cannot be renamed over another: an intact one stays, a damaged one is moved out of the way.
    fn adopt_folder(&self, path: &Path, artifact: &Artifact, place: &Path) -> Result<()> {
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io("move into the store", to));
        if place.exists() && !self.holds(artifact) {
            // Beside the new folder, so that it goes with this run's scratch.
            let _ = fs::rename(place, path.with_extension("damaged"));
        }
        // Another run may put the same folder there at any moment.
        if self.holds(artifact) {
            Ok(())
        } else {
            rename(path, place).or_else(|error| if self.holds(artifact) { Ok(()) } else { Err(error) })
        }
    }

    /// The artifact is there with the right size; a folder, with all its files in their sizes and its empty folders.
    fn holds(&self, artifact: &Artifact) -> bool {
        let path = self.path(artifact);
        let is_whole =
            |path: &Path, size: u64| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == size);
        match artifact.kind {
            ArtifactKind::File => is_whole(&path, artifact.size),
            ArtifactKind::Folder => self.listing(artifact).is_ok_and(|listing| {
                listing.files().par_bridge().all(|(name, file)| is_whole(&path.join(name), file.size))
                    && listing.empty_folders().all(|name| path.join(name).is_dir())
            }),
        }
    }
}

/// Makes an output's files the store's own and read-only, so that no program changes an artifact by accident: a file that
/// has other names (hard links) is copied; one that can be executed stays so in a folder. A file alone does not: its digest
/// is that of its bytes, and the same bytes may be another output that nobody is to execute.
fn take_over(output: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(output).map_err(Error::io("find the output", output))?;
    if metadata.is_file() {
        return take_over_file(output, &metadata, 0o444);
    }
    let entries = walkdir::WalkDir::new(output).into_iter().collect::<Result<Vec<_>, _>>();
    let entries = entries.map_err(|error| Error::io("find the output", output)(error.into()))?;
    for path in entries.iter().filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::path) {
        let metadata = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
        take_over_file(path, &metadata, if is_executable(metadata.mode()) { 0o555 } else { 0o444 })?;
    }
    Ok(())
}

fn take_over_file(path: &Path, metadata: &fs::Metadata, mode: u32) -> Result<()> {
    if metadata.nlink() > 1 {
        let copy = temporary_file(path.parent().unwrap_or(path))?;
        fs::copy(path, copy.path()).map_err(Error::io("copy", path))?;
        copy.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("protect", path))
}
