//! Files that are whole or not there, their formats, what they may be taken for, and rights that one process at a time has.

mod claim;
mod foreign;
mod formats;
mod output;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

pub use claim::{Claim, Claimed, Holder};
pub use foreign::{START, disguise, disguise_of, foreign, foreign_format, read_foreign_text};
pub use formats::{csv, read_csv, read_json, write_json};
pub use output::{behind_links, write_output};

use crate::error::{Error, Result};

/// Writes `bytes` to a temporary file beside `path`, syncs it, and renames it to `path`.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent(path)?;
    write_by_way_of(temporary_file(path.parent().unwrap_or(Path::new(".")))?, path, bytes, true)?;
    sync_parent(path);
    Ok(())
}

/// Writes `bytes` to `file`, syncs it if wanted, and renames it to `path`.
///
/// # Errors
/// Names `path`; nothing is there then that was not before.
pub fn write_by_way_of(mut file: NamedTempFile, path: &Path, bytes: &[u8], durably: bool) -> Result<()> {
    // The file itself: errors of the temporary one would name it, too.
    let file_itself = file.as_file_mut();
    let synced = |file: &mut File| if durably { file.sync_all() } else { Ok(()) };
    file_itself.write_all(bytes).and_then(|()| synced(file_itself)).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

/// What the names of files start with that are about to be renamed to their places.
pub const TEMPORARY: &str = ".new-";

/// A file for what is about to be renamed to its place.
pub fn temporary_file(folder: &Path) -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(Error::io("write in", folder))
}

/// Reads a text that mostly fits into one block, with as few calls as there can be.
pub fn read_small(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut block = [0; 8 << 10];
    let length = file.read(&mut block).ok()?;
    let mut bytes = block[..length].to_vec();
    if length == block.len() {
        file.read_to_end(&mut bytes).ok()?;
    }
    String::from_utf8(bytes).ok()
}

/// Whether the owner of a file with this mode may execute it.
pub fn is_executable(mode: u32) -> bool {
    mode & 0o100 != 0
}

/// Bytes that a user may still write in a folder that is there; nothing where the system does not tell.
pub fn room(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes the folder that a file is to lie in.
pub fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))
}

/// Brings a file to the disk.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Removes a file or a folder, if it is there.
pub fn remove(path: &Path) -> std::io::Result<()> {
    match if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename durable; file systems that cannot sync a folder do without.
pub fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}
