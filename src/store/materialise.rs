//! Artifacts as files of the user's: copies that share their bytes with the store where the file system can, and that
//! may be changed without changing the store.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Artifact, ArtifactKind, Scratch, Store};
use crate::error::{Error, Result};
use crate::files::{TEMPORARY, behind_links, create_parent, sync_parent, temporary_file};

impl Store {
    /// Copies an artifact to `target`, in place of what is there, unless that is the same. Where `target` is a link, what it
    /// leads to is replaced.
    pub fn materialise(&self, artifact: &Artifact, target: &Path) -> Result<()> {
        let target = &behind_links(target)?;
        if Artifact::of(target).is_ok_and(|(present, _)| present == *artifact) {
            return Ok(());
        }
        create_parent(target)?;
        let source = self.artifact(artifact)?;
        match artifact.kind {
            ArtifactKind::File => self.materialise_file(&source, target)?,
            ArtifactKind::Folder => self.materialise_folder(artifact, &source, target)?,
        }
        sync_parent(target);
        Ok(())
    }

    fn materialise_file(&self, source: &Path, target: &Path) -> Result<()> {
        let folder = target.parent().unwrap_or(Path::new("."));
        // A rename cannot leave its file system, and the store may be read-only.
        let beside = if self.is_beside(folder)? { self.scratch().and_then(Scratch::file).ok() } else { None };
        let file = beside.map_or_else(|| temporary_file(folder), Ok)?;
        copy(source, file.as_file(), target)?;
        file.persist(target).map_err(|error| Error::io("write", target)(error.error))?;
        Ok(())
    }

    /// A folder cannot be renamed over another: the old one is moved out of the way just before.
    fn materialise_folder(&self, artifact: &Artifact, source: &Path, target: &Path) -> Result<()> {
        let folder = target.parent().unwrap_or(Path::new("."));
        let own = if self.is_beside(folder)? { self.scratch().and_then(Scratch::folder).ok() } else { None };
        let (scratch, _beside) = match own {
            Some(own) => (own, None),
            None => {
                let beside = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder);
                let beside = beside.map_err(Error::io("write in", folder))?;
                (beside.path().to_owned(), Some(beside))
            }
        };
        let (new, old) = (scratch.join("new"), scratch.join("old"));
        fs::create_dir(&new).map_err(Error::io("create", &new))?;
        let listing = self.listing(artifact)?;
        for folder in listing.empty_folders().map(|name| new.join(name)) {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        for (name, file) in listing.files() {
            let path: PathBuf = new.join(name);
            create_parent(&path)?;
            let mode = if file.executable { 0o777 } else { 0o666 };
            let file = File::options().write(true).create_new(true).mode(mode).open(&path);
            let file = file.map_err(Error::io("write", &path))?;
            copy(&source.join(name), &file, &path)?;
        }
        if target.exists() {
            fs::rename(target, &old).map_err(Error::io("replace", target))?;
        }
        fs::rename(&new, target).map_err(Error::io("write", target))?;
        let _ = fs::remove_dir_all(&scratch);
        Ok(())
    }

    /// The folder is on the store's file system.
    fn is_beside(&self, folder: &Path) -> Result<bool> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).map_err(Error::io("read", path));
        Ok(device(folder)? == device(&self.root)?)
    }
}

/// Copies by `copy_file_range`, which shares the bytes on file systems that can (Btrfs, XFS, bcachefs) and copies them
/// on the others. Never a hard link: that would be the store's own file.
fn copy(source: &Path, mut target: &File, path: &Path) -> Result<()> {
    let mut file = File::open(source).map_err(Error::io("read", source))?;
    std::io::copy(&mut file, &mut target).map_err(Error::io("write", path))?;
    target.sync_all().map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::Record;

    fn store_with(folder: &Path, output: &Path) -> (Store, Artifact) {
        let store = Store::open(&folder.join("store")).unwrap();
        let record = Record::example(&serde_json::Value::Null);
        let outputs = BTreeMap::from([("output".to_owned(), output.to_owned())]);
        let artifact = store.commit(record, &outputs).unwrap().outputs["output"].clone();
        (store, artifact)
    }

    #[test]
    fn a_file_is_a_copy_that_may_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (output, target) = (folder.path().join("output"), folder.path().join("results/table.csv"));
        fs::write(&output, "1,2\n").unwrap();
        let (store, artifact) = store_with(folder.path(), &output);
        store.materialise(&artifact, &target).unwrap();
        let inode = || fs::metadata(&target).unwrap().ino();
        let first = inode();
        store.materialise(&artifact, &target).unwrap();
        assert_eq!(inode(), first, "what is the same is left alone");
        // Opened for writing in place, as editors do: a hard link would change the store.
        fs::write(&target, "mine").unwrap();
        assert_eq!(fs::read(store.artifact_path(&artifact)).unwrap(), b"1,2\n");
        store.materialise(&artifact, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"1,2\n");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (output, target) = (folder.path().join("output"), folder.path().join("results/model"));
        fs::create_dir_all(output.join("deep")).unwrap();
        fs::write(output.join("a"), "1").unwrap();
        fs::write(output.join("deep/b"), "2").unwrap();
        let (store, artifact) = store_with(folder.path(), &output);
        store.materialise(&artifact, &target).unwrap();
        let inode = || fs::metadata(&target).unwrap().ino();
        let first = inode();
        store.materialise(&artifact, &target).unwrap();
        assert_eq!(inode(), first, "what is the same is left alone");
        fs::write(target.join("deep/b"), "mine").unwrap();
        fs::write(target.join("more"), "mine").unwrap();
        assert_eq!(fs::read(store.artifact_path(&artifact).join("deep/b")).unwrap(), b"2");
        store.materialise(&artifact, &target).unwrap();
        assert_eq!(Artifact::of(&target).unwrap().0, artifact);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    }
}
