//! Batches of images: read, checked, decoded and transformed in parallel, the same whatever the number of threads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use image::RgbImage;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image::decode;
use super::item::Indexed;
use super::pixels::{Form, Images, PixelCache, Pixels};
use super::random;
use super::transform::{Normalisation, Transform};
use crate::backbone::Preprocessing;
use crate::error::{Error, Result};
use crate::tally::Tally;

/// Images ready for the vision tower, and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The images' places in the loader's list, without those that were skipped.
    pub places: Vec<usize>,
    /// (image, row, column, channel), contiguous; [`Loader::normalisation`] says what each value is to the vision tower.
    pub pixels: Vec<u8>,
    /// The class of each image.
    pub labels: Vec<i64>,
    /// Rows, and columns, of an image.
    pub size: u32,
}

/// What to do about an image that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBadImage {
    /// The node fails and names it.
    #[default]
    Fail,
    /// It is left out, counted and named.
    Skip,
}

/// Images for each thread that are loaded before they are asked for, so that none is idle while others finish a batch.
const AHEAD: usize = 2;

/// Loads batches out of one list of images.
///
/// Decoded images that were not prepared are kept in memory until `cache_bytes` are used, so that the few images of a
/// few-shot run are decoded once and not once an epoch.
pub struct Loader {
    folder: PathBuf,
    items: Vec<Indexed>,
    transform: Transform,
    normalisation: Normalisation,
    seed: u64,
    cache: Cache,
    prepared: Pixels,
    on_bad_image: OnBadImage,
    skipped: Mutex<BTreeMap<usize, String>>,
}

impl Loader {
    /// A loader of `items` below the data set's folder; `seed` decides order and augmentation. With `cache_bytes` 0 every
    /// image is read anew, which suits one pass over many images. Pixels are normalised as OpenAI's models have them.
    pub fn new(folder: &Path, items: Vec<Indexed>, transform: Transform, seed: u64, cache_bytes: usize) -> Loader {
        let cache = Cache::new(items.len(), cache_bytes);
        Loader {
            folder: folder.to_owned(),
            items,
            transform,
            normalisation: Normalisation::new(&Preprocessing::openai(transform.size())),
            seed,
            cache,
            prepared: Pixels::default(),
            on_bad_image: OnBadImage::Fail,
            skipped: Mutex::default(),
        }
    }

    /// The same, with another way to treat images that cannot be decoded.
    pub fn on_bad_image(self, on_bad_image: OnBadImage) -> Loader {
        Loader { on_bad_image, ..self }
    }

    /// The same, with pixels normalised for another model.
    pub fn normalised_for(self, preprocessing: &Preprocessing) -> Loader {
        Loader { normalisation: Normalisation::new(preprocessing), ..self }
    }

    /// The same, on pixels out of `cache`, which are prepared now where they are not yet.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `stop` is true; when an image cannot be read, or cannot be decoded and is not skipped.
    pub fn prepared(self, cache: &PixelCache, stop: &dyn Fn() -> bool) -> Result<Loader> {
        let prepared = cache.pixels(&self, stop)?;
        Ok(Loader { prepared, ..self })
    }

    /// Writes a batch as the vision tower reads it, (image, channel, row, column), on all threads.
    ///
    /// # Panics
    /// When `output` does not hold as many values as the batch.
    pub fn normalise(&self, batch: &Batch, output: &mut [f32]) {
        assert_eq!(output.len(), batch.pixels.len(), "one value for each of the batch's");
        let values = 3 * batch.size as usize * batch.size as usize;
        let images = batch.pixels.par_chunks(values.max(1)).zip(output.par_chunks_mut(values.max(1)));
        images.for_each(|(pixels, output)| self.normalisation.apply(pixels, output));
    }

    /// What the values of pixels are to the vision tower.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
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
    /// When a place is beyond the list, a file cannot be read or decoded (unless such images are skipped), or its content
    /// is not what was indexed.
    pub fn batch(&self, places: &[usize], epoch: u64) -> Result<Batch> {
        self.batch_in(Vec::new(), places, epoch)
    }

    /// The same, in memory that an earlier batch had: new memory costs more time than what is written to it.
    ///
    /// # Errors
    /// Those of [`Loader::batch`].
    pub fn batch_in(&self, mut pixels: Vec<u8>, places: &[usize], epoch: u64) -> Result<Batch> {
        let size = self.transform.size();
        let values = 3 * size as usize * size as usize;
        pixels.resize(places.len() * values, 0);
        let images = pixels.par_chunks_mut(values.max(1)).zip(places);
        let good: Vec<bool> = images.map(|(output, &place)| self.fill(output, place, epoch)).collect::<Result<_>>()?;
        let good: Vec<usize> = (0..places.len()).filter(|&place| good[place]).collect();
        // Those that were skipped leave no gaps.
        for (to, &from) in good.iter().enumerate() {
            pixels.copy_within(from * values..(from + 1) * values, to * values);
        }
        pixels.truncate(good.len() * values);
        let places: Vec<usize> = good.into_iter().map(|place| places[place]).collect();
        let labels = places.iter().map(|&place| self.items[place].label as i64).collect();
        Ok(Batch { places, pixels, labels, size })
    }

    /// Gives the batches with these places to `work`, in order. The next ones are loaded meanwhile, on all threads, so
    /// that the device need not wait; a few of them, so that memory is bounded. Returns how long `work` had to wait all
    /// the same.
    ///
    /// # Errors
    /// Those of [`Loader::batch`] and of `work`, whichever comes first.
    pub fn each_batch<'p>(
        &self,
        batches: impl IntoIterator<Item = &'p [usize], IntoIter: Send>,
        epoch: u64,
        mut work: impl FnMut(&Batch) -> Result<()>,
    ) -> Result<Duration> {
        let mut batches = batches.into_iter().peekable();
        let wanted = AHEAD * rayon::current_num_threads();
        // Of batches that are smaller than that, several are loaded together.
        let together = batches.peek().map_or(1, |places| wanted.div_ceil(places.len().max(1)));
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(together);
            let (used, unused) = mpsc::channel();
            scope.spawn(move || {
                loop {
                    let next: Vec<_> = batches.by_ref().take(together).collect();
                    let memory: Vec<Vec<u8>> = next.iter().map(|_| unused.try_recv().unwrap_or_default()).collect();
                    let loaded =
                        next.into_par_iter().zip(memory).map(|(places, memory)| self.batch_in(memory, places, epoch));
                    let loaded: Vec<Result<Batch>> = loaded.collect();
                    // The receiver is gone when the work has failed.
                    if loaded.is_empty() || loaded.into_iter().any(|batch| sender.send(batch).is_err()) {
                        break;
                    }
                }
            });
            let mut waited = Duration::ZERO;
            loop {
                let clock = Instant::now();
                let Ok(batch) = receiver.recv() else { return Ok(waited) };
                waited += clock.elapsed();
                let batch = batch?;
                work(&batch)?;
                // The sender is gone when there is nothing more to load.
                let _ = used.send(batch.pixels);
            }
        })
    }

    /// The images that were skipped so far, and what is wrong with each.
    pub fn skipped(&self) -> Vec<(&Indexed, String)> {
        let skipped = self.skipped.lock().expect("nobody panics with it");
        skipped.iter().map(|(&place, message)| (&self.items[place], message.clone())).collect()
    }

    /// Writes an image; false when it is skipped.
    fn fill(&self, output: &mut [u8], place: usize, epoch: u64) -> Result<bool> {
        match (self.square(place, epoch), self.on_bad_image) {
            (Ok(square), _) => output.copy_from_slice(&square),
            (Err(error @ Error::Format { .. }), OnBadImage::Skip) => {
                self.skipped.lock().expect("nobody panics with it").insert(place, error.to_string());
                return Ok(false);
            }
            (Err(error), _) => return Err(or_skip(error)),
        }
        Ok(true)
    }

    /// One image after the transform, in 8 bits.
    fn square(&self, place: usize, epoch: u64) -> Result<Cow<'_, [u8]>> {
        let mut random = random::generator(self.seed, "augmentation", epoch, place as u64);
        let square = match (self.prepared.get(place), self.transform) {
            (Some(square), Transform::Evaluation { .. }) => return Ok(Cow::Borrowed(square.into_raw())),
            (Some(picture), transform) => transform.apply(&picture, &mut random),
            (None, transform) => transform.apply(&*self.picture(place)?, &mut random),
        };
        Ok(Cow::Owned(square.into_raw()))
    }

    /// One image as its file has it.
    fn picture(&self, place: usize) -> Result<Arc<RgbImage>> {
        let item = self.items.get(place).ok_or_else(|| {
            Error::invalid(format!("image {place} was asked for, but there are only {}", self.items.len()))
        })?;
        self.cache.get_or_decode(place, || read(&self.folder, item))
    }

    /// What is prepared of the images.
    #[cfg(test)]
    pub(super) fn prepared_pixels(&self) -> &Pixels {
        &self.prepared
    }
}

impl Images for Loader {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn items(&self) -> &[Indexed] {
        &self.items
    }

    fn form(&self) -> Form {
        match self.transform {
            Transform::Evaluation { size } => Form::Squares(size),
            Transform::Training { .. } => Form::Pictures,
        }
    }

    fn prepare(&self, place: usize) -> Result<Option<RgbImage>> {
        let read = read(&self.folder, &self.items[place]);
        match (read, self.form(), self.on_bad_image) {
            (Ok(picture), Form::Pictures, _) => Ok(Some(picture)),
            // An evaluation draws nothing.
            (Ok(picture), Form::Squares(_), _) => {
                Ok(Some(self.transform.apply(&picture, &mut random::generator(self.seed, "augmentation", 0, 0))))
            }
            (Err(Error::Format { .. }), _, OnBadImage::Skip) => Ok(None),
            (Err(error), ..) => Err(or_skip(error)),
        }
    }
}

/// Says how to go on without a broken image.
fn or_skip(error: Error) -> Error {
    match error {
        Error::Format { .. } => Error::hinted(
            error.to_string(),
            "replace the file, or leave such images out with `on_bad_image = \"skip\"`",
        ),
        error => error,
    }
}

/// Reads and decodes an image whose content must be what was indexed.
fn read(folder: &Path, item: &Indexed) -> Result<RgbImage> {
    let path = folder.join(&item.path);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    Tally::read_bytes(bytes.len());
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
    use crate::data::Augmentation;
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
    fn pixels_are_normalised_for_the_model() {
        let (folder, items) = images(1);
        let loader = || Loader::new(folder.path(), items.clone(), Transform::Evaluation { size: 6 }, 1, 0);
        let halves = Preprocessing { size: 6, mean: [0.5; 3], standard_deviation: [0.25; 3] };
        let back = |loader: Loader, Preprocessing { mean, standard_deviation, .. }: Preprocessing| {
            let batch = loader.batch(&[0], 0).unwrap();
            let mut normalised = vec![0.0; batch.pixels.len()];
            loader.normalise(&batch, &mut normalised);
            let pixels = normalised.into_iter().enumerate();
            let values = pixels.map(|(place, value)| value * standard_deviation[place / 36] + mean[place / 36]);
            values.map(|value| (255.0 * value).round()).collect::<Vec<f32>>()
        };
        assert_eq!(back(loader().normalised_for(&halves), halves), back(loader(), Preprocessing::openai(6)));
    }

    #[test]
    fn augmentation_depends_on_seed_epoch_and_image_not_on_the_batch() {
        let (folder, items) = images(4);
        let loader = |seed| {
            Loader::new(
                folder.path(),
                items.clone(),
                Transform::Training { size: 6, augmentation: Augmentation::default() },
                seed,
                1 << 20,
            )
        };
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
    fn batches_come_in_order_whatever_is_loaded_ahead() {
        let (folder, items) = images(7);
        let loader = Loader::new(folder.path(), items, Transform::Evaluation { size: 6 }, 1, 0);
        let places: Vec<usize> = (0..7).collect();
        let mut seen: Vec<usize> = Vec::new();
        loader
            .each_batch(places.chunks(2), 0, |batch| {
                assert_eq!(loader.batch(&batch.places, 0).unwrap(), *batch);
                seen.extend(&batch.places);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, places);
        let mut count = 0;
        let stopped = loader.each_batch(places.chunks(1), 0, |_| {
            count += 1;
            if count == 2 { Err(Error::Interrupted) } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(Error::Interrupted)) && count == 2);
    }

    #[test]
    fn bad_images_fail_or_are_skipped_and_named() {
        let (folder, mut items) = images(4);
        fs::write(folder.path().join("1.png"), "no image").unwrap();
        items[1].digest = blake3::hash(b"no image").to_hex().to_string();
        let loader = || Loader::new(folder.path(), items.clone(), Transform::Evaluation { size: 6 }, 1, 0);
        let message = loader().batch(&[0, 1], 0).unwrap_err().to_string();
        assert!(message.contains("1.png` is not a valid image"), "{message}");
        let skipping = loader().on_bad_image(OnBadImage::Skip);
        let batch = skipping.batch(&[0, 1, 3], 0).unwrap();
        assert_eq!(batch, loader().batch(&[0, 3], 0).unwrap());
        assert_eq!(batch.labels, [0, 0]);
        let skipped = skipping.skipped();
        assert_eq!(skipped.iter().map(|(item, _)| item.path.as_str()).collect::<Vec<_>>(), ["1.png"]);
        // What cannot be read at all is another matter.
        fs::remove_file(folder.path().join("0.png")).unwrap();
        assert!(skipping.batch(&[0], 0).is_err());
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
