//! Prepared pixels: files that any run may read in place of decoding pictures again. Each has the name that its content gives it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Store;
use crate::error::{Error, Result};
use crate::files::create_parent;

/// What the names of files of prepared pixels end with, behind a dot.
pub(super) const PIXELS: &str = "pixels";

impl Store {
    /// Where prepared pixels are.
    pub fn pixels(&self) -> PathBuf {
        self.root.join("pixels")
    }

    /// The names of the files of prepared pixels that have been read or written since a time, with their paths.
    pub fn pixels_since(&self, time: SystemTime) -> BTreeMap<String, PathBuf> {
        let entries = fs::read_dir(self.pixels()).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
        let is_wanted = |path: &PathBuf| {
            let is_newer = || fs::metadata(path).and_then(|file| file.modified()).is_ok_and(|read| read >= time);
            path.extension().is_some_and(|extension| extension == PIXELS) && is_newer()
        };
        named.filter(|(_, path)| is_wanted(path)).collect()
    }

    /// Takes a file of prepared pixels that came from elsewhere, and lies in this process's scratch, if it is whole and `name`
    /// is the one that its content gives it; whether it is.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn adopt_pixels(&self, path: &Path, name: &str) -> Result<bool> {
        let is_own = |hash: blake3::Hash| format!("{}.{PIXELS}", hash.to_hex()) == name;
        if !seal(path)?.is_some_and(is_own) {
            return Ok(false);
        }
        let place = self.pixels().join(name);
        create_parent(&place)?;
        fs::rename(path, &place).map_err(Error::io("move into the store", &place))?;
        Ok(true)
    }
}

/// The hash at the end of a file of prepared pixels, if it is that of all before.
pub(super) fn seal(path: &Path) -> Result<Option<blake3::Hash>> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len().saturating_sub(blake3::OUT_LEN as u64);
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file.by_ref().take(length))?;
        let mut seal = Vec::new();
        file.read_to_end(&mut seal)?;
        let hash = hasher.finalize();
        Ok((hash.as_bytes() == seal.as_slice()).then_some(hash))
    };
    read().map_err(Error::io("read", path))
}
