//! A folder's files with their digests; the digest of this text is the folder's digest.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::walk::{Found, walk};
use crate::digest::Digest;
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
        let files: Vec<(String, Digest, u64)> = walk(folder, &[""])?
            .into_par_iter()
            .map(|Found { name, stat }| {
                let digest = Digest::of_file(&folder.join(&name))?;
                Ok((name, digest, stat.size))
            })
            .collect::<Result<_>>()?;
        Ok(Listing::new(files))
    }

    /// Reads the text that [`Listing::text`] wrote.
    pub fn read(path: &Path) -> Result<Listing> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let damaged = |line: &str| Error::format(path, "folder listing", format!("line `{line}`"));
        let mut files = BTreeMap::new();
        for line in text.split_terminator('\n') {
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
    fn a_renamed_file_is_another_folder() {
        let digest = Digest::of(b"1");
        assert_ne!(Listing::new([("a".into(), digest, 1)]).digest(), Listing::new([("b".into(), digest, 1)]).digest());
    }
}
