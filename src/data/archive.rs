//! Unpacks `.zip`, `.tar` and `.tar.gz` files that nobody vouches for: what leaves the folder, what swells, and what is
//! cut off is refused, and then nothing of it stays.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar::EntryType;
use walkdir::WalkDir;
use zip::ZipArchive;

use super::item::stays_inside;
use crate::error::{Error, Result};
use crate::files::foreign_format;

/// How much larger than the archive its content may be, and what it may be in any case. Photographs hardly shrink.
const RATIO: u64 = 20;
const ALLOWANCE: u64 = 32 << 20;

/// Unpacks an archive, or the archive `inner` in it, and moves the files and folders that `parts` names to their places
/// below `folder`. What is there already is left alone, file by file.
///
/// # Errors
/// When the archive is damaged, dangerous, in use, or lacks a part; then nothing of it is left.
pub fn unpack(archive: &Path, inner: Option<&str>, parts: &BTreeMap<String, String>, folder: &Path) -> Result<()> {
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let message = format!("another process is unpacking `{}`", archive.display());
            return Err(Error::hinted(message, "wait until it is done"));
        }
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", archive)(error)),
    }
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch::new(folder.join(format!(".unpacking-{name}")))?;
    let mut content = scratch.0.join("content");
    extract(archive, &content)?;
    if let Some(inner) = inner {
        let outer = std::mem::replace(&mut content, scratch.0.join("inner"));
        extract_inner(&outer, inner, &content)?;
    }
    for part in parts.keys() {
        check_links(archive, &content, part)?;
    }
    for (part, place) in parts {
        let place = folder.join(place);
        if let Some(above) = place.parent() {
            fs::create_dir_all(above).map_err(Error::io("create", above))?;
        }
        fill(&content.join(part).components().collect::<PathBuf>(), &place)?;
    }
    Ok(())
}

/// Moves what `place` lacks of `from` there.
fn fill(from: &Path, place: &Path) -> Result<()> {
    if !place.exists() {
        return fs::rename(from, place).map_err(Error::io("write", place));
    }
    if from.is_dir() && !from.is_symlink() {
        for entry in fs::read_dir(from).map_err(Error::io("read", from))? {
            let entry = entry.map_err(Error::io("read", from))?;
            fill(&entry.path(), &place.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Unpacks the archive `inner` of `outer` into `target`; of `*.tar`, each archive of such a name into a folder of its own.
fn extract_inner(outer: &Path, inner: &str, target: &Path) -> Result<()> {
    let Some(suffix) = inner.strip_prefix('*') else { return extract(&outer.join(inner), target) };
    fs::create_dir_all(target).map_err(Error::io("create", target))?;
    for entry in fs::read_dir(outer).map_err(Error::io("read", outer))? {
        let entry = entry.map_err(Error::io("read", outer))?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(suffix)) {
            extract(&entry.path(), &target.join(name))?;
            // Its content takes as much room again.
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// A folder that goes when it is dropped. One that a killed process left is removed first.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Result<Scratch> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
            _ => {}
        }
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next attempt removes what this cannot.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn damaged(archive: &Path, message: impl ToString) -> Error {
    Error::format(archive, "archive", message)
}

fn leads_out(archive: &Path, link: impl Display) -> Error {
    damaged(archive, format!("its link `{link}` leads out of the folder"))
}

/// Whether a link's target climbs only at its start, and by at most `depth` folders. If every link of a folder climbs only at
/// its start and never above the folder, no path can leave the folder.
fn climbs_no_higher(target: &Path, depth: usize) -> bool {
    let mut parts = target.components().filter(|part| *part != Component::CurDir).peekable();
    let mut climbed = 0;
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        climbed += 1;
    }
    climbed <= depth && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Refuses a part that is not there, or is reached through a link, or has one that leads out of it or nowhere: the part
/// moves, so that what its links pass must move with it.
fn check_links(archive: &Path, content: &Path, part: &str) -> Result<()> {
    let path: PathBuf = content.join(part).components().collect();
    if !path.exists() {
        return Err(damaged(archive, format!("it has no `{part}`")));
    }
    let canonical = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
    let whole = canonical(&path)?;
    if whole != canonical(content)?.join(part).components().collect::<PathBuf>() {
        return Err(leads_out(archive, part));
    }
    for entry in WalkDir::new(&path) {
        let entry = entry.map_err(|error| Error::io("read", &path)(error.into()))?;
        if entry.path_is_symlink() {
            let target = fs::read_link(entry.path()).map_err(Error::io("read", entry.path()))?;
            let stays = climbs_no_higher(&target, entry.depth().saturating_sub(1));
            if !stays || !entry.path().canonicalize().is_ok_and(|target| target.starts_with(&whole)) {
                return Err(leads_out(archive, entry.path().strip_prefix(content).expect("it is below").display()));
            }
        }
    }
    Ok(())
}

/// Unpacks all of an archive into the new folder `target`.
fn extract(archive: &Path, target: &Path) -> Result<()> {
    let mut file = File::open(archive).map_err(Error::io("read", archive))?;
    let size = file.metadata().map_err(Error::io("read", archive))?.len();
    let mut start = [0; 512];
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..]).map_err(Error::io("read", archive))? {
            0 => break,
            count => length += count,
        }
    }
    file.rewind().map_err(Error::io("read", archive))?;
    let mut unpacking = Unpacking { archive, target, links: HashSet::new(), left: RATIO * size + ALLOWANCE };
    fs::create_dir_all(target).map_err(Error::io("create", target))?;
    let file = BufReader::with_capacity(1 << 16, file);
    match &start[..length] {
        [b'P', b'K', 3, 4, ..] => unpacking.zip(file),
        [0x1f, 0x8b, ..] => unpacking.tar(Unzipped(Some(GzDecoder::new(file)))),
        start if start.get(257..262) == Some(b"ustar") => unpacking.tar(file),
        start => Err(foreign_format(archive, "archive", start, "it is neither zip nor tar")),
    }
}

/// An archive on its way into a folder.
struct Unpacking<'a> {
    archive: &'a Path,
    target: &'a Path,
    /// The members that are links: nothing may go through one.
    links: HashSet<PathBuf>,
    /// Bytes that may still come.
    left: u64,
}

impl Unpacking<'_> {
    fn zip(&mut self, file: BufReader<File>) -> Result<()> {
        const FORMAT_BITS: u32 = 0o170_000;
        const LINK: u32 = 0o120_000;
        let mut zip = ZipArchive::new(file).map_err(|error| damaged(self.archive, error))?;
        for place in 0..zip.len() {
            let mut member = zip.by_index(place).map_err(|error| damaged(self.archive, error))?;
            let name = member.name().map_err(|error| damaged(self.archive, error))?.into_owned();
            let path = self.inside(&name)?;
            if member.is_dir() {
                self.folder(&path)?;
            } else if member.unix_mode().is_some_and(|mode| mode & FORMAT_BITS == LINK) {
                let mut to = String::new();
                (&mut member).take(4096).read_to_string(&mut to).map_err(|error| damaged(self.archive, error))?;
                self.link(&name, path, &to)?;
            } else {
                self.file(&path, &mut member)?;
            }
        }
        Ok(())
    }

    fn tar(&mut self, stream: impl Read) -> Result<()> {
        let archive = self.archive;
        let wrong = |error: io::Error| damaged(archive, error);
        let mut tail = Tail { stream, left: self.left, zeros: 0 };
        let mut tar = tar::Archive::new(&mut tail);
        for member in tar.entries().map_err(wrong)? {
            let mut member = member.map_err(wrong)?;
            let name = String::from_utf8(member.path_bytes().into_owned())
                .map_err(|_| damaged(archive, "a member's name is not plain UTF-8"))?;
            let path = self.inside(&name)?;
            let target = member.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
            match (member.header().entry_type(), target) {
                (EntryType::Regular | EntryType::Continuous, _) => self.file(&path, &mut member)?,
                (EntryType::Directory, _) => self.folder(&path)?,
                (EntryType::Symlink, Some(target)) => self.link(&name, path, &target)?,
                (EntryType::Link, Some(target)) => self.same_file(&name, &path, &target)?,
                (EntryType::XGlobalHeader, _) => {}
                _ => return Err(damaged(archive, format!("its member `{name}` is neither file, folder nor link"))),
            }
        }
        // What follows the last member is read, too: it has the checksum of what is compressed.
        io::copy(&mut tail, &mut io::sink()).map_err(wrong)?;
        if tail.zeros < 512 { Err(damaged(archive, "it is cut off")) } else { Ok(()) }
    }

    /// A member's path in the target, without `.`.
    fn inside(&self, name: &str) -> Result<PathBuf> {
        let path: PathBuf = Path::new(name).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let through_a_link = || path.ancestors().any(|above| self.links.contains(above));
        if !stays_inside(name) || name.contains('\0') || through_a_link() {
            return Err(damaged(self.archive, format!("its member `{name}` leaves the folder")));
        }
        Ok(path)
    }

    fn folder(&self, path: &Path) -> Result<()> {
        let folder = self.target.join(path);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))
    }

    fn file(&mut self, path: &Path, content: &mut dyn Read) -> Result<()> {
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let place = self.target.join(path);
        let mut file = File::create(&place).map_err(Error::io("write", &place))?;
        let mut buffer = [0; 1 << 16];
        loop {
            let count = content.read(&mut buffer).map_err(|error| damaged(self.archive, error))?;
            if count == 0 {
                return Ok(());
            }
            self.left = self.left.checked_sub(count as u64).ok_or_else(|| damaged(self.archive, SWELLS))?;
            file.write_all(&buffer[..count]).map_err(Error::io("write", &place))?;
        }
    }

    /// A link from `path` to `to`. Where its way leads through other links is seen when all are there.
    fn link(&mut self, name: &str, path: PathBuf, to: &str) -> Result<()> {
        if !climbs_no_higher(Path::new(to), path.components().count().saturating_sub(1)) {
            return Err(leads_out(self.archive, name));
        }
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let place = self.target.join(&path);
        std::os::unix::fs::symlink(to, &place).map_err(Error::io("write", &place))?;
        self.links.insert(path);
        Ok(())
    }

    /// A second name for the member `to`.
    fn same_file(&self, name: &str, path: &Path, to: &str) -> Result<()> {
        let from = self.target.join(self.inside(to)?);
        if !from.is_file() {
            return Err(damaged(self.archive, format!("its link `{name}` leads to no file of it")));
        }
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let place = self.target.join(path);
        fs::hard_link(&from, &place).map_err(Error::io("write", &place))
    }
}

/// The content of a gzip file, member by member; as with `gzip`, zeros may follow the last one.
struct Unzipped<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Unzipped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.0.take() {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.0 = Some(member);
                return Ok(count);
            }
            let mut rest = member.into_inner();
            let next = loop {
                let bytes = rest.fill_buf()?;
                let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                if zeros < bytes.len() || bytes.is_empty() {
                    break !bytes.is_empty();
                }
                rest.consume(zeros);
            };
            self.0 = next.then(|| GzDecoder::new(rest));
        }
        Ok(0)
    }
}

/// Why a bomb is refused.
const SWELLS: &str = "its content is far larger than images could be";

/// Reads on, within a limit, and counts the zeros at the end.
struct Tail<R> {
    stream: R,
    left: u64,
    zeros: usize,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(SWELLS))?;
        let zeros = buffer[..count].iter().rev().take_while(|&&byte| byte == 0).count();
        self.zeros = if zeros == count { self.zeros + zeros } else { zeros };
        Ok(count)
    }
}
