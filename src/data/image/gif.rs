//! The first frame of a GIF, as Pillow gives it: transparency is dropped, so transparent pixels show their colour.

use gif::{ColorOutput, DecodeOptions};
use image::RgbImage;

/// Decodes a file's bytes, after `check` has agreed to its width and height.
///
/// # Errors
/// What is wrong with the file, as text.
pub(super) fn decode(bytes: &[u8], check: impl Fn(u32, u32) -> Result<(), String>) -> Result<RgbImage, String> {
    let text = |error: gif::DecodingError| error.to_string();
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let mut decoder = options.read_info(bytes).map_err(text)?;
    let (mut width, mut height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    check(width, height)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    // The picture grows with a first frame that is larger.
    let frame = decoder.next_frame_info().map_err(text)?.ok_or("it has no frame")?;
    width = width.max(u32::from(frame.left) + u32::from(frame.width));
    height = height.max(u32::from(frame.top) + u32::from(frame.height));
    check(width, height)?;
    let mut frame = frame.clone();
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(text)?;
    frame.buffer = indices.into();
    let palette = frame.palette.as_ref().or(global.as_ref());
    let colour = |index: u8| match palette {
        Some(palette) => {
            let entry = palette.get(3 * usize::from(index)..3 * usize::from(index) + 3);
            entry.map_or([0; 3], |entry| [entry[0], entry[1], entry[2]])
        }
        None => [index; 3],
    };
    // A frame may be smaller than the picture.
    let around = colour(frame.transparent.unwrap_or(0));
    let mut image = RgbImage::from_pixel(width, height, image::Rgb(around));
    let rows = frame.buffer.chunks_exact(usize::from(frame.width).max(1));
    for (y, row) in (u32::from(frame.top)..height).zip(rows) {
        for (x, &index) in (u32::from(frame.left)..width).zip(row) {
            image.put_pixel(x, y, image::Rgb(colour(index)));
        }
    }
    Ok(image)
}
