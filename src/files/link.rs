//! Symbolic links that are handed on from node to node: some file systems move one much faster than they make and remove it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The name of the folder of spare links.
const SPARE: &str = "links";

/// Spare links.
#[derive(Debug)]
pub struct Links(PathBuf);

impl Links {
    /// Those beside the folders of nodes, of which `folder` is one.
    pub fn beside(folder: &Path) -> Links {
        Links(folder.with_file_name(SPARE))
    }

    /// Lets `path`, where nothing is, lead to `target`.
    ///
    /// # Errors
    /// The folder of `path` cannot be written.
    pub fn lead(&self, path: &Path, target: &Path) -> std::io::Result<()> {
        fs::rename(self.spare(target), path).or_else(|_| symlink(target, path))
    }

    /// Takes what `path` is, for the next one that is to lead where it leads.
    ///
    /// # Errors
    /// It is no link, or cannot be moved.
    pub fn take(&self, path: &Path) -> std::io::Result<()> {
        let spare = self.spare(&fs::read_link(path)?);
        fs::rename(path, &spare).or_else(|_| {
            fs::create_dir(&self.0)?;
            fs::rename(path, &spare)
        })
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Its name says where it leads.
    fn spare(&self, target: &Path) -> PathBuf {
        self.0.join(Digest::of(target.as_os_str().as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_where_it_is_said_to_whoever_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let links = Links::beside(&at("0"));
        for name in ["0", "1"] {
            fs::create_dir(at(name)).unwrap();
        }
        let leads = |path: &Path| fs::read_link(path).unwrap();
        links.lead(&at("0/model"), &at("a")).unwrap();
        links.lead(&at("1/model"), &at("b")).unwrap();
        let before = fs::symlink_metadata(at("0/model")).unwrap().modified().unwrap();
        // One that a program has turned elsewhere is known by where it leads.
        fs::remove_file(at("1/model")).unwrap();
        symlink(at("c"), at("1/model")).unwrap();
        for name in ["0/model", "1/model"] {
            links.take(&at(name)).unwrap();
            assert!(fs::symlink_metadata(at(name)).is_err());
        }
        assert_eq!(fs::read_dir(links.folder()).unwrap().count(), 2);
        links.lead(&at("1/b"), &at("b")).unwrap();
        links.lead(&at("1/a"), &at("a")).unwrap();
        assert_eq!([leads(&at("1/b")), leads(&at("1/a"))], [at("b"), at("a")]);
        assert_eq!(fs::symlink_metadata(at("1/a")).unwrap().modified().unwrap(), before, "it is the same link");
        fs::write(at("file"), "").unwrap();
        assert!(links.take(&at("file")).is_err() && at("file").exists());
    }
}
