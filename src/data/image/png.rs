//! PNG: what Pillow reads although it is damaged, and what it does not read (`PngImagePlugin.py`).

use std::io::{self, Read};

use crc::{CRC_32_ISO_HDLC, Crc};
use flate2::read::ZlibDecoder;

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const SIGNATURE: usize = 8;
/// Bytes that the pixels of any image may have that is decoded at all: 64 bits per pixel.
const MOST: u64 = 8 << 28;

/// A chunk of a file, whose content may be cut off.
struct Chunk<'a> {
    /// All its bytes: length, kind, content and checksum.
    bytes: &'a [u8],
    kind: &'a [u8],
    content: &'a [u8],
    is_cut_off: bool,
    /// The checksum that the file has for it.
    checksum: Option<u32>,
}

impl Chunk<'_> {
    fn right_checksum(&self) -> u32 {
        let mut digest = CHECKSUM.digest();
        digest.update(self.kind);
        digest.update(self.content);
        digest.finalize()
    }
}

/// The chunks of a file as far as they go.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?));
        let (length, kind) = (number(rest)? as usize, rest.get(4..8)?);
        let end = length.saturating_add(8).min(rest.len());
        let checksum = number(&rest[end..]);
        let whole = (end + 4).min(rest.len());
        let is_cut_off = end - 8 < length;
        let chunk = Chunk { bytes: &rest[..whole], kind, content: &rest[8..end], is_cut_off, checksum };
        rest = &rest[whole..];
        Some(chunk)
    })
}

fn is_pixels(chunk: &Chunk<'_>) -> bool {
    chunk.kind == b"IDAT"
}

/// Refuses what Pillow refuses around the pixels: a wrong checksum in front of them, and a chunk behind them that is cut off.
///
/// # Errors
/// Names the chunk.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let name = |chunk: Chunk<'_>| chunk.kind.escape_ascii().to_string();
    let mut before = chunks(bytes).take_while(|chunk| !is_pixels(chunk));
    if let Some(chunk) = before.find(|chunk| chunk.checksum != Some(chunk.right_checksum())) {
        return Err(format!("the checksum of its `{}` is wrong", name(chunk)));
    }
    // What has no name is no chunk, and ends the file.
    let is_named = |chunk: &Chunk<'_>| chunk.kind.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let behind = chunks(bytes).skip_while(|chunk| !is_pixels(chunk)).skip_while(is_pixels);
    let mut behind = behind.take_while(|chunk| chunk.kind != b"IEND" && is_named(chunk));
    match behind.find(|chunk| chunk.is_cut_off) {
        Some(chunk) => Err(format!("its `{}` is cut off", name(chunk))),
        None => Ok(()),
    }
}

/// The same file with the right checksum of its pixels and with an end: Pillow looks at neither. Nothing where the pixels
/// contradict the checksum inside them, which Pillow does look at.
pub(super) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let pixels = chunks(bytes).filter(is_pixels).flat_map(|chunk| chunk.content).copied().collect::<Vec<u8>>();
    let unpacked = io::copy(&mut ZlibDecoder::new(&pixels[..]).take(MOST), &mut io::sink());
    if unpacked.is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) {
        return None;
    }
    let mut mended = bytes[..SIGNATURE.min(bytes.len())].to_vec();
    let add = |mended: &mut Vec<u8>, kind: &[u8], content: &[u8], checksum: u32| {
        mended.extend((content.len() as u32).to_be_bytes());
        mended.extend(kind);
        mended.extend(content);
        mended.extend(checksum.to_be_bytes());
    };
    let mut has_pixels = false;
    for chunk in chunks(bytes) {
        if is_pixels(&chunk) {
            has_pixels = true;
            add(&mut mended, chunk.kind, chunk.content, chunk.right_checksum());
        } else if has_pixels {
            break;
        } else {
            mended.extend(chunk.bytes);
        }
    }
    add(&mut mended, b"IEND", b"", CHECKSUM.checksum(b"IEND"));
    Some(mended)
}
