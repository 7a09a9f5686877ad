//! Files that are often taken for others: told by their first bytes, whatever their names say.

use std::path::Path;

use crate::error::Error;

/// How many bytes of a file tell what it is.
pub const START: usize = 512;

/// Where a tar archive says that it is one.
const TAR: usize = 257;

/// What a file is that was taken for another, e.g. "a web page", and what to do about it; `None` for one that is not known.
/// `start` is its first [`START`] bytes, or all.
pub fn foreign(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    let begins = |with: &str| text.starts_with(with.as_bytes());
    Some(if start.is_empty() {
        ("empty", "copy or fetch it again")
    } else if begins("version https://git-lfs") {
        ("a Git LFS pointer", "run `git lfs pull` in the repository that it is from")
    } else if begins("<!doctype html") || begins("<html") || begins("<head") {
        ("a web page", "open the address in a browser: it asks for something, or says what is wrong")
    } else if begins("<?xml") {
        ("an XML document", "look into it: servers send their errors so")
    } else if start.starts_with(b"\x1f\x8b") {
        ("a gzip archive", "unpack it, and give what is in it")
    } else if start.starts_with(b"PK\x03\x04") {
        ("a zip archive", "unpack it, and give what is in it")
    } else if start.get(TAR..TAR + 5) == Some(b"ustar") {
        ("a tar archive", "unpack it, and give what is in it")
    } else if start.starts_with(b"\x89HDF") {
        ("an HDF5 file, as TensorFlow writes it", "give the file of PyTorch or safetensors that is published beside it")
    } else {
        return None;
    })
}

/// The error about a file that is no valid `format`: by what it is where that is known, else as `message` says.
pub fn foreign_format(path: &Path, format: &'static str, start: &[u8], message: impl ToString) -> Error {
    match foreign(start) {
        Some((found, hint)) => Error::format(path, format, format!("it is {found}: {hint}")),
        None => Error::format(path, format, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_their_names() {
        let mut tar = vec![b'x'; 512];
        tar[TAR..TAR + 5].copy_from_slice(b"ustar");
        for (start, expected) in [
            (&b""[..], Some("empty")),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", Some("a Git LFS pointer")),
            (b"\n <!DOCTYPE HTML>\n", Some("a web page")),
            (b"\xef\xbb\xbf<html lang=en>", Some("a web page")),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Some("an XML document")),
            (b"\x1f\x8b\x08", Some("a gzip archive")),
            (b"PK\x03\x04", Some("a zip archive")),
            (b"\x89HDF\r\n", Some("an HDF5 file, as TensorFlow writes it")),
            (&tar, Some("a tar archive")),
            (b"{\"train\": []}", None),
            (b"version 2", None),
        ] {
            assert_eq!(foreign(start).map(|(found, _)| found), expected);
        }
    }
}
