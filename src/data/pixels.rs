//! Prepared pixels: images up to where they differ from epoch to epoch, decoded once and kept in files that are mapped
//! into memory. Of evaluation images these are the squares that the vision tower sees, of training images the whole
//! pictures.
//!
//! A file holds any number of images by the digests of the files that they come from: a line that says what they are, the
//! pixels, a table of all images with a checksum of each, its length, and the hash of all that. So lists of images that overlap share them,
//! whatever stage, seed or class subset they belong to. Prepared pixels follow from the digests and the form alone, so
//! they are no part of any key: a result is the same with them and without, and they may be removed at any time.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use image::{ImageBuffer, Rgb, RgbImage};
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::item::Indexed;
use crate::error::{Error, Result};
use crate::files::{Claim, Claimed};
use crate::identity;
use crate::terminal;

/// The start of every file. Another way to decode, crop or resize raises the number; other decoders are named behind it.
const VERSION: &str = "maple-pipe prepared pixels 4";
/// Images that are decoded together.
const TOGETHER: usize = 64;
/// Bytes of the whole pictures of one list, beyond which the others are not prepared.
const MOST_OF_PICTURES: usize = 2 << 30;
/// Bytes of a checksum.
const CHECKSUM: usize = blake3::OUT_LEN;
/// Bytes of an image's row in the table: digest, first byte, width and height, checksum of the pixels.
const ROW: usize = blake3::OUT_LEN + 8 + 4 + 4 + CHECKSUM;
/// How often to look whether another process is done.
const PAUSE: Duration = Duration::from_millis(20);

/// The folder of a store that holds prepared pixels.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PixelCache(pub PathBuf);

/// What images are prepared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Cropped for evaluation, with so many pixels per side.
    Squares(u32),
    /// As they are.
    Pictures,
}

impl Display for Form {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Form::Squares(size) => write!(formatter, "squares of {size}"),
            Form::Pictures => formatter.write_str("pictures"),
        }
    }
}

impl Form {
    /// The line that a file of this form begins with.
    fn line(self) -> Vec<u8> {
        format!("{VERSION} by {}: {self}\n", identity::DECODERS).into_bytes()
    }

    /// Bytes of a list's images, beyond which the others are not prepared: those that are decoded together with the
    /// first one beyond are kept.
    fn most(self) -> usize {
        match self {
            Form::Squares(_) => usize::MAX,
            Form::Pictures => MOST_OF_PICTURES,
        }
    }
}

/// The prepared pixels of one list of images, as far as there are some.
#[derive(Debug, Default)]
pub struct Pixels {
    files: Vec<Mmap>,
    /// By place in the list: the file and what of it.
    images: Vec<Option<(usize, Row)>>,
    /// By place, whether the pixels have been found to be whole, or not.
    checked: Vec<OnceLock<bool>>,
}

/// Where an image lies in its file. One without pixels could not be decoded.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: usize,
    width: u32,
    height: u32,
    checksum: blake3::Hash,
}

impl Row {
    /// Bytes of the image.
    fn length(self) -> usize {
        3usize.saturating_mul(self.width as usize).saturating_mul(self.height as usize)
    }
}

impl Pixels {
    /// The image at a place of the list, where it is prepared. Its checksum is compared when it is first asked for; a damaged
    /// one counts as absent, so that nothing is computed from it.
    pub fn get(&self, place: usize) -> Option<ImageBuffer<Rgb<u8>, &[u8]>> {
        let (file, row) = (*self.images.get(place)?).filter(|(_, row)| row.width > 0)?;
        let pixels = &self.files[file][row.start..][..row.length()];
        let is_whole = *self.checked[place].get_or_init(|| {
            let is_whole = blake3::hash(pixels) == row.checksum;
            if !is_whole {
                terminal::warn("prepared pixels are damaged, and are decoded again: `maple-pipe verify --remove`");
            }
            is_whole
        });
        is_whole.then(|| ImageBuffer::from_raw(row.width, row.height, pixels))?
    }

    /// The places of images that nobody has tried to prepare, each image once.
    fn missing(&self, images: &dyn Images) -> Vec<usize> {
        let mut seen = HashSet::new();
        let absent = (0..self.images.len()).filter(|&place| self.images[place].is_none());
        absent.filter(|&place| seen.insert(&images.items()[place].digest)).collect()
    }

    /// Bytes of the images.
    fn bytes(&self) -> usize {
        self.images.iter().flatten().map(|(_, row)| row.length()).sum()
    }
}

/// Maps a file into memory and reads its table, if it is whole and its images are of this form.
fn open(file: &File, form: Form) -> Option<(Mmap, Vec<(blake3::Hash, Row)>)> {
    // SAFETY: such a file is never written again once it has its name, only removed, which leaves the map as it is.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
    let map = unsafe { Mmap::map(file) }.ok()?;
    let start = form.line().len();
    map.starts_with(&form.line()).then_some(())?;
    let (content, _) = map.split_last_chunk::<CHECKSUM>()?;
    let (content, count) = content.split_last_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(ROW)?;
    let (pixels, table) = content.split_at_checked(content.len().checked_sub(length)?)?;
    let row = |row: &[u8; ROW]| {
        let (digest, row) = row.split_first_chunk::<{ blake3::OUT_LEN }>()?;
        let (start_of_it, row) = row.split_first_chunk::<8>()?;
        let (width, row) = row.split_first_chunk::<4>()?;
        let (height, row) = row.split_first_chunk::<4>()?;
        let row = Row {
            start: usize::try_from(u64::from_le_bytes(*start_of_it)).ok()?,
            width: u32::from_le_bytes(*width),
            height: u32::from_le_bytes(*height),
            checksum: blake3::Hash::from_bytes(*row.first_chunk::<CHECKSUM>()?),
        };
        let lies_inside = row.start >= start && row.start.checked_add(row.length())? <= pixels.len();
        lies_inside.then_some((blake3::Hash::from_bytes(*digest), row))
    };
    let rows = table.as_chunks::<ROW>().0.iter().map(row).collect::<Option<_>>()?;
    Some((map, rows))
}

/// Images that can be prepared.
pub(super) trait Images: Sync {
    /// The folder that they lie below.
    fn folder(&self) -> &Path;

    /// Where each lies, and the digest of its file.
    fn items(&self) -> &[Indexed];

    /// What can be prepared of the images: as far as it is the same in every epoch.
    fn form(&self) -> Form;

    /// One image in this form; none where it cannot be decoded and is skipped.
    ///
    /// # Errors
    /// It cannot be read, or cannot be decoded and is not skipped.
    fn prepare(&self, place: usize) -> Result<Option<RgbImage>>;
}

impl PixelCache {
    /// The pixels of a images's images, prepared now where they are not yet; without some where there is no room for them
    /// or the folder cannot be written, which is no reason to fail.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `stop` is true; when an image cannot be read, or cannot be decoded and is not skipped.
    pub(super) fn pixels(&self, images: &dyn Images, stop: &dyn Fn() -> bool) -> Result<Pixels> {
        self.pixels_up_to(images.form().most(), images, stop)
    }

    /// The same; once there are `most` bytes, the other images are not prepared.
    fn pixels_up_to(&self, most: usize, images: &dyn Images, stop: &dyn Fn() -> bool) -> Result<Pixels> {
        let is_enough = |found: &Pixels| found.bytes() >= most || found.missing(images).is_empty();
        let found = self.find(images);
        if is_enough(&found) {
            return Ok(found);
        }
        loop {
            match Claim::take(self.claim(images)) {
                Ok(Claimed::Ours(_claim)) => {
                    // The last owner may have made some just now.
                    let found = self.find(images);
                    let is_made = !is_enough(&found) && {
                        let room = most - found.bytes();
                        self.prepare(images, &found.missing(images), room, stop)?
                    };
                    return Ok(if is_made { self.find(images) } else { found });
                }
                Ok(Claimed::Elsewhere(_)) if stop() => return Err(Error::Interrupted),
                Ok(Claimed::Elsewhere(_)) => std::thread::sleep(PAUSE),
                Err(_) => return Ok(found),
            }
        }
    }

    /// What there is of a images's images.
    fn find(&self, images: &dyn Images) -> Pixels {
        let digest = |place: usize| blake3::Hash::from_hex(&images.items()[place].digest).ok();
        let digests: Vec<Option<blake3::Hash>> = (0..images.items().len()).map(digest).collect();
        let mut rows: HashMap<blake3::Hash, Option<(usize, Row)>> =
            digests.iter().flatten().map(|digest| (*digest, None)).collect();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let is_one = entry.path().extension().is_some_and(|extension| extension == "pixels");
            let Some(file) = is_one.then(|| File::open(entry.path()).ok()).flatten() else { continue };
            let Some((map, table)) = open(&file, images.form()) else { continue };
            let mut is_used = false;
            for (digest, row) in table {
                if let Some(wanted @ None) = rows.get_mut(&digest) {
                    *wanted = Some((files.len(), row));
                    is_used = true;
                }
            }
            if is_used {
                // Whoever removes what is old goes by this time. A store that cannot be written is as good.
                let _ = file.set_modified(SystemTime::now());
                files.push(map);
            }
        }
        let images: Vec<_> = digests.iter().map(|digest| rows[digest.as_ref()?]).collect();
        Pixels { files, checked: images.iter().map(|_| OnceLock::new()).collect(), images }
    }

    /// Whoever prepares images of a data set in a form holds this.
    fn claim(&self, images: &dyn Images) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key(VERSION);
        hasher.update(&images.form().line()).update(images.folder().as_os_str().as_encoded_bytes());
        self.0.join(format!("{}.claim", hasher.finalize().to_hex()))
    }

    /// Writes a file with the images at these places, of which there is none yet, until `room` bytes are full; whole or
    /// not at all; false where that is not possible here.
    fn prepare(&self, images: &dyn Images, places: &[usize], room: usize, stop: &dyn Fn() -> bool) -> Result<bool> {
        let Ok(mut writer) = Writer::new(self, images.form()) else { return Ok(false) };
        let mut bytes = 0;
        for places in places.chunks(TOGETHER) {
            if bytes >= room {
                break;
            }
            if stop() {
                return Err(Error::Interrupted);
            }
            let prepared: Vec<_> = places.par_iter().map(|&place| images.prepare(place)).collect::<Result<_>>()?;
            for (&place, image) in places.iter().zip(prepared) {
                let image = image.unwrap_or_default();
                bytes += image.len();
                let Ok(digest) = blake3::Hash::from_hex(&images.items()[place].digest) else { continue };
                if writer.add(digest, &image).is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(writer.finish(self).is_ok())
    }
}

/// A file of prepared pixels on its way.
struct Writer {
    file: BufWriter<NamedTempFile>,
    hasher: blake3::Hasher,
    length: u64,
    table: Vec<u8>,
}

impl Writer {
    fn new(cache: &PixelCache, form: Form) -> io::Result<Writer> {
        let mut builder = tempfile::Builder::new();
        // Whoever shares the store reads it, too.
        let file = builder.permissions(Permissions::from_mode(0o644)).tempfile_in(&cache.0)?;
        let mut writer =
            Writer { file: BufWriter::new(file), hasher: blake3::Hasher::new(), length: 0, table: Vec::new() };
        writer.write(&form.line())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn add(&mut self, digest: blake3::Hash, image: &RgbImage) -> io::Result<()> {
        self.table.extend(digest.as_bytes());
        self.table.extend(self.length.to_le_bytes());
        self.table.extend(image.width().to_le_bytes());
        self.table.extend(image.height().to_le_bytes());
        self.table.extend(blake3::hash(image.as_raw()).as_bytes());
        self.write(image.as_raw())
    }

    fn finish(mut self, cache: &PixelCache) -> io::Result<()> {
        let table = std::mem::take(&mut self.table);
        self.write(&table)?;
        self.write(&((table.len() / ROW) as u64).to_le_bytes())?;
        let checksum = self.hasher.finalize();
        self.file.write_all(checksum.as_bytes())?;
        let file = self.file.into_inner()?;
        file.as_file().sync_data()?;
        file.persist(cache.0.join(format!("{}.pixels", checksum.to_hex())))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use image::RgbImage;

    use super::*;
    use crate::data::batch::Loader;
    use crate::data::{Augmentation, Indexed, Item, OnBadImage, Transform};

    /// A folder of `count` small images with a loader of them, and an empty cache.
    fn setting(count: usize) -> (tempfile::TempDir, impl Fn() -> Loader, PixelCache) {
        let folder = tempfile::tempdir().unwrap();
        let index = |place: usize| {
            let path = format!("{place}.png");
            let image = RgbImage::from_fn(9, 8, |x, y| {
                image::Rgb([x as u8 * 20, y as u8 * 25, (place as u8).wrapping_mul(30)])
            });
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
        assert_eq!(fs::metadata(&files(&cache)[0]).unwrap().permissions().mode() & 0o044, 0o044);
        // A file without its end is none of ours.
        let bytes = fs::read(&files(&cache)[0]).unwrap();
        fs::write(&files(&cache)[0], &bytes[..bytes.len() - 1]).unwrap();
        assert!(loader().prepared(&cache, &|| false).is_err());
    }

    #[test]
    fn damaged_pixels_are_decoded_again() {
        let (_folder, loader, cache) = setting(3);
        let expected = loader().batch(&[0, 1, 2], 0).unwrap();
        loader().prepared(&cache, &|| false).unwrap();
        let file = &files(&cache)[0];
        let whole = fs::read(file).unwrap();
        let start = Form::Squares(6).line().len();
        for damaged_byte in [start, start + 3 * 36 + 7, start + 3 * 3 * 36 - 1] {
            let mut damaged = whole.clone();
            damaged[damaged_byte] ^= 0x10;
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
            fs::write(file, &damaged).unwrap();
            let prepared = loader().prepared(&cache, &|| false).unwrap();
            assert_eq!(prepared.batch(&[0, 1, 2], 0).unwrap(), expected);
            let place = (damaged_byte - start) / (3 * 36);
            assert_eq!(
                [0, 1, 2].map(|image| prepared.prepared_pixels().get(image).is_some()),
                [0, 1, 2].map(|image| image != place)
            );
        }
    }

    #[test]
    fn files_of_other_decoders_are_not_read() {
        let (_folder, loader, cache) = setting(2);
        loader().prepared(&cache, &|| false).unwrap();
        let file = &files(&cache)[0];
        let text = fs::read(file).unwrap();
        let line = Form::Squares(6).line();
        assert!(String::from_utf8(line.clone()).unwrap().contains("mozjpeg "), "{line:?}");
        let mut other = text.clone();
        let digit = line.iter().rposition(u8::is_ascii_digit).unwrap();
        let version = line[..digit - 12].iter().rposition(u8::is_ascii_digit).unwrap();
        other[version] = if other[version] == b'9' { b'8' } else { other[version] + 1 };
        fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        fs::write(file, other).unwrap();
        loader().prepared(&cache, &|| false).unwrap();
        // The images were prepared again, to the same bits, so to a file of the same name.
        assert_eq!(fs::read(&files(&cache)[0]).unwrap(), text);
    }

    #[test]
    fn a_folder_that_cannot_be_written_goes_without() {
        let (_folder, loader, cache) = setting(2);
        fs::write(&cache.0, "a file").unwrap();
        let prepared = loader().prepared(&cache, &|| false).unwrap();
        assert_eq!(prepared.batch(&[1], 0).unwrap(), loader().batch(&[1], 0).unwrap());
    }

    #[test]
    fn lists_that_overlap_share_what_they_have_in_common() {
        let (folder, loader, cache) = setting(6);
        let part = |places: &[usize]| {
            let items = places.iter().map(|&place| loader().items()[place].clone()).collect();
            Loader::new(folder.path(), items, Transform::Evaluation { size: 6 }, 0, 0)
        };
        let prepare = |loader: Loader| loader.prepared(&cache, &|| false).unwrap();
        // One image twice is one image.
        prepare(part(&[0, 1, 0]));
        prepare(part(&[1, 2, 3]));
        let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
        let sizes: Vec<u64> = files(&cache).iter().map(size).collect();
        assert!(sizes.len() == 2 && sizes[0] == sizes[1], "{sizes:?}");
        let all = prepare(loader()).batch(&[0, 1, 2, 3, 4, 5], 0).unwrap();
        assert_eq!(all, loader().batch(&[0, 1, 2, 3, 4, 5], 0).unwrap());
        assert_eq!(files(&cache).len(), 3);
        // Nothing is missing any more.
        prepare(part(&[5, 0, 2]));
        assert_eq!(files(&cache).len(), 3);
        // Another size is another form.
        let other = Loader::new(folder.path(), loader().items().to_vec(), Transform::Evaluation { size: 5 }, 0, 0);
        prepare(other);
        assert_eq!(files(&cache).len(), 4);
    }

    #[test]
    fn training_pictures_are_decoded_once_and_shown_as_before() {
        let (folder, loader, cache) = setting(4);
        let training = |places: &[usize], seed| {
            let items = places.iter().map(|&place| loader().items()[place].clone()).collect();
            Loader::new(
                folder.path(),
                items,
                Transform::Training { size: 6, augmentation: Augmentation::default() },
                seed,
                0,
            )
        };
        let expected: Vec<_> = (0..3).map(|epoch| training(&[0, 1, 2], 1).batch(&[2, 0], epoch).unwrap()).collect();
        let prepared = training(&[0, 1, 2], 1).prepared(&cache, &|| false).unwrap();
        (0..3).for_each(|place| fs::remove_file(folder.path().join(format!("{place}.png"))).unwrap());
        for (epoch, expected) in (0..).zip(&expected) {
            assert_eq!(prepared.batch(&[2, 0], epoch).unwrap(), *expected);
        }
        // Another seed decodes what it alone has.
        training(&[2, 3], 2).prepared(&cache, &|| false).unwrap().batch(&[0, 1], 0).unwrap();
        assert_eq!(files(&cache).len(), 2);
    }

    #[test]
    fn images_beyond_the_limit_are_not_read() {
        let (folder, loader, cache) = setting(TOGETHER + 5);
        let loader = Loader::new(
            folder.path(),
            loader().items().to_vec(),
            Transform::Training { size: 6, augmentation: Augmentation::default() },
            0,
            0,
        );
        // Who reads a missing image fails.
        let path = |place: usize| folder.path().join(format!("{place}.png"));
        (TOGETHER..TOGETHER + 5).for_each(|place| fs::remove_file(path(place)).unwrap());
        let image = 3 * 9 * 8;
        let found = cache.pixels_up_to(2 * image, &loader, &|| false).unwrap();
        assert_eq!((found.bytes(), found.missing(&loader).len()), (TOGETHER * image, 5));
        // What is there is enough, and nothing more is made.
        cache.pixels_up_to(2 * image, &loader, &|| false).unwrap();
        assert_eq!(files(&cache).len(), 1);
        assert!(cache.pixels_up_to((TOGETHER + 1) * image, &loader, &|| false).is_err());
    }

    #[test]
    fn whoever_waits_looks_again_when_the_claim_is_free() {
        let (folder, loader, cache) = setting(4);
        let part = Loader::new(folder.path(), loader().items()[..2].to_vec(), Transform::Evaluation { size: 6 }, 0, 0);
        part.prepared(&cache, &|| false).unwrap();
        let file = File::open(&files(&cache)[0]).unwrap();
        let Ok(Claimed::Ours(claim)) = Claim::take(cache.claim(&loader())) else { panic!("nobody else has it") };
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let (claim, looks) = (std::sync::Mutex::new(Some(claim)), AtomicUsize::new(0));
        // A file that is read gets the time of now.
        let stop = || match looks.fetch_add(1, Ordering::Relaxed) {
            0 => file.set_modified(old).is_err(),
            1 => false,
            2 => {
                assert_eq!(file.metadata().unwrap().modified().unwrap(), old);
                drop(claim.lock().unwrap().take());
                false
            }
            _ => false,
        };
        let prepared = loader().prepared(&cache, &stop).unwrap();
        assert!((0..4).all(|place| prepared.prepared_pixels().get(place).is_some()));
        assert_ne!(file.metadata().unwrap().modified().unwrap(), old);
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
        assert!(files(&cache).is_empty());
        // Where it is skipped, the others are prepared, and nobody tries it again.
        let skipping = || loader().on_bad_image(OnBadImage::Skip).prepared(&cache, &|| false).unwrap();
        assert_eq!(skipping().batch(&[0, 1, 2], 0).unwrap().places, [0, 2]);
        assert_eq!(files(&cache).len(), 1);
        let again = skipping();
        (0..3).filter(|place| *place != 1).for_each(|place| {
            fs::remove_file(folder.path().join(format!("{place}.png"))).unwrap();
        });
        assert_eq!(again.batch(&[0, 1, 2], 0).unwrap().places, [0, 2]);
        assert_eq!(again.skipped().len(), 1);
        let message = loader().prepared(&cache, &|| false).unwrap().batch(&[1], 0).unwrap_err().to_string();
        assert!(message.contains("1.png` is not a valid image"), "{message}");
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
