//! The blake3 digest of a content or a key.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use serde::de::Visitor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tally::Tally;

/// Bytes read at a time.
const CHUNK: u64 = 16 << 20;
/// A file of fewer bytes is read by one call.
const SMALL: u64 = 16 << 10;
/// From this many bytes on, several cores are faster than one.
const LARGE: usize = 1 << 20;

/// A blake3 hash, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Digest(blake3::Hash);

impl Ord for Digest {
    fn cmp(&self, other: &Digest) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Digest) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Digest {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(blake3::hash(bytes))
    }

    /// Of a file's content; large files are hashed by all cores. Nothing is mapped: a file that shrinks while it is read
    /// gives another digest, not a crash.
    pub fn of_file(path: &Path) -> Result<Digest> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let size = file.metadata().map_err(Error::io("read", path))?.len();
        Digest::of_open_file(&mut file, size, path)
    }

    /// Of the content of a file that is open, from where it stands on, and that is said to have so many bytes.
    ///
    /// # Errors
    /// It cannot be read; the error names `path`.
    pub fn of_open_file(file: &mut File, size: u64, path: &Path) -> Result<Digest> {
        let mut chunk = Vec::new();
        if size < SMALL {
            chunk.reserve(size as usize + 1);
            match rustix::io::read(&*file, spare_capacity(&mut chunk)) {
                Ok(length) => {
                    Tally::read_bytes(length);
                    // A call that finds less than there is room for has found the end.
                    if length < chunk.capacity() {
                        return Ok(Digest::of(&chunk));
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("read", path)(error.into())),
            }
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&chunk);
        loop {
            chunk.clear();
            let length = (&mut *file).take(CHUNK).read_to_end(&mut chunk).map_err(Error::io("read", path))?;
            Tally::read_bytes(length);
            match length {
                0 => return Ok(Digest(hasher.finalize())),
                1..LARGE => hasher.update(&chunk),
                _ => hasher.update_rayon(&chunk),
            };
        }
    }

    /// Reads 64 lower-case hexadecimal digits: a digest has one spelling, so that a damaged one is never taken for whole.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits: &[u8; 2 * blake3::OUT_LEN] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; blake3::OUT_LEN];
        let mut largest = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            largest = largest.max(high).max(low);
            *byte = high << 4 | low;
        }
        (largest < NO_DIGIT).then(|| Digest(blake3::Hash::from_bytes(bytes)))
    }

    /// The first digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// Stands for a character that is no digit.
const NO_DIGIT: u8 = 16;

/// The values of all characters. Digits are read by ten thousands, and a processor guesses badly which a letter is.
const VALUES: [u8; 256] = {
    let digits = b"0123456789abcdef";
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < digits.len() {
        values[digits[value] as usize] = value as u8;
        value += 1;
    }
    values
};

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct DigestVisitor;
        impl Visitor<'_> for DigestVisitor {
            type Value = Digest;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a digest")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                Digest::parse(text).ok_or_else(|| E::custom(format!("`{text}` is not a digest")))
            }
        }
        deserializer.deserialize_str(DigestVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let text = Digest::of(b"1").to_string();
        assert_eq!(Digest::parse(&text), Some(Digest::of(b"1")));
        assert_eq!(Digest::parse(&text.to_uppercase()), None);
        assert_eq!(Digest::parse(&text[1..]), None);
    }

    #[test]
    fn a_file_has_the_digest_of_its_content_whatever_size_it_was_said_to_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let small = SMALL as usize;
        for size in [0, 1, 100, small - 1, small, small + 1, LARGE + 1] {
            let content: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            assert_eq!(Digest::of_file(&path).unwrap(), Digest::of(&content), "{size}");
            for said in [0, size.saturating_sub(1), size, size + 1, small - 1, small] {
                let found = Digest::of_open_file(&mut File::open(&path).unwrap(), said as u64, &path).unwrap();
                assert_eq!(found, Digest::of(&content), "{size}, said to be {said}");
            }
        }
    }
}
