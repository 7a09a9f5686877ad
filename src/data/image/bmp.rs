//! BMP: what the library for images does otherwise than Pillow.

use image::RgbImage;

/// A file of 16 bits a pixel has 5 bits a colour, or 6 of green. Pillow makes 8 of them by whole-number division
/// (`Unpack.c`), the library by rounding.
pub(super) fn widen_as_pillow(bytes: &[u8], image: &mut RgbImage) {
    const BITS: usize = 28;
    const COMPRESSION: usize = 30;
    const GREEN_MASK: usize = 58;
    let number =
        |place: usize| bytes.get(place..place + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    if number(BITS).is_none_or(|bits| bits & 0xffff != 16) {
        return;
    }
    let has_six = number(COMPRESSION) == Some(3) && number(GREEN_MASK) == Some(0x07e0);
    let shifts = [3, if has_six { 2 } else { 3 }, 3];
    for pixel in image.pixels_mut() {
        for (value, shift) in pixel.0.iter_mut().zip(shifts) {
            let most = 0xffu16 >> shift;
            *value = ((u16::from(*value) >> shift) * 255 / most) as u8;
        }
    }
}
