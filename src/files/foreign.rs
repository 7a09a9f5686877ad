//! Files that somebody else wrote: what they are in truth, told by their first bytes whatever their names say, and their text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// How many bytes of a file tell what it is.
pub const START: usize = 512;

/// Where a tar archive says that it is one.
const TAR: usize = 257;
/// What pages of the web start with, in lower case. Nothing that is read here starts with `<`.
const PAGE: [&str; 7] = ["<!doctype", "<html", "<head", "<body", "<title", "<script", "<!--"];
const POINTER: &str = "a Git LFS pointer";
const WEB_PAGE: &str = "a web page";
const XML: &str = "an XML document";

/// What a file is that was taken for another, e.g. "a web page", and what to do about it; `None` for one that is not known.
/// `start` is its first [`START`] bytes, or all.
pub fn foreign(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    let begins = |with: &str| text.starts_with(with.as_bytes());
    Some(if start.is_empty() {
        ("empty", "copy or fetch it again")
    } else if begins("version https://git-lfs.github.com/spec/") {
        (POINTER, "run `git lfs pull` in the repository that it is from")
    } else if PAGE.into_iter().any(begins) {
        (WEB_PAGE, "open the address in a browser: it asks for something, or says what is wrong")
    } else if begins("<?xml") {
        (XML, "look into it: servers send their errors so")
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
        Some((found, hint)) => Error::Format {
            path: path.to_owned(),
            format,
            message: format!("it is {found}"),
            hint: Some(hint.to_owned()),
        },
        None => Error::format(path, format, message),
    }
}

/// What these first bytes belong to where they belong to no file that anybody gives on purpose, e.g. `a web page`: servers
/// send pages in place of files, and a clone without Git LFS holds pointers to them.
pub fn disguise(start: &[u8]) -> Option<&'static str> {
    foreign(start).map(|(found, _)| found).filter(|found| [POINTER, WEB_PAGE, XML].contains(found))
}

/// [`disguise`] of a file; nothing for a folder.
///
/// # Errors
/// When the file cannot be read.
pub fn disguise_of(path: &Path) -> Result<Option<&'static str>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START as u64).read_to_end(&mut start));
    read.map_err(Error::io("read", path))?;
    Ok(disguise(&start))
}

/// Reads a text that somebody else wrote, without the byte order mark that some editors put at its start. `format` says in
/// the error what it should have been.
///
/// # Errors
/// When the file cannot be read, is in another encoding than UTF-8, or is something else altogether.
pub fn read_foreign_text(path: &Path, format: &'static str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let wrong = |message: String| Error::format(path, format, message);
    if let Some(what) = disguise(&bytes) {
        // A web page came from a server: whoever asked for it knows what to do.
        let hint = foreign(&bytes).map(|(_, hint)| hint.to_owned()).filter(|_| what == POINTER);
        return Err(Error::Format { path: path.to_owned(), format, message: format!("it is {what}"), hint });
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(wrong("it is in UTF-16: save it as UTF-8".to_owned()));
    }
    let start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    match std::str::from_utf8(&bytes[start..]) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let line = bytes[..start + error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(wrong(format!("line {line} is not in UTF-8: save it as UTF-8")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_by_their_names() {
        let mut tar = vec![b'x'; 512];
        tar[TAR..TAR + 5].copy_from_slice(b"ustar");
        for (start, expected, is_disguise) in [
            (&b""[..], Some("empty"), false),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", Some(POINTER), true),
            (b"\n <!DOCTYPE HTML>\n", Some("a web page"), true),
            (b"\xef\xbb\xbf<html lang=en>", Some("a web page"), true),
            (b"<title>404</title>", Some("a web page"), true),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Some("an XML document"), true),
            (b"\x1f\x8b\x08", Some("a gzip archive"), false),
            (b"PK\x03\x04", Some("a zip archive"), false),
            (b"\x89HDF\r\n", Some("an HDF5 file, as TensorFlow writes it"), false),
            (&tar, Some("a tar archive"), false),
            (b"{\"train\": []}", None, false),
            (b"<", None, false),
            (b"<folder> name", None, false),
            (b"version 2", None, false),
        ] {
            assert_eq!(foreign(start).map(|(found, _)| found), expected);
            assert_eq!(disguise(start).is_some(), is_disguise, "{expected:?}");
        }
    }

    #[test]
    fn a_text_has_no_mark_and_one_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_foreign_text(&path, "list")
                .map_err(|error| error.to_string().split("valid ").nth(1).unwrap().to_owned())
        };
        assert_eq!(read(b"\xef\xbb\xbfa b\n"), Ok("a b\n".to_owned()));
        assert_eq!(read(b"\xef\xbb\xbf"), Ok(String::new()));
        assert_eq!(read(b"\xff\xfea\0"), Err("list: it is in UTF-16: save it as UTF-8".to_owned()));
        assert_eq!(read(b"a\ncaf\xe9\n"), Err("list: line 2 is not in UTF-8: save it as UTF-8".to_owned()));
        assert_eq!(read(b"<html>"), Err("list: it is a web page".to_owned()));
    }
}
