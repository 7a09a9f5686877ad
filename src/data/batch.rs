//! Batches of images: read, checked, decoded and transformed in parallel, the same whatever the number of threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use image::RgbImage;
use rayon::prelude::*;

use super::image::decode;
use super::item::Indexed;
use super::random;
use super::transform::{Transform, normalise};
use crate::error::{Error, Result};

/// Images ready for the vision tower, and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// (image, channel, row, column), contiguous.
    pub pixels: Vec<f32>,
    /// The class of each image.
    pub labels: Vec<i64>,
    /// Rows, and columns, of an image.
    pub size: u32,
}

/// Loads batches out of one list of images.
///
/// Decoded images are kept in memory until `cache_bytes` are used, so that the few images of a few-shot run are
/// decoded once and not once an epoch.
pub struct Loader {
    folder: PathBuf,
    items: Vec<Indexed>,
    transform: Transform,
    seed: u64,
    cache: Cache,
}

impl Loader {
    /// A loader of `items` below the data set's folder; `seed` decides order and augmentation. With `cache_bytes` 0 every
    /// image is read anew, which suits one pass over many images.
    pub fn new(folder: &Path, items: Vec<Indexed>, transform: Transform, seed: u64, cache_bytes: usize) -> Loader {
        let cache = Cache::new(items.len(), cache_bytes);
        Loader { folder: folder.to_owned(), items, transform, seed, cache }
    }

    /// The images that the loader has, in the order that batches refer to.
    pub fn items(&self) -> &[Indexed] {
        &self.items
    }

    /// The order of all images in one epoch of training.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        random::order(&mut random::generator(self.seed, "order", epoch, 0), self.items.len())
    }

    /// The images at these places of the list, in this order, as one epoch shows them: augmentation depends on the
    /// seed, the epoch and the image's place alone.
    ///
    /// # Errors
    /// When a place is beyond the list, a file cannot be read or decoded, or its content is not what was indexed.
    pub fn batch(&self, places: &[usize], epoch: u64) -> Result<Batch> {
        let size = self.transform.size();
        let values = 3 * size as usize * size as usize;
        let mut pixels = vec![0.0; places.len() * values];
        let images = pixels.par_chunks_mut(values.max(1)).zip(places);
        images.try_for_each(|(output, &place)| {
            normalise(&self.square(place, epoch)?, output);
            Ok::<(), Error>(())
        })?;
        let labels = places.iter().map(|&place| self.items[place].label as i64).collect();
        Ok(Batch { pixels, labels, size })
    }

    /// One image after the transform, in 8 bits.
    fn square(&self, place: usize, epoch: u64) -> Result<RgbImage> {
        let item = self.items.get(place).ok_or_else(|| {
            Error::invalid(format!("image {place} was asked for, but there are only {}", self.items.len()))
        })?;
        let image = self.cache.get_or_decode(place, || read(&self.folder, item))?;
        let mut random = random::generator(self.seed, "augmentation", epoch, place as u64);
        Ok(self.transform.apply(&image, &mut random))
    }
}

/// Reads and decodes an image whose content must be what was indexed.
fn read(folder: &Path, item: &Indexed) -> Result<RgbImage> {
    let path = folder.join(&item.path);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    if blake3::hash(&bytes).to_hex().as_str() != item.digest {
        let message = format!("`{}` has changed since it was indexed", path.display());
        return Err(Error::hinted(message, "restore the file, or run the pipeline again to index the data set anew"));
    }
    decode(&bytes, &path)
}

/// Decoded images by their place, up to a number of bytes; what is in stays in.
struct Cache {
    images: Vec<OnceLock<Arc<RgbImage>>>,
    bytes_left: AtomicUsize,
}

impl Cache {
    fn new(length: usize, bytes: usize) -> Cache {
        Cache {
            images: std::iter::repeat_with(OnceLock::new).take(length).collect(),
            bytes_left: AtomicUsize::new(bytes),
        }
    }

    fn get_or_decode(&self, place: usize, decode: impl FnOnce() -> Result<RgbImage>) -> Result<Arc<RgbImage>> {
        if let Some(image) = self.images[place].get() {
            return Ok(image.clone());
        }
        let image = Arc::new(decode()?);
        let bytes = image.as_raw().len();
        let take = |left: usize| left.checked_sub(bytes);
        if self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            // Two threads may decode the same image at once; the second one's room is given back.
            if self.images[place].set(image.clone()).is_err() {
                self.bytes_left.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::item::Item;

    /// A folder of `count` small images, their index, and each image's decoded bytes.
    fn images(count: usize) -> (tempfile::TempDir, Vec<Indexed>) {
        let folder = tempfile::tempdir().unwrap();
        let index = |place: usize| {
            let path = format!("{place}.png");
            let image = RgbImage::from_fn(12, 9, |x, y| image::Rgb([x as u8 * 20, y as u8 * 25, place as u8 * 30]));
            image.save(folder.path().join(&path)).unwrap();
            let digest = blake3::hash(&fs::read(folder.path().join(&path)).unwrap()).to_hex().to_string();
            Indexed::new(Item { path, label: place % 3, class_name: "a".into() }, digest)
        };
        let items = (0..count).map(index).collect();
        (folder, items)
    }

    #[test]
    fn a_batch_keeps_the_order_asked_for() {
        let (folder, items) = images(5);
        let loader = Loader::new(folder.path(), items, Transform::Evaluation { size: 6 }, 1, 0);
        let batch = loader.batch(&[4, 0, 3], 0).unwrap();
        assert_eq!(batch.labels, [1, 0, 0]);
        assert_eq!((batch.pixels.len(), batch.size), (3 * 3 * 36, 6));
        for (place, pixels) in [4, 0, 3].into_iter().zip(batch.pixels.chunks(3 * 36)) {
            assert_eq!(loader.batch(&[place], 7).unwrap().pixels, pixels);
        }
        let error = loader.batch(&[5], 0).unwrap_err().to_string();
        assert!(error.contains("image 5 was asked for, but there are only 5"), "{error}");
        assert!(loader.batch(&[], 0).unwrap().pixels.is_empty());
    }

    #[test]
    fn augmentation_depends_on_seed_epoch_and_image_not_on_the_batch() {
        let (folder, items) = images(4);
        let loader = |seed| Loader::new(folder.path(), items.clone(), Transform::Training { size: 6 }, seed, 1 << 20);
        let first = loader(1);
        let together = first.batch(&[0, 1, 2, 3], 2).unwrap().pixels;
        let alone = |loader: &Loader, epoch| loader.batch(&[2], epoch).unwrap().pixels;
        assert_eq!(alone(&first, 2), together[2 * 108..3 * 108]);
        assert_eq!(alone(&loader(1), 2), alone(&first, 2));
        assert_ne!(alone(&first, 3), alone(&first, 2));
        assert_ne!(alone(&loader(2), 2), alone(&first, 2));
        assert_eq!(first.order(2), loader(1).order(2));
        assert_ne!((first.order(0), first.order(1)), (first.order(1), first.order(2)));
    }

    #[test]
    fn the_cache_holds_images_up_to_its_bound() {
        let (folder, items) = images(3);
        let room_for_two = 2 * 12 * 9 * 3;
        let loader = Loader::new(folder.path(), items, Transform::Evaluation { size: 6 }, 1, room_for_two);
        let batch = loader.batch(&[0, 1], 0).unwrap();
        loader.batch(&[2], 0).unwrap();
        (0..3).for_each(|place| fs::remove_file(folder.path().join(format!("{place}.png"))).unwrap());
        assert_eq!(loader.batch(&[0, 1], 1).unwrap(), batch);
        let error = loader.batch(&[2], 1).unwrap_err().to_string();
        assert!(error.contains("could not read") && error.contains("2.png"), "{error}");
    }

    #[test]
    fn a_changed_file_is_an_error() {
        let (folder, items) = images(2);
        fs::copy(folder.path().join("0.png"), folder.path().join("1.png")).unwrap();
        let loader = Loader::new(folder.path(), items, Transform::Evaluation { size: 6 }, 1, 0);
        let error = loader.batch(&[0, 1], 0).unwrap_err().to_string();
        assert!(error.contains("1.png` has changed since it was indexed"), "{error}");
    }
}
