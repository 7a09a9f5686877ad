//! A folder's files with their digests; the digest of this text is the folder's digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use super::Digest;
use crate::error::{Error, Result};

/// The files below a folder: relative path with `/`, digest, size; in byte order of the paths.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    files: BTreeMap<String, (Digest, u64)>,
}

impl Listing {
    /// From files that were hashed already.
    pub fn new(files: impl IntoIterator<Item = (String, Digest, u64)>) -> Listing {
        Listing { files: files.into_iter().map(|(path, digest, size)| (path, (digest, size))).collect() }
    }

    /// Hashes every file of a folder.
    pub fn of_folder(folder: &Path) -> Result<Listing> {
        let files: Vec<(String, Digest, u64)> = walk(folder, Path::new(""))?
            .into_par_iter()
            .map(|(name, path)| {
                let size = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
                Ok((name, Digest::of_file(&path)?, size))
            })
            .collect::<Result<_>>()?;
        Ok(Listing::new(files))
    }

    /// Reads the text that [`Listing::text`] wrote.
    pub fn read(path: &Path) -> Result<Listing> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let damaged = |line: &str| Error::format(path, "folder listing", format!("line `{line}`"));
        let mut files = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(digest), Some(size), Some(name)) = (words.next(), words.next(), words.next()) else {
                return Err(damaged(line));
            };
            let digest = Digest::parse(digest).ok_or_else(|| damaged(line))?;
            files.insert(name.to_owned(), (digest, size.parse().map_err(|_| damaged(line))?));
        }
        Ok(Listing { files })
    }

    /// `<digest> <size> <path>` a line.
    pub fn text(&self) -> String {
        self.files.iter().map(|(name, (digest, size))| format!("{digest} {size} {name}\n")).collect()
    }

    /// The digest of the text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Bytes in all files.
    pub fn size(&self) -> u64 {
        self.files.values().map(|(_, size)| size).sum()
    }

    /// The files in order.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Digest)> {
        self.files.iter().map(|(name, (digest, _))| (name, digest))
    }

    /// The files with their sizes.
    pub fn sizes(&self) -> impl Iterator<Item = (&String, u64)> {
        self.files.iter().map(|(name, (_, size))| (name, *size))
    }

    /// The digest of one file.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.files.get(name).map(|(digest, _)| digest)
    }
}

/// Every file at or below `folder/within`, links followed: its path relative to `folder` with `/`, and its full path; in
/// no particular order.
///
/// # Errors
/// Something there cannot be read, a link leads in a circle, or a name is not UTF-8 or holds a line break.
pub fn walk(folder: &Path, within: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    // Following every entry costs a system call each, so only what is a link is followed.
    for entry in WalkDir::new(folder.join(within)).follow_root_links(false) {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_type().is_symlink() {
            add(&mut files, folder, &entry)?;
            continue;
        }
        for entry in WalkDir::new(entry.path()).follow_links(true) {
            add(&mut files, folder, &entry.map_err(unreadable)?)?;
        }
    }
    Ok(files)
}

fn add(files: &mut Vec<(String, PathBuf)>, folder: &Path, entry: &DirEntry) -> Result<()> {
    if !entry.file_type().is_file() {
        return Ok(());
    }
    let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
    match relative.to_str() {
        Some(name) if !name.contains('\n') => {
            files.push((name.to_owned(), entry.path().to_owned()));
            Ok(())
        }
        _ => Err(Error::hinted(
            format!("the file name `{}` is not plain UTF-8", entry.path().display()),
            "rename the file",
        )),
    }
}

fn unreadable(error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(Path::new("")).to_owned();
    match error.loop_ancestor() {
        Some(ancestor) => Error::hinted(
            format!("the link `{}` leads back to `{}`", path.display(), ancestor.display()),
            "remove the link: a folder cannot contain itself",
        ),
        None => Error::io("read", path)(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_order_does_not_matter() {
        let (a, b) = (("a b.png".to_owned(), Digest::of(b"1"), 1), ("c/d".to_owned(), Digest::of(b"2"), 2));
        let listing = Listing::new([a.clone(), b.clone()]);
        assert_eq!(listing.digest(), Listing::new([b, a]).digest());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listing");
        std::fs::write(&path, listing.text()).unwrap();
        assert_eq!(Listing::read(&path).unwrap(), listing);
    }

    #[test]
    fn links_are_followed_and_circles_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("elsewhere/deep")).unwrap();
        std::fs::create_dir(at("images")).unwrap();
        for name in ["elsewhere/a", "elsewhere/deep/b", "images/c"] {
            std::fs::write(at(name), name).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
        link("elsewhere", "images/folder");
        link("elsewhere/a", "images/file");
        let names = |within: &str| {
            let mut names: Vec<String> =
                walk(folder.path(), Path::new(within))?.into_iter().map(|(name, _)| name).collect();
            names.sort();
            Ok::<_, Error>(names)
        };
        let expected = ["images/c", "images/file", "images/folder/a", "images/folder/deep/b"];
        assert_eq!(names("images").unwrap(), expected);
        link("images", "linked");
        assert_eq!(names("linked").unwrap(), expected.map(|name| name.replacen("images", "linked", 1)));
        link("images", "elsewhere/deep/back");
        let message = names("images").unwrap_err().to_string();
        assert!(message.contains("leads back to"), "{message}");
        std::fs::remove_file(at("elsewhere/deep/back")).unwrap();
        link("nowhere", "images/broken");
        assert!(names("images").unwrap_err().to_string().contains("images/broken"));
    }

    #[test]
    fn a_renamed_file_is_another_folder() {
        let digest = Digest::of(b"1");
        assert_ne!(Listing::new([("a".into(), digest, 1)]).digest(), Listing::new([("b".into(), digest, 1)]).digest());
    }
}
