//! JPEG, by mozjpeg's decoder, which is libjpeg-turbo's: the same bits as Pillow, whose decoder that is.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

/// Decodes a file's bytes, after `check` has agreed to its width and height.
///
/// # Errors
/// What is wrong with the file, as text.
pub(super) fn decode(bytes: &[u8], check: impl Fn(u32, u32) -> Result<(), String>) -> Result<RgbImage, String> {
    // The library unwinds through its C code when a file is broken, without calling the panic hook.
    let ended = Cell::new(false);
    // What has all its pixels is a picture, whether its end is marked or not; Pillow waits no longer, either.
    let complete = RefCell::new(None);
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let decoder = Decompress::new_reader(Whole { bytes, ended: &ended }).map_err(|error| error.to_string())?;
        let (width, height) = (decoder.width() as u32, decoder.height() as u32);
        check(width, height)?;
        let text = |error: io::Error| error.to_string();
        let is_cmyk = matches!(decoder.color_space(), ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK);
        let mut started =
            if is_cmyk { decoder.to_colorspace(ColorSpace::JCS_CMYK) } else { decoder.rgb() }.map_err(text)?;
        let values: Vec<u8> = started.read_scanlines().map_err(text)?;
        let values = if is_cmyk { values.chunks_exact(4).flat_map(rgb_of_inverted_cmyk).collect() } else { values };
        complete.replace(RgbImage::from_raw(width, height, values));
        started.finish().map_err(text)
    }));
    let decoded = decoded.unwrap_or_else(|cause| match cause.downcast_ref::<String>() {
        Some(message) => Err(message.trim_start_matches("libjpeg fatal error: ").to_owned()),
        None => std::panic::resume_unwind(cause),
    });
    match (decoded, complete.into_inner()) {
        (Ok(()), Some(image)) => Ok(image),
        (Ok(()), None) => Err("it has too few pixels".to_owned()),
        (Err(_), Some(image)) if ended.get() => Ok(image),
        (Err(_), _) if ended.get() => Err("it is cut off".to_owned()),
        (Err(message), _) => Err(message),
    }
}

/// Pillow takes all CMYK files for inverted, as Adobe writes them (`JpegImagePlugin.py`), and computes colours in whole
/// numbers (`cmyk2rgb` of `libImaging/Convert.c`).
fn rgb_of_inverted_cmyk(cmyk: &[u8]) -> [u8; 3] {
    let light = u32::from(cmyk[3]);
    [0, 1, 2].map(|channel| {
        let product = u32::from(255 - cmyk[channel]) * light + 128;
        (light - (((product >> 8) + product) >> 8)) as u8
    })
}

/// The bytes of a file that has to be whole. libjpeg would fill the rest of a shorter one with grey; Pillow refuses it.
struct Whole<'a> {
    bytes: &'a [u8],
    /// Whether more was asked for than there is.
    ended: &'a Cell<bool>,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() {
            self.ended.set(true);
            return Err(io::Error::other("it is cut off"));
        }
        Ok(self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
    }
}
