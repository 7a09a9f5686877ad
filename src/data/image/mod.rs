//! Image files to 8-bit RGB, as Pillow's `Image.open(...).convert("RGB")` gives them.

mod bmp;
mod gif;
mod jpeg;
mod png;

use std::io::Cursor;
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::error::Result;
use crate::files::foreign_format;
use crate::tally::Tally;

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
        Ok(ImageFormat::Png) => png::check(bytes).and_then(|()| {
            other(bytes, ImageFormat::Png).or_else(|error| match png::mended(bytes) {
                Some(mended) => other(&mended, ImageFormat::Png).map_err(|_| error),
                None => Err(error),
            })
        }),
        Ok(ImageFormat::Bmp) => match bmp::unrolled(bytes, check) {
            Some(unrolled) => unrolled.and_then(|bytes| other(&bytes, ImageFormat::Bmp)),
            None => other(bytes, ImageFormat::Bmp),
        },
        Ok(format) => other(bytes, format),
        Err(error) => Err(error.to_string()),
    };
    let decoded = decoded.map_err(|error| foreign_format(path, "image", bytes, error))?;
    Tally::decoded_image();
    Ok(decoded)
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
        assert!(pointer.ends_with("it is a Git LFS pointer"), "{pointer}");
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

    /// A PNG's chunks: the place of each, and its kind.
    fn place(png: &[u8], kind: &[u8]) -> usize {
        png.windows(4).position(|found| found == kind).unwrap()
    }

    /// Pillow reads pixels that are all there, whatever follows them and whatever their checksum is.
    #[test]
    fn a_png_needs_its_pixels_and_nothing_behind_them() {
        let whole = file(ImageFormat::Png);
        let expected = decode(&whole, Path::new("a")).unwrap();
        let pixels = place(&whole, b"IDAT");
        let length = u32::from_be_bytes(whole[pixels - 4..pixels].try_into().unwrap()) as usize;
        let end = pixels + 4 + length;
        let mut wrong_checksum = whole.clone();
        wrong_checksum[end] ^= 0x55;
        let mut wrong_end = whole.clone();
        wrong_end[end + 8] ^= 0x55;
        let junk = [&whole[..end + 4], b"\0\0\0\xff\xff\xff\xff\xff"].concat();
        for bytes in [&whole[..end + 4], &whole[..end], &whole[..end + 7], &wrong_checksum, &wrong_end, &junk] {
            assert_eq!(decode(bytes, Path::new("a")).unwrap(), expected);
        }
        // Less than the pixels is no picture, nor are others than their own checksum is of, nor a cut off chunk behind them;
        // and what stands before them is held to its checksum.
        let mut wrong_sum = whole.clone();
        wrong_sum[end - 1] ^= 0x55;
        refused(&wrong_sum);
        refused(&whole[..end - 40]);
        refused(&[&whole[..end + 4], b"\0\0\0\x09tEXta"].concat());
        let mut wrong_header = whole.clone();
        wrong_header[29] ^= 0x55;
        assert!(refused(&wrong_header).ends_with("the checksum of its `IHDR` is wrong"));
        assert!(refused(b"<!DOCTYPE html>").ends_with("it is a web page"));
    }

    #[test]
    fn a_jpeg_without_its_end_mark_is_read_where_all_its_pixels_are_there() {
        let whole = file(ImageFormat::Jpeg);
        let expected = decode(&whole, Path::new("a")).unwrap();
        let scan = &whole[..whole.len() - 2];
        for zeros in [16, 512] {
            assert_eq!(decode(&[scan, &vec![0; zeros]].concat(), Path::new("a")).unwrap(), expected);
        }
        assert!(refused(scan).ends_with("it is cut off"));
        assert!(refused(&scan[..scan.len() / 2]).ends_with("it is cut off"));
    }

    /// 3 x 3 pixels that are counted, 8 or 4 bits per pixel; the colours are red, green and blue.
    fn counted(bits: u16, pixels: &[u8]) -> Vec<u8> {
        let palette = [[0, 0, 255, 0], [0, 255, 0, 0], [255, 0, 0, 0]].concat();
        let mut bytes = b"BM".to_vec();
        let start = 54 + palette.len() as u32;
        for number in [start + pixels.len() as u32, 0, start, 40, 3, 3, 1 | u32::from(bits) << 16] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [if bits == 8 { 1 } else { 2 }, pixels.len() as u32, 0, 0, 3, 0] {
            bytes.extend(number.to_le_bytes());
        }
        [bytes, palette, pixels.to_vec()].concat()
    }

    #[test]
    fn rows_of_a_bmp_that_end_early_go_on_in_the_first_colour() {
        let colours = |bits, pixels: &[u8]| {
            let image = decode(&counted(bits, pixels), Path::new("a.bmp")).unwrap();
            let letter = |pixel: &Rgb<u8>| "rgb".chars().nth(pixel.0.iter().position(|&value| value == 255).unwrap());
            image.pixels().map(|pixel| letter(pixel).unwrap()).collect::<String>()
        };
        // The last row comes first.
        assert_eq!(colours(8, &[1, 1, 0, 0, 3, 2, 0, 0, 0, 0, 0, 3, 2, 1, 0, 0, 0, 1]), "bgrbbbgrr");
        assert_eq!(colours(8, &[2, 1, 0, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 1]), "bbrrrrggr");
        assert_eq!(colours(8, &[1, 1, 0, 2, 1, 1, 9, 2, 0, 0, 3, 1]), "gggrrbgrr");
        assert_eq!(colours(4, &[3, 0x12, 0, 0, 2, 0x21, 0, 0, 0, 3, 0x01, 0x20, 0, 1]), "rgbbgrgbg");
        // An end where a row has ended already is none, and Pillow takes an early end of all for a file that is cut off.
        assert!(refused(&counted(8, &[3, 1, 0, 0, 3, 2, 0, 1])).ends_with("it is cut off"));
        assert!(refused(&counted(8, &[3, 1, 0, 0, 3])).ends_with("it is cut off"));
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
