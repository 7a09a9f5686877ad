//! Files that are whole or not there, their formats, what they may be taken for, and rights that one process at a time has.

mod claim;
mod foreign;
mod formats;
mod link;
mod output;
mod owner;

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Access;
use tempfile::NamedTempFile;

pub use claim::{Claim, Claimed, Holder, Seats};
pub use foreign::{START, disguise, disguise_of, foreign, foreign_format, read_foreign_text};
pub use formats::{csv, read_csv, read_json, write_json};
pub use link::Links;
pub use output::{behind_links, write_output};
pub use owner::Heartbeat;

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
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(Error::io("write in", folder))
}

/// Reads a text that mostly fits into one block, with as few calls as there can be; none where it is absent or not UTF-8.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_small(path: &Path) -> Result<Option<String>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut block = [0; 8 << 10];
        let length = uninterrupted(|| file.read(&mut block))?;
        let mut bytes = block[..length].to_vec();
        if length == block.len() {
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// The longest name of a file that file systems take, in bytes.
const LONGEST: usize = 255;

/// What is wrong with a name that is to be a part of paths, if anything is; `suffix` is the longest that is put behind it.
pub fn bad_part_of_path(name: &str, suffix: &str) -> Option<String> {
    let longest = LONGEST - suffix.len();
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        Some("it cannot be empty, start with `.` or hold `/`".to_owned())
    } else if name.len() > longest {
        Some(format!("it cannot be longer than {longest} bytes, and this has {}", name.len()))
    } else {
        None
    }
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
    create_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a folder, with those above it.
pub fn create_folder(folder: &Path) -> Result<()> {
    // It mostly is there, and to ask takes less than to try.
    if folder.is_dir() { Ok(()) } else { fs::create_dir_all(folder).map_err(Error::io("create", folder)) }
}

/// Brings a file to the disk.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Removes a file or a folder, if it is there.
pub fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_folder(path),
        Ok(_) => or_gone(fs::remove_file(path)),
        Err(error) => or_gone(Err(error)),
    }
}

/// Removes a folder with all in it, if it is there, also one that programs have made read-only.
pub fn remove_folder(path: &Path) -> std::io::Result<()> {
    or_gone(fs::remove_dir_all(path).or_else(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            open_folders(path)?;
            fs::remove_dir_all(path)
        }
        _ => Err(error),
    }))
}

/// Lets the owner list and change a folder and all folders below it; links are not followed. Programs leave read-only
/// folders, such as Go's module cache, and nothing in one can be moved or removed.
pub fn open_folders(path: &Path) -> std::io::Result<()> {
    const OWNER: u32 = 0o700;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(());
    }
    if metadata.mode() & OWNER != OWNER {
        fs::set_permissions(path, Permissions::from_mode(metadata.mode() & 0o7777 | OWNER))?;
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a folder is as if it had just been made: empty, and [`is_like`] another.
pub fn is_new_folder(path: &Path, other: &Path) -> bool {
    is_like(path, other) && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether both are of one type and have the same rights.
pub fn is_like(path: &Path, other: &Path) -> bool {
    let mode = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.mode());
    matches!((mode(path), mode(other)), (Ok(one), Ok(two)) if one == two)
}

/// That it is gone is no error.
fn or_gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Does what a signal may interrupt, until none does.
pub fn uninterrupted<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}

/// The folder, or else the nearest one above it that is there, may be written.
pub fn may_be_written(folder: &Path) -> std::io::Result<()> {
    let there = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    Ok(rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Makes a rename durable; file systems that cannot sync a folder do without.
pub fn sync_parent(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}
