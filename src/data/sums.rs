//! `SHA256SUMS` in the data root: the digests that files had when they were first read, where nobody has published one. Its
//! lines are those of `sha256sum`, which can check them.
//!
//! A line `<digest> *<name>` holds the file to that digest. Lines with two spaces hold nobody to anything: earlier versions
//! wrote them before anything had been read, so that some are of error pages that servers sent in place of a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::download::{Checksum, sha256};
use crate::error::{Error, Result};
use crate::files::{Claim, write_atomically};

/// The digests by path below the data root.
#[derive(Debug)]
pub struct Sums {
    root: PathBuf,
    digests: BTreeMap<String, Known>,
}

/// What a line says of a file.
#[derive(Clone, Debug)]
struct Known {
    digest: String,
    /// The file with this digest has been read.
    is_read: bool,
}

impl Sums {
    /// Reads what is known of the files below a data root.
    ///
    /// # Errors
    /// When the file is there and is damaged.
    pub fn read(root: &Path) -> Result<Sums> {
        let path = file(root);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(Error::io("read", &path))?,
        };
        let line = |line: &str| {
            let (digest, name) = line.split_once(' ')?;
            let is_read = name.starts_with('*');
            let name = name.strip_prefix(['*', ' ']).filter(|_| digest.len() == 64)?;
            Some((name.to_owned(), Known { digest: digest.to_owned(), is_read }))
        };
        let digests = text
            .lines()
            .map(|text| line(text).ok_or_else(|| Error::format(&path, "list of checksums", format!("line `{text}`"))));
        Ok(Sums { root: root.to_owned(), digests: digests.collect::<Result<_>>()? })
    }

    /// The digest that a file had when it was first read.
    pub fn get(&self, name: &str) -> Option<Checksum> {
        let known = self.digests.get(name).filter(|known| known.is_read)?;
        Some(Checksum::Sha256(known.digest.clone()))
    }

    /// Keeps the digest that a file has now, which has been read and is what it should be. One that is known stays, also one
    /// that another process has kept since.
    ///
    /// # Errors
    /// When the file cannot be read, or the list cannot be written.
    pub fn keep(&mut self, name: &str) -> Result<()> {
        if self.get(name).is_some() {
            return Ok(());
        }
        let digest = sha256(&self.root.join(name))?;
        // What is written is what is there with one line more, so nobody else may write between the reading and the writing.
        let _claim = Claim::wait(&self.root.join("SHA256SUMS.claim"))?;
        self.digests = Sums::read(&self.root)?.digests;
        if self.get(name).is_none() {
            self.digests.insert(name.to_owned(), Known { digest, is_read: true });
        }
        let line = |(name, Known { digest, is_read }): (&String, &Known)| {
            format!("{digest} {}{name}\n", if *is_read { '*' } else { ' ' })
        };
        let text: String = self.digests.iter().map(line).collect();
        write_atomically(&file(&self.root), text.as_bytes())
    }
}

fn file(root: &Path) -> PathBuf {
    root.join("SHA256SUMS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_kept_stays() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..8).map(|number| format!("file {number}")).collect();
        names.iter().for_each(|name| fs::write(root.path().join(name), name).unwrap());
        // All read the list before anybody writes it, as processes that start together do.
        let sums: Vec<Sums> = names.iter().map(|_| Sums::read(root.path()).unwrap()).collect();
        std::thread::scope(|scope| {
            for (mut sums, name) in sums.into_iter().zip(&names) {
                scope.spawn(move || sums.keep(name).unwrap());
            }
        });
        let sums = Sums::read(root.path()).unwrap();
        assert!(names.iter().all(|name| sums.get(name).is_some()), "{sums:?}");
        assert!(!root.path().join("SHA256SUMS.claim").exists());
        // The digest that came first is the one that counts, whoever has kept it.
        let (mut one, mut other) = (Sums::read(root.path()).unwrap(), Sums::read(root.path()).unwrap());
        fs::write(root.path().join("a"), "first").unwrap();
        one.keep("a").unwrap();
        fs::write(root.path().join("a"), "second").unwrap();
        other.keep("a").unwrap();
        assert_eq!(other.get("a"), one.get("a"));
    }

    /// Whether a digest is that of an error page, nobody can tell any more, so that the file counts.
    #[test]
    fn lines_of_earlier_versions_hold_nobody_to_anything() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "abc").unwrap();
        let (page, other) = ("0".repeat(64), "1".repeat(64));
        fs::write(root.path().join("SHA256SUMS"), format!("{page}  a\n{other}  b  c\n")).unwrap();
        let mut sums = Sums::read(root.path()).unwrap();
        assert_eq!((sums.get("a"), sums.get("b  c")), (None, None));
        sums.keep("a").unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sums::read(root.path()).unwrap().get("a"), Some(Checksum::Sha256(digest.to_owned())));
        let text = fs::read_to_string(root.path().join("SHA256SUMS")).unwrap();
        assert_eq!(text, format!("{digest} *a\n{other}  b  c\n"));
    }

    #[test]
    fn the_first_digest_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a b"), "abc").unwrap();
        let mut sums = Sums::read(root.path()).unwrap();
        assert_eq!(sums.get("a b"), None);
        sums.keep("a b").unwrap();
        fs::write(root.path().join("a b"), "changed").unwrap();
        let mut sums = Sums::read(root.path()).unwrap();
        sums.keep("a b").unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sums.get("a b"), Some(Checksum::Sha256(digest.to_owned())));
        assert_eq!(fs::read_to_string(root.path().join("SHA256SUMS")).unwrap(), format!("{digest} *a b\n"));
        fs::write(root.path().join("SHA256SUMS"), "nonsense\n").unwrap();
        assert!(Sums::read(root.path()).unwrap_err().to_string().contains("line `nonsense`"));
    }
}
