//! Small pictures of images, for a page that needs no other file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;

use crate::data::image::decode;

/// The longer side, in pixels.
const SIDE: u32 = 96;
const QUALITY: u8 = 75;

/// The image at `path` as a `data:` address; none where it cannot be read, since a report can do without it.
pub fn thumbnail(path: &Path) -> Option<String> {
    let image = decode(&std::fs::read(path).ok()?, path).ok()?;
    let small = if image.width().max(image.height()) > SIDE {
        image::DynamicImage::from(image).thumbnail(SIDE, SIDE).to_rgb8()
    } else {
        image
    };
    let mut bytes = Vec::new();
    small.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY)).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
