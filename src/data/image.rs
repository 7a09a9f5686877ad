//! Image files to 8-bit RGB, as Pillow's `Image.open(...).convert("RGB")` gives them.

use std::path::Path;

use image::{ColorType, RgbImage};

use crate::error::{Error, Result};

/// Decodes a JPEG or PNG file's bytes; `path` only names the file in the error.
///
/// As with Pillow, greyscale is repeated in all channels, an alpha channel is dropped (whatever it hides), and EXIF
/// rotation is ignored. 16-bit colours keep their high byte, but 16-bit greyscale is cut off at 255.
///
/// # Errors
/// When the bytes are no JPEG or PNG, or a broken one.
pub fn decode(bytes: &[u8], path: &Path) -> Result<RgbImage> {
    let decoded = image::load_from_memory(bytes).map_err(|error| Error::format(path, "image", error))?;
    let narrow: fn(u16) -> u8 = match decoded.color() {
        ColorType::L16 => |value| value.min(255) as u8,
        ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => |value| (value >> 8) as u8,
        _ => return Ok(decoded.into_rgb8()),
    };
    let wide = decoded.into_rgb16();
    Ok(RgbImage::from_fn(wide.width(), wide.height(), |x, y| image::Rgb(wide.get_pixel(x, y).0.map(narrow))))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};

    use super::*;

    fn first_pixel(image: impl Into<DynamicImage>) -> [u8; 3] {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        decode(&bytes, Path::new("a.png")).unwrap().get_pixel(0, 0).0
    }

    #[test]
    fn every_png_kind_becomes_rgb_as_in_pillow() {
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Luma([7u8]))), [7, 7, 7]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, LumaA([7u8, 0]))), [7, 7, 7]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Rgba([1u8, 2, 3, 0]))), [1, 2, 3]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Luma([0x01ffu16]))), [255, 255, 255]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Luma([0x0010u16]))), [16, 16, 16]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Rgb([0x01ffu16, 0xff00, 0]))), [1, 255, 0]);
        assert_eq!(first_pixel(ImageBuffer::from_pixel(1, 1, Rgba([0x01ffu16, 0xff00, 0, 9]))), [1, 255, 0]);
    }

    #[test]
    fn a_broken_file_is_named() {
        for bytes in [&b"not an image"[..], b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"] {
            let error = decode(bytes, Path::new("photos/a.jpg")).unwrap_err().to_string();
            assert!(error.starts_with("`photos/a.jpg` is not a valid image"), "{error}");
        }
    }
}
