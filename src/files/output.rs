//! Files that a person named as the place of an output.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::write_atomically;
use crate::error::{Error, Result};

/// How many links may lead to each other, as Linux has it.
const MOST_LINKS: usize = 40;

/// Writes to the file that a person named. A regular file is replaced as a whole, and one that links lead to in their place;
/// devices, pipes and this process's descriptors (`/dev/stdout`) are written into.
///
/// # Errors
/// Names `path`. A regular file is then what it was before.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = behind_links(path)?;
    let is_replaced = !is_descriptor(&place) && fs::metadata(&place).map_or(true, |metadata| metadata.is_file());
    if is_replaced {
        return write_atomically(&place, bytes);
    }
    // Appending leaves alone what a shell's `>> file` is to keep.
    let file = OpenOptions::new().append(true).open(&place);
    file.and_then(|mut file| file.write_all(bytes)).map_err(Error::io("write", path))
}

/// The place that a chain of links leads to, whether something is there or not; a descriptor stays what it is.
///
/// # Errors
/// The links lead in a circle.
pub fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        if is_descriptor(&place) {
            return Ok(place);
        }
        match fs::read_link(&place) {
            Ok(target) => place = place.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(place),
        }
    }
    Err(Error::hinted(format!("the links at `{}` lead in a circle", path.display()), "name another file"))
}

/// Lies in `/proc`, where links name what a process has open and not where it lies.
fn is_descriptor(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.canonicalize().is_ok_and(|folder| folder.starts_with("/proc"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let is_link = |name: &str| place(name).symlink_metadata().unwrap().is_symlink();
        fs::write(place("real"), "old").unwrap();
        symlink("real", place("link")).unwrap();
        symlink(place("link"), place("link-to-link")).unwrap();
        symlink("absent/new", place("dangling")).unwrap();
        symlink("circle", place("circle")).unwrap();
        for name in ["real", "link", "link-to-link"] {
            write_output(&place(name), name.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(place("real")).unwrap(), name);
        }
        assert!(is_link("link") && is_link("link-to-link"));
        write_output(&place("dangling"), b"new").unwrap();
        assert!(is_link("dangling"));
        assert_eq!(fs::read_to_string(place("absent/new")).unwrap(), "new");
        let circle = write_output(&place("circle"), b"new").unwrap_err().to_string();
        assert!(circle.ends_with("lead in a circle"), "{circle}");
        fs::create_dir(place("folder")).unwrap();
        assert!(write_output(&place("folder"), b"new").unwrap_err().to_string().starts_with("could not write"));
        write_output(Path::new("/dev/null"), b"gone").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(write_output(Path::new("/dev/full"), b"too much").is_err());
    }

    #[test]
    fn a_pipe_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let text = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut text = String::new();
                fs::File::open(&pipe).unwrap().read_to_string(&mut text).map(|_| text)
            });
            write_output(&pipe, b"through").unwrap();
            reader.join().unwrap().unwrap()
        });
        assert_eq!(text, "through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    }

    /// What a shell appends to stays, as for any other program.
    #[test]
    fn a_descriptor_of_a_file_is_appended_to() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "before\n").unwrap();
        let file = OpenOptions::new().append(true).open(&log).unwrap();
        for path in [format!("/dev/fd/{}", file.as_raw_fd()), format!("/proc/self/fd/{}", file.as_raw_fd())] {
            write_output(Path::new(&path), b"more\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), "before\nmore\nmore\n");
    }
}
