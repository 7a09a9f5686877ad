//! Small pictures of images, for a page that needs no other file.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use crate::data::image::decode;

/// The longer side, in pixels.
pub(super) const SIDE: u32 = 96;
const QUALITY: u8 = 75;

/// The image at `path` as a `data:` address; none where it cannot be read, since a report can do without it.
pub(super) fn thumbnail(path: &Path) -> Option<String> {
    let image = picture(path)?;
    let small = if image.width().max(image.height()) > SIDE {
        image::DynamicImage::from(image).thumbnail(SIDE, SIDE).to_rgb8()
    } else {
        image
    };
    encoded(&small)
}

/// The image at `path`, if it can be read.
pub(super) fn picture(path: &Path) -> Option<RgbImage> {
    decode(&std::fs::read(path).ok()?, path).ok()
}

/// An image as a `data:` address.
pub(super) fn encoded(image: &RgbImage) -> Option<String> {
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY)).ok()?;
    Some(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}
