//! Pictures to train on, in a folder of their own: files as large as photographs are in the published data sets.

use std::path::Path;

use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use maple_pipe::backbone::Preprocessing;
use maple_pipe::data::{Augmentation, Indexed, Item, Loader, Transform};
use maple_pipe::error::{Error, Result};
use rayon::prelude::*;
use tempfile::TempDir;

/// Width and height.
const SIZE: (u32, u32) = (500, 375);
/// Bytes of decoded pictures that are kept: all of them.
const KEPT: usize = 2 << 30;

/// A loader of random pictures, of so many classes, and the folder where they lie.
pub(super) fn loader(count: usize, classes: usize, preprocessing: &Preprocessing) -> Result<(Loader, TempDir)> {
    let folder = TempDir::new().map_err(Error::io("write in", std::env::temp_dir()))?;
    let numbers = (0..count).into_par_iter();
    let items = numbers.map(|number| picture(folder.path(), number, number % classes)).collect::<Result<_>>()?;
    let loader = Loader::new(
        folder.path(),
        items,
        Transform::Training { size: preprocessing.size, augmentation: Augmentation::default() },
        1,
        KEPT,
    );
    Ok((loader.normalised_for(preprocessing), folder))
}

/// Writes a picture.
fn picture(folder: &Path, number: usize, label: usize) -> Result<Indexed> {
    let path = format!("{number}.png");
    let shade = |x: u32, y: u32| ((x * 7 + y * 13 + number as u32 * 31) % 251) as u8;
    let picture = RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Rgb([shade(x, y), shade(y, x), shade(x, x)]));
    let mut bytes = Vec::new();
    // What is read again within a second need not be small.
    picture
        .write_with_encoder(PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::NoFilter))
        .map_err(|error| Error::invalid(format!("could not encode a picture: {error}")))?;
    let file = folder.join(&path);
    std::fs::write(&file, &bytes).map_err(Error::io("write", &file))?;
    let item = Item { path, label, class_name: String::new() };
    Ok(Indexed::new(item, blake3::hash(&bytes).to_hex().to_string()))
}
