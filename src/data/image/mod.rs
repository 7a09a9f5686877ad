//! Image files to 8-bit RGB, as Pillow's `Image.open(...).convert("RGB")` gives them.

mod bmp;
mod gif;
mod jpeg;

use std::io::Cursor;
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::error::Result;
use crate::files::foreign_format;

/// The most pixels that an image may have: beyond that Pillow takes it for a decompression bomb (`Image.py`).
const MOST_PIXELS: u64 = 2 * (1024 * 1024 * 1024 / 4 / 3);

/// Where a PNG file says of which kind its colours are.
const PNG_COLOUR: usize = 25;
/// Greyscale without an alpha channel.
const PNG_GREY: u8 = 0;

/// Decodes the bytes of a JPEG, PNG, WebP, GIF or BMP file, whatever its name says; `path` only names it in the error.
///
/// As with Pillow, greyscale is repeated in all channels, an alpha channel is dropped (whatever it hides), EXIF
/// rotation is ignored, and of an animation the first frame is taken. 16-bit colours keep their high byte, but 16-bit
/// greyscale is cut off at 255.
///
/// # Errors
/// When the bytes are none of these, broken, cut off, or more than 178,956,970 pixels.
pub fn decode(bytes: &[u8], path: &Path) -> Result<RgbImage> {
    let decoded = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => jpeg::decode(bytes, check),
        Ok(ImageFormat::Gif) => gif::decode(bytes, check),
        Ok(format) => other(bytes, format),
        Err(error) => Err(error.to_string()),
    };
    decoded.map_err(|error| foreign_format(path, "image", bytes, error))
}

/// Refuses what would fill the memory.
fn check(width: u32, height: u32) -> Result<(), String> {
    match u64::from(width) * u64::from(height) {
        0 => Err("it has no pixels".to_owned()),
        1..=MOST_PIXELS => Ok(()),
        _ => Err(format!("it has {width} x {height} pixels, more than {MOST_PIXELS}")),
    }
}

/// What the library for images decodes as Pillow does.
fn other(bytes: &[u8], format: ImageFormat) -> Result<RgbImage, String> {
    let text = |error: image::ImageError| error.to_string();
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(text)?;
    let (width, height) = decoder.dimensions();
    check(width, height)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(text)?;
    let narrow: fn(u16) -> u8 = match decoded.color() {
        ColorType::L16 => |value| value.min(255) as u8,
        // A transparent value in place of an alpha channel does not matter.
        ColorType::La16 if bytes.get(PNG_COLOUR) == Some(&PNG_GREY) => |value| value.min(255) as u8,
        ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => |value| (value >> 8) as u8,
        _ => {
            let mut narrow = decoded.into_rgb8();
            if format == ImageFormat::Bmp {
                bmp::widen_as_pillow(bytes, &mut narrow);
            }
            return Ok(narrow);
        }
    };
    let wide = decoded.into_rgb16();
    Ok(RgbImage::from_fn(width, height, |x, y| image::Rgb(wide.get_pixel(x, y).0.map(narrow))))
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};

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

    fn refused(bytes: &[u8]) -> String {
        let error = decode(bytes, Path::new("photos/a.jpg")).unwrap_err().to_string();
        assert!(error.starts_with("`photos/a.jpg` is not a valid image"), "{error}");
        error
    }

    #[test]
    fn a_broken_file_is_named() {
        for bytes in
            [&b"not an image"[..], b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF....WEBP"]
        {
            refused(bytes);
        }
        let pointer = refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n");
        assert!(pointer.ends_with("it is a Git LFS pointer: run `git lfs pull` in the repository that it is from"));
    }

    /// A picture of 60 x 40 pixels as a file.
    fn file(format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(60, 40, |x, y| image::Rgb([x as u8 * 4, y as u8 * 6, (x * y % 251) as u8]));
        let mut bytes = Vec::new();
        match format {
            ImageFormat::Gif => {
                let pixels = image.into_raw();
                let frame = ::gif::Frame::from_rgb(60, 40, &pixels);
                let mut encoder = ::gif::Encoder::new(&mut bytes, 60, 40, &[]).unwrap();
                encoder.write_frame(&frame).unwrap();
            }
            format => image.write_to(&mut Cursor::new(&mut bytes), format).unwrap(),
        }
        bytes
    }

    const FORMATS: [ImageFormat; 5] =
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP];

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        for format in FORMATS {
            let bytes = file(format);
            assert_eq!(decode(&bytes, Path::new("a")).unwrap().dimensions(), (60, 40));
            for length in [bytes.len() - 2, bytes.len() / 2, 30] {
                // The end of a GIF and the last check of a PNG say nothing about the pixels.
                if length < bytes.len() - 2 || format == ImageFormat::Jpeg {
                    let error = refused(&bytes[..length]);
                    assert!(error.ends_with("it is cut off") || format != ImageFormat::Jpeg, "{error}");
                }
            }
        }
    }

    /// Headers that ask for 30,000 x 30,000 pixels (65,535 where 16 bits tell) are refused before memory is taken.
    #[test]
    fn a_bomb_is_refused_by_its_size() {
        let sized = |format: ImageFormat, place: usize, width: &[u8], height: &[u8]| {
            let mut bytes = file(format);
            bytes[place..place + width.len()].copy_from_slice(width);
            bytes[place + width.len()..place + width.len() + height.len()].copy_from_slice(height);
            refused(&bytes)
        };
        let jpeg = file(ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        let big = 30_000u32;
        let errors = [
            sized(ImageFormat::Jpeg, frame + 5, &30_000u16.to_be_bytes(), &30_000u16.to_be_bytes()),
            sized(ImageFormat::Bmp, 18, &big.to_le_bytes(), &big.to_le_bytes()),
            sized(ImageFormat::Gif, 6, &30_000u16.to_le_bytes(), &30_000u16.to_le_bytes()),
        ];
        for error in errors {
            assert!(error.contains("it has 30000 x 30000 pixels, more than 178956970"), "{error}");
        }
        // A PNG's header has a checksum.
        let bytes = include_bytes!("../../../tests/fixtures/data/formats/bomb.png");
        assert!(refused(bytes).contains("it has 30000 x 30000 pixels, more than 178956970"));
    }
}
