//! A folder's files with their digests, and its empty folders; the digest of this text is the folder's digest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;

use super::walk::{Tree, walk};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// What lies below a folder: files by their paths with `/`, in byte order, and folders in which nothing lies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    files: BTreeMap<String, Listed>,
    empty_folders: BTreeSet<String>,
}

/// What a listing says of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Its owner may execute it.
    pub executable: bool,
}

/// What stands behind the size of an executable file.
const EXECUTABLE: &str = "x";

impl Listing {
    /// From files that were hashed already.
    pub fn new(
        files: impl IntoIterator<Item = (String, Listed)>,
        empty_folders: impl IntoIterator<Item = String>,
    ) -> Listing {
        Listing { files: files.into_iter().collect(), empty_folders: empty_folders.into_iter().collect() }
    }

    /// Hashes every file of a folder.
    pub fn of_folder(folder: &Path) -> Result<Listing> {
        let Tree { files, empty_folders } = walk(folder, &[""])?;
        let files: Vec<(String, Listed)> = files
            .into_par_iter()
            .map(|file| {
                let digest = Digest::of_file(&folder.join(&file.name))?;
                Ok((file.name, Listed { digest, size: file.stat.size, executable: file.executable }))
            })
            .collect::<Result<_>>()?;
        Ok(Listing::new(files, empty_folders))
    }

    /// Reads the text that [`Listing::text`] wrote.
    pub fn read(path: &Path) -> Result<Listing> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Listing::parse(&text).map_err(|line| Error::format(path, "folder listing", format!("line `{line}`")))
    }

    /// The same, of a text in memory.
    ///
    /// # Errors
    /// The first line that is none of a listing.
    pub fn parse(text: &str) -> Result<Listing, &str> {
        let mut listing = Listing::default();
        text.split_terminator('\n').try_for_each(|line| listing.add(line).ok_or(line))?;
        Ok(listing)
    }

    /// Whether every path in it stays below the folder that it is a listing of.
    pub fn stays_inside(&self) -> bool {
        let is_plain = |name: &String| {
            !name.is_empty() && !name.contains('\0') && name.split('/').all(|part| !["", ".", ".."].contains(&part))
        };
        self.files.keys().chain(&self.empty_folders).all(is_plain)
    }

    /// Adds what a line says, if it says something.
    fn add(&mut self, line: &str) -> Option<()> {
        let mut words = line.splitn(3, ' ');
        let (digest, size, name) = (Digest::parse(words.next()?)?, words.next()?, words.next()?);
        match name.strip_suffix('/') {
            Some(folder) => drop(self.empty_folders.insert(folder.to_owned())),
            None => {
                let (size, executable) = size.strip_suffix(EXECUTABLE).map_or((size, false), |size| (size, true));
                let listed = Listed { digest, size: size.parse().ok()?, executable };
                self.files.insert(name.to_owned(), listed);
            }
        }
        Some(())
    }

    /// `<digest> <size> <path>` a line, with `x` behind the size of an executable file; then the empty folders, as empty
    /// files whose paths end with `/`.
    pub fn text(&self) -> String {
        let files = self.files.iter().map(|(name, Listed { digest, size, executable })| {
            format!("{digest} {size}{} {name}\n", if *executable { EXECUTABLE } else { "" })
        });
        let empty = Digest::of(b"");
        files.chain(self.empty_folders.iter().map(|name| format!("{empty} 0 {name}/\n"))).collect()
    }

    /// The digest of the text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// Bytes in all files.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// The files in order.
    pub fn files(&self) -> impl Iterator<Item = (&String, &Listed)> {
        self.files.iter()
    }

    /// The folders in which nothing lies, in order.
    pub fn empty_folders(&self) -> impl Iterator<Item = &String> {
        self.empty_folders.iter()
    }

    /// The digest of one file.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.files.get(name).map(|file| &file.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str, executable: bool) -> (String, Listed) {
        let (digest, size) = (Digest::of(content.as_bytes()), content.len() as u64);
        (name.to_owned(), Listed { digest, size, executable })
    }

    #[test]
    fn text_round_trips_and_order_does_not_matter() {
        let (a, b) = (file("a b.png", "1", false), file("c/d", "2", true));
        let listing = Listing::new([a.clone(), b.clone()], ["x y/z".to_owned()]);
        assert_eq!(listing.digest(), Listing::new([b, a], ["x y/z".to_owned()]).digest());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listing");
        std::fs::write(&path, listing.text()).unwrap();
        assert_eq!(Listing::read(&path).unwrap(), listing);
    }

    /// A listing may come from another machine.
    #[test]
    fn a_path_that_leads_elsewhere_is_known() {
        let stays_inside = |name: &str| Listing::new([file(name, "1", false)], []).stays_inside();
        for name in ["a", "a b/.c", "..a/b..", "a/...", "\u{202e}"] {
            assert!(stays_inside(name), "{name}");
            assert!(Listing::new([], [name.to_owned()]).stays_inside(), "{name}");
        }
        for name in ["", "/etc/passwd", "../a", "a/../../b", "a/..", ".", "a//b", "a/", "a\0b"] {
            assert!(!stays_inside(name), "{name}");
            assert!(!Listing::new([], [name.to_owned()]).stays_inside(), "{name}");
        }
    }

    /// Keys hold these digests: what was hashed before modes were told must keep its digest.
    #[test]
    fn plain_files_have_the_digest_that_they_always_had() {
        let listing = Listing::new([file("a b.png", "1", false), file("c/d", "2", false)], []);
        let text = format!("{} 1 a b.png\n{} 1 c/d\n", Digest::of(b"1"), Digest::of(b"2"));
        assert_eq!((listing.text(), listing.digest()), (text.clone(), Digest::of(text.as_bytes())));
        assert_eq!(Listing::default().digest(), Digest::of(b""));
    }

    #[test]
    fn another_name_mode_or_empty_folder_is_another_folder() {
        let listings = [
            Listing::new([file("a", "1", false)], []),
            Listing::new([file("b", "1", false)], []),
            Listing::new([file("a", "1", true)], []),
            Listing::new([file("a", "1", false)], ["b".to_owned()]),
            Listing::new([file("a", "1", false)], ["c".to_owned()]),
            Listing::new([file("a", "1", false), file("b", "", false)], []),
        ];
        let digests: std::collections::HashSet<String> = listings.iter().map(|one| one.digest().to_string()).collect();
        assert_eq!(digests.len(), listings.len());
    }
}
