//! BMP: what the library for images does otherwise than Pillow.

use image::RgbImage;

/// Where a file's header has what.
const PIXELS: usize = 10;
const WIDTH: usize = 18;
const HEIGHT: usize = 22;
const BITS: usize = 28;
const COMPRESSION: usize = 30;
const COLOURS: usize = 46;
const GREEN_MASK: usize = 58;

fn number(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

/// A file without compression in place of one that counts equal pixels, whose rows may end early: there, Pillow
/// (`BmpRleDecoder` of `BmpImagePlugin.py`) shows the first colour of the palette, the library black. Nothing for any other
/// file.
pub(super) fn unrolled(
    bytes: &[u8],
    check: impl Fn(u32, u32) -> Result<(), String>,
) -> Option<Result<Vec<u8>, String>> {
    let bits = number(bytes, BITS)? & 0xffff;
    let is_half = match (number(bytes, COMPRESSION)?, bits) {
        (1, 8) => false,
        (2, 4) => true,
        _ => return None,
    };
    let (width, height) = (number(bytes, WIDTH)?, i32::try_from(number(bytes, HEIGHT)?).ok()?);
    let (start, colours) = (number(bytes, PIXELS)? as usize, number(bytes, COLOURS)?);
    if start < GREEN_MASK {
        return None;
    }
    if let Err(error) = check(width, height.unsigned_abs()) {
        return Some(Err(error));
    }
    let (width, height) = (width as usize, height as usize);
    let indices = indices(bytes, start, width, width * height, is_half);
    if indices.len() < width * height {
        return Some(Err("it is cut off".to_owned()));
    }
    let mut unrolled = bytes.get(..start)?.to_vec();
    unrolled[BITS] = 8;
    unrolled[COMPRESSION] = 0;
    if colours == 0 {
        unrolled[COLOURS..COLOURS + 4].copy_from_slice(&(1u32 << bits).to_le_bytes());
    }
    for row in indices.chunks_exact(width).take(height) {
        unrolled.extend(row);
        unrolled.extend(std::iter::repeat_n(0, width.next_multiple_of(4) - width));
    }
    Some(Ok(unrolled))
}

/// The palette index of each pixel, of `count` at most, in rows of `width`; fewer where the data end before.
fn indices(bytes: &[u8], start: usize, width: usize, count: usize, is_half: bool) -> Vec<u8> {
    let (mut indices, mut place, mut x) = (Vec::with_capacity(count), start, 0);
    while indices.len() < count
        && let Some(&[length, value]) = bytes.get(place..place + 2)
    {
        place += 2;
        match (length, value) {
            // The end of a row.
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            // The end of all.
            (0, 1) => break,
            // So far to the right and up.
            (0, 2) => {
                let Some(&[right, up]) = bytes.get(place..place + 2) else { break };
                place += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                indices.resize(count.min(indices.len() + skipped), 0);
                x = indices.len() % width;
            }
            // So many pixels as they are.
            (0, pixels) => {
                let pixels = usize::from(pixels).min(count - indices.len());
                let wanted = if is_half { pixels.div_ceil(2) } else { pixels };
                let found = bytes.get(place..).map_or(&[][..], |rest| &rest[..wanted.min(rest.len())]);
                place += found.len();
                if is_half {
                    let both = found.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                    indices.extend(both.take(pixels));
                } else {
                    indices.extend(found);
                }
                if found.len() < wanted || indices.len() == count {
                    break;
                }
                x += usize::from(value);
                place = place.next_multiple_of(2);
            }
            // So many pixels of the same index, or of two in turn.
            (pixels, value) => {
                let pixels = usize::from(pixels).min(width.saturating_sub(x));
                let pair = if is_half { [value >> 4, value & 15] } else { [value; 2] };
                indices.extend(pair.into_iter().cycle().take(pixels));
                x += pixels;
            }
        }
    }
    indices
}

/// A file of 16 bits per pixel has 5 bits per colour, or 6 of green. Pillow makes 8 of them by whole-number division
/// (`Unpack.c`), the library by rounding.
pub(super) fn widen_as_pillow(bytes: &[u8], image: &mut RgbImage) {
    if number(bytes, BITS).is_none_or(|bits| bits & 0xffff != 16) {
        return;
    }
    let has_six = number(bytes, COMPRESSION) == Some(3) && number(bytes, GREEN_MASK) == Some(0x07e0);
    let shifts = [3, if has_six { 2 } else { 3 }, 3];
    for pixel in image.pixels_mut() {
        for (value, shift) in pixel.0.iter_mut().zip(shifts) {
            let most = 0xffu16 >> shift;
            *value = ((u16::from(*value) >> shift) * 255 / most) as u8;
        }
    }
}
