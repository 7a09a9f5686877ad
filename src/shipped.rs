//! What ships inside the program: pipelines with their methods, manifests of data sets, and the numbers that papers print.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use crate::error::{Error, Result};
use crate::files::{create_folder, create_parent, temporary_file};

/// The folders, by their paths in a project.
static FOLDERS: [(&str, Dir<'_>); 3] = [
    ("data-manifests", include_dir!("$CARGO_MANIFEST_DIR/data-manifests")),
    ("pipelines", include_dir!("$CARGO_MANIFEST_DIR/pipelines")),
    ("results/published", include_dir!("$CARGO_MANIFEST_DIR/results/published")),
];

/// What became of the files that ship, in a folder.
#[derive(Debug, Default)]
pub struct Written {
    /// How many were written.
    pub new: usize,
    /// How many were there already, with the same content.
    pub same: usize,
    /// Those that were there with another content, by their paths in the folder.
    pub kept: Vec<PathBuf>,
}

/// Writes to `folder` what ships, and makes it a project. What is there already stays as it is.
///
/// # Errors
/// A file is there and cannot be read, or cannot be written.
pub fn write(folder: &Path) -> Result<Written> {
    let mut written = Written::default();
    for (path, content) in files() {
        let target = folder.join(&path);
        match fs::read(&target) {
            Ok(there) if there == content => written.same += 1,
            Ok(_) => written.kept.push(path),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_new(&target, content)?;
                written.new += 1;
            }
            Err(error) => return Err(Error::io("read", &target)(error)),
        }
    }
    // A run keeps its results in the nearest folder that has one.
    create_folder(&folder.join(".maple"))?;
    Ok(written)
}

/// The folders that [`write()`] fills.
pub fn folders() -> impl Iterator<Item = &'static str> {
    FOLDERS.iter().map(|(path, _)| *path)
}

/// Every file, with its path in a project.
fn files() -> Vec<(PathBuf, &'static [u8])> {
    fn gather(base: &Path, folder: &Dir<'static>, files: &mut Vec<(PathBuf, &'static [u8])>) {
        for entry in folder.entries() {
            match entry {
                DirEntry::Dir(folder) => gather(base, folder, files),
                DirEntry::File(file) => files.push((base.join(file.path()), file.contents())),
            }
        }
    }
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|(path, folder)| gather(Path::new(path), folder, &mut files));
    files
}

/// Writes a whole file or none, where none is.
fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    create_parent(path)?;
    let mut file = temporary_file(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content).map_err(Error::io("write", path))?;
    file.persist_noclobber(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}
