//! Prepared pixels: the squares that the vision tower sees of a list of evaluation images, decoded and cropped once and
//! kept in one file, which is mapped into memory.
//!
//! They follow from the images' digests and the size alone, so they are no part of any key: an evaluation is the same
//! with them and without, and they may be removed at any time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::batch::Loader;
use crate::error::{Error, Result};
use crate::store::{Claim, Claimed};

/// Part of every file's name: another decoder or another way to resize makes other files.
const VERSION: &str = "maple-pipe prepared pixels 1";
/// Images that are decoded together.
const TOGETHER: usize = 256;
/// Bytes of the checksum that ends a file.
const CHECKSUM: usize = blake3::OUT_LEN;
/// How often to look whether another process is done.
const PAUSE: Duration = Duration::from_millis(20);

/// The folder of a store that holds prepared pixels.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PixelCache(pub PathBuf);

/// The prepared pixels of one list of images.
#[derive(Debug)]
pub struct Pixels {
    map: Mmap,
    /// Bytes of one image.
    square: usize,
}

impl Pixels {
    /// The image at a place of the list: 3 x size x size values, row by row, a pixel's channels together.
    pub fn get(&self, place: usize) -> &[u8] {
        &self.map[place * self.square..][..self.square]
    }

    /// The file there, if it is one of `count` images of `square` bytes.
    fn open(path: &Path, count: usize, square: usize) -> Option<Pixels> {
        let file = File::open(path).ok()?;
        if file.metadata().ok()?.len() != (count * square + CHECKSUM) as u64 {
            return None;
        }
        // Whoever removes what is old goes by this time. A store that cannot be written is as good.
        let _ = file.set_modified(SystemTime::now());
        // SAFETY: such a file is never written again once it has its name, only removed, which leaves the map as it is.
        #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
        let map = unsafe { Mmap::map(&file) }.ok()?;
        Some(Pixels { map, square })
    }
}

impl PixelCache {
    /// The pixels of a loader's images, prepared now where they are not yet. `None` when there is no room for them or the
    /// folder cannot be written, which is no reason to fail.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `stop` is true; when an image cannot be read or decoded.
    pub(super) fn pixels(&self, loader: &Loader, size: u32, stop: &dyn Fn() -> bool) -> Result<Option<Pixels>> {
        let (count, square) = (loader.items().len(), 3 * (size * size) as usize);
        let path = self.path(loader, size);
        loop {
            if let Some(pixels) = Pixels::open(&path, count, square) {
                return Ok(Some(pixels));
            }
            match Claim::take(path.with_extension("claim")) {
                Ok(Claimed::Ours(_claim)) => {
                    // The last owner may have made it just now.
                    if !path.exists() && !self.prepare(&path, loader, stop)? {
                        return Ok(None);
                    }
                    return Ok(Pixels::open(&path, count, square));
                }
                Ok(Claimed::Elsewhere(_)) if stop() => return Err(Error::Interrupted),
                Ok(Claimed::Elsewhere(_)) => std::thread::sleep(PAUSE),
                Err(_) => return Ok(None),
            }
        }
    }

    fn path(&self, loader: &Loader, size: u32) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key(VERSION);
        hasher.update(&size.to_le_bytes());
        for item in loader.items() {
            hasher.update(item.digest.as_bytes());
        }
        self.0.join(format!("{}.pixels", hasher.finalize().to_hex()))
    }

    /// Writes the file, whole or not at all; false where that is not possible here.
    fn prepare(&self, path: &Path, loader: &Loader, stop: &dyn Fn() -> bool) -> Result<bool> {
        let Ok(file) = NamedTempFile::new_in(&self.0) else { return Ok(false) };
        let mut hasher = blake3::Hasher::new();
        let mut writer = BufWriter::new(file);
        let places: Vec<usize> = (0..loader.items().len()).collect();
        for places in places.chunks(TOGETHER) {
            if stop() {
                return Err(Error::Interrupted);
            }
            let squares: Vec<_> = places.par_iter().map(|&place| loader.square(place, 0)).collect::<Result<_>>()?;
            for pixels in &squares {
                hasher.update(pixels.as_raw());
                if writer.write_all(pixels.as_raw()).is_err() {
                    return Ok(false);
                }
            }
        }
        let kept = writer
            .write_all(hasher.finalize().as_bytes())
            .and_then(|()| writer.into_inner().map_err(std::io::IntoInnerError::into_error))
            .and_then(|file| file.persist(path).map_err(|error| error.error));
        Ok(kept.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use image::RgbImage;

    use super::*;
    use crate::data::{Indexed, Item, OnBadImage, Transform};

    /// A folder of `count` small images with a loader of them, and an empty cache.
    fn setting(count: usize) -> (tempfile::TempDir, impl Fn() -> Loader, PixelCache) {
        let folder = tempfile::tempdir().unwrap();
        let index = |place: usize| {
            let path = format!("{place}.png");
            let image = RgbImage::from_fn(9, 8, |x, y| image::Rgb([x as u8 * 20, y as u8 * 25, place as u8 * 30]));
            image.save(folder.path().join(&path)).unwrap();
            let digest = blake3::hash(&fs::read(folder.path().join(&path)).unwrap()).to_hex().to_string();
            Indexed::new(Item { path, label: place, class_name: "a".into() }, digest)
        };
        let items: Vec<Indexed> = (0..count).map(index).collect();
        let cache = PixelCache(folder.path().join("pixels"));
        let path = folder.path().to_owned();
        let loader = move || Loader::new(&path, items.clone(), Transform::Evaluation { size: 6 }, 0, 0);
        (folder, loader, cache)
    }

    fn files(cache: &PixelCache) -> Vec<PathBuf> {
        fs::read_dir(&cache.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn prepared_pixels_are_those_of_the_images() {
        let (folder, loader, cache) = setting(5);
        let places = [4, 0, 2];
        let expected = loader().batch(&places, 0).unwrap();
        assert_eq!(loader().prepared(&cache, &|| false).unwrap().batch(&places, 0).unwrap(), expected);
        assert_eq!(files(&cache).len(), 1);
        // From now on the images are not read.
        (0..5).for_each(|place| fs::remove_file(folder.path().join(format!("{place}.png"))).unwrap());
        assert_eq!(loader().prepared(&cache, &|| false).unwrap().batch(&places, 0).unwrap(), expected);
        // A file of another length is none of ours.
        fs::write(&files(&cache)[0], "short").unwrap();
        assert!(loader().prepared(&cache, &|| false).unwrap().batch(&places, 0).is_err());
    }

    #[test]
    fn training_images_and_folders_that_cannot_be_written_go_without() {
        let (folder, loader, cache) = setting(2);
        fs::write(&cache.0, "a file").unwrap();
        let prepared = loader().prepared(&cache, &|| false).unwrap();
        assert_eq!(prepared.batch(&[1], 0).unwrap(), loader().batch(&[1], 0).unwrap());
        let training = Loader::new(folder.path(), loader().items().to_vec(), Transform::Training { size: 6 }, 0, 0);
        training.prepared(&PixelCache(folder.path().join("other")), &|| false).unwrap();
        assert!(!folder.path().join("other").exists());
    }

    #[test]
    fn an_interruption_or_a_bad_image_leaves_nothing() {
        let (folder, loader, cache) = setting(3);
        assert!(matches!(loader().prepared(&cache, &|| true).err(), Some(Error::Interrupted)));
        assert!(files(&cache).is_empty());
        fs::write(folder.path().join("1.png"), "no image").unwrap();
        let mut items = loader().items().to_vec();
        items[1].digest = blake3::hash(b"no image").to_hex().to_string();
        let loader = || Loader::new(folder.path(), items.clone(), Transform::Evaluation { size: 6 }, 0, 0);
        let message = loader().prepared(&cache, &|| false).err().unwrap().to_string();
        assert!(message.contains("1.png"), "{message}");
        let skipping = loader().on_bad_image(OnBadImage::Skip).prepared(&cache, &|| false).unwrap();
        assert_eq!(skipping.batch(&[0, 1, 2], 0).unwrap().places, [0, 2]);
        assert!(files(&cache).is_empty());
    }

    #[test]
    fn several_at_once_prepare_once() {
        let (_folder, loader, cache) = setting(20);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loader().prepared(&cache, &|| false).unwrap().batch(&[7], 0).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((done.into_inner(), files(&cache).len()), (6, 1));
    }
}
