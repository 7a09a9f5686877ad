//! The files below a folder, each with what identifies its content without reading it, and the folders without any.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, open, statat};

use crate::error::{Error, Result};
use crate::files::is_executable;

/// What lies below a folder.
#[derive(Debug, Default)]
pub struct Tree {
    /// In the order of the names.
    pub files: Vec<Found>,
    /// Folders with neither files nor folders in them, by their paths below the folder; in order.
    pub empty_folders: Vec<String>,
}

/// A file below a folder.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path below the folder, with `/`.
    pub name: String,
    /// What identifies its content.
    pub stat: Stat,
    /// Its owner may execute it.
    pub executable: bool,
}

/// What identifies a content without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// The file's number.
    pub inode: u64,
    /// When its content changed: seconds and nanoseconds. Programs may set it.
    pub modified: (i64, i64),
    /// When its content, name or rights changed; nobody can set it.
    pub changed: (i64, i64),
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Stat {
        Stat {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl From<&rustix::fs::Stat> for Stat {
    fn from(stat: &rustix::fs::Stat) -> Stat {
        Stat {
            size: stat.st_size.cast_unsigned(),
            inode: stat.st_ino,
            modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            changed: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }
}

impl fmt::Display for Stat {
    /// Six numbers with spaces between.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.numbers();
        write!(formatter, "{a} {b} {c} {d} {e} {f}")
    }
}

impl Stat {
    /// Of the file at `path`, links followed.
    pub fn of(path: &Path) -> Result<Stat> {
        Ok(Stat::from(&fs::metadata(path).map_err(Error::io("read", path))?))
    }

    /// The numbers in one order.
    pub fn numbers(&self) -> [i64; 6] {
        let Stat { size, inode, modified, changed } = *self;
        [size.cast_signed(), inode.cast_signed(), modified.0, modified.1, changed.0, changed.1]
    }

    /// Reads the six words that its text has.
    pub fn read<'t>(words: &mut impl Iterator<Item = &'t str>) -> Option<Stat> {
        let mut numbers = [0_i64; 6];
        for number in &mut numbers {
            *number = words.next()?.parse().ok()?;
        }
        let [size, inode, modified, modified_nanoseconds, changed, changed_nanoseconds] = numbers;
        Some(Stat {
            size: size.cast_unsigned(),
            inode: inode.cast_unsigned(),
            modified: (modified, modified_nanoseconds),
            changed: (changed, changed_nanoseconds),
        })
    }

    /// Whether a change after `time` must show in the times: a file changed just before it might be changed again within
    /// the resolution of the clock.
    pub fn is_settled_at(&self, time: SystemTime) -> bool {
        const SETTLED: Duration = Duration::from_secs(2);
        let (seconds, nanoseconds) = self.changed;
        SystemTime::UNIX_EPOCH + Duration::new(seconds.max(0) as u64, nanoseconds as u32) + SETTLED < time
    }
}

/// Every file and every empty folder at or below `folder/part` for each of `within`, links followed.
///
/// # Errors
/// Something there cannot be read, a link leads in a circle, or a name is not UTF-8 or holds a line break.
pub fn walk(folder: &Path, within: &[impl AsRef<Path>]) -> Result<Tree> {
    let mut tree = Tree::default();
    for part in within {
        let part: PathBuf = part.as_ref().components().filter(|part| *part != Component::CurDir).collect();
        let path = folder.join(&part);
        let name = plain(part.as_os_str().as_encoded_bytes(), || path.clone())?.to_owned();
        let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
        if metadata.is_dir() {
            tree.append(visit_folder(&path, &name)?);
        } else if metadata.is_file() {
            tree.files.push(Found::new(name, &metadata));
        }
    }
    tree.files.par_sort_unstable_by(|one, other| one.name.cmp(&other.name));
    tree.files.dedup_by(|one, other| one.name == other.name);
    tree.empty_folders.sort_unstable();
    tree.empty_folders.dedup();
    Ok(tree)
}

impl Tree {
    fn append(&mut self, mut other: Tree) {
        self.files.append(&mut other.files);
        self.empty_folders.append(&mut other.empty_folders);
    }
}

impl Found {
    fn new(name: String, metadata: &Metadata) -> Found {
        Found { name, stat: Stat::from(metadata), executable: is_executable(metadata.mode()) }
    }
}

/// What an entry of a folder is.
enum Entry {
    File(Found),
    Folder(String),
    Other,
}

/// What lies below the folder at `path`, which is called `name`.
fn visit_folder(path: &Path, name: &str) -> Result<Tree> {
    let unreadable = |error: rustix::io::Errno| Error::io("read", path)(error.into());
    let folder = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(unreadable)?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(unreadable)?;
        let own = plain(entry.file_name().to_bytes(), || path.join(entry.file_name().to_string_lossy().as_ref()))?;
        if own != "." && own != ".." {
            names.push(if name.is_empty() { own.to_owned() } else { [name, "/", own].concat() });
        }
    }
    // Asking for the times takes longest, so the processors share it; relative to the folder it takes less.
    let own = if name.is_empty() { 0 } else { name.len() + 1 };
    let look = |name: String| {
        let place = || path.join(&name[own..]);
        let stat = statat(&folder, &name[own..], AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| Error::io("read", place())(error.into()))?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Entry::File(Found { name, stat: Stat::from(&stat), executable: is_executable(stat.st_mode) })
            }
            FileType::Directory => Entry::Folder(name),
            FileType::Symlink => follow(&place(), name)?,
            _ => Entry::Other,
        })
    };
    let entries: Vec<Entry> = names.into_par_iter().with_min_len(64).map(look).collect::<Result<_>>()?;
    drop(folder);
    let (mut tree, mut folders) = (Tree::default(), Vec::new());
    for entry in entries {
        match entry {
            Entry::File(file) => tree.files.push(file),
            Entry::Folder(name) => folders.push(name),
            Entry::Other => {}
        }
    }
    if tree.files.is_empty() && folders.is_empty() && !name.is_empty() {
        tree.empty_folders.push(name.to_owned());
    }
    let below = folders.into_par_iter().map(|name| visit_folder(&path.join(&name[own..]), &name));
    below.collect::<Result<Vec<_>>>()?.into_iter().for_each(|below| tree.append(below));
    Ok(tree)
}

/// What a link leads to.
fn follow(link: &Path, name: String) -> Result<Entry> {
    let target = fs::metadata(link).map_err(Error::io("read", link))?;
    if target.is_dir() {
        refuse_circle(link, &target)?;
        Ok(Entry::Folder(name))
    } else if target.is_file() {
        Ok(Entry::File(Found::new(name, &target)))
    } else {
        Ok(Entry::Other)
    }
}

/// A link that leads to a folder above it has no end.
fn refuse_circle(link: &Path, target: &Metadata) -> Result<()> {
    let is_target = |folder: &&Path| {
        fs::metadata(folder).is_ok_and(|above| (above.dev(), above.ino()) == (target.dev(), target.ino()))
    };
    match link.ancestors().skip(1).find(is_target) {
        None => Ok(()),
        Some(ancestor) => Err(Error::hinted(
            format!("the link `{}` leads back to `{}`", link.display(), ancestor.display()),
            "remove the link: a folder cannot contain itself",
        )),
    }
}

/// Names are kept in lines of text.
fn plain(name: &[u8], path: impl Fn() -> PathBuf) -> Result<&str> {
    std::str::from_utf8(name).ok().filter(|name| !name.contains('\n')).ok_or_else(|| {
        Error::hinted(format!("the file name `{}` is not plain UTF-8", path().display()), "rename the file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_circles_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("elsewhere/deep")).unwrap();
        fs::create_dir(at("images")).unwrap();
        for name in ["elsewhere/a", "elsewhere/deep/b", "images/c"] {
            fs::write(at(name), name).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
        link("elsewhere", "images/folder");
        link("elsewhere/a", "images/file");
        let names = |within: &str| {
            let tree = walk(folder.path(), &[within])?;
            Ok::<_, Error>(tree.files.into_iter().map(|file| file.name).collect::<Vec<String>>())
        };
        let expected = ["images/c", "images/file", "images/folder/a", "images/folder/deep/b"];
        assert_eq!(names("images").unwrap(), expected);
        link("images", "linked");
        assert_eq!(names("linked").unwrap(), expected.map(|name| name.replacen("images", "linked", 1)));
        link("images", "elsewhere/deep/back");
        let message = names("images").unwrap_err().to_string();
        assert!(message.contains("leads back to"), "{message}");
        fs::remove_file(at("elsewhere/deep/back")).unwrap();
        link("nowhere", "images/broken");
        assert!(names("images").unwrap_err().to_string().contains("images/broken"));
    }

    #[test]
    fn the_whole_folder_has_names_without_a_prefix() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/b"), "2").unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        let tree = walk(folder.path(), &["", "deep"]).unwrap();
        assert_eq!(tree.files.into_iter().map(|file| file.name).collect::<Vec<_>>(), ["a", "deep/b"]);
    }

    #[test]
    fn executable_files_and_empty_folders_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(walk(folder.path(), &[""]).unwrap().empty_folders.is_empty(), "the folder itself is no entry");
        fs::create_dir_all(at("empty/inner")).unwrap();
        fs::create_dir(at("full")).unwrap();
        for (name, mode) in [("full/text", 0o644), ("full/tool", 0o755), ("full/others", 0o611)] {
            fs::write(at(name), name).unwrap();
            fs::set_permissions(at(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink(at("full/tool"), at("link")).unwrap();
        let tree = walk(folder.path(), &["", "empty"]).unwrap();
        let executable = tree.files.iter().filter(|file| file.executable).map(|file| file.name.as_str());
        assert_eq!(executable.collect::<Vec<_>>(), ["full/tool", "link"]);
        assert_eq!(tree.empty_folders, ["empty/inner"]);
    }
}
