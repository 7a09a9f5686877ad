//! Measures how fast images become what the vision tower reads, beside Pillow where that is installed.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;
use walkdir::WalkDir;

use crate::data::image::decode;
use crate::data::random::generator;
use crate::data::reader::is_image;
use crate::data::{Indexed, Item, Loader, PixelCache, Transform};
use crate::error::{Error, Result};

/// Images per batch, as in evaluation.
const BATCH: usize = 100;
/// Images of a test set, as the published data sets have them.
const TEST_SET: usize = 4_000;
/// What Pillow does, as torchvision asks it to; prints the seconds.
const PILLOW: &str = r#"
import multiprocessing, sys, time
from PIL import Image

def work(path):
    size = int(sys.argv[1])
    image = Image.open(path).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    width, height = int(size * width / shorter), int(size * height / shorter)
    image = image.resize((width, height), Image.BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size)).tobytes()[0]

if __name__ == "__main__":
    paths = sys.stdin.read().split("\0")
    with multiprocessing.Pool(int(sys.argv[2])) as pool:
        pool.map(work, paths[:8])
        start = time.perf_counter()
        pool.map(work, paths, 16)
        print(time.perf_counter() - start)
"#;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct ImageFigures {
    /// Images in the folder.
    pub images: usize,
    /// Pixels per side of the result.
    pub size: u32,
    /// One for each number of threads.
    pub rows: Vec<ImageRow>,
    /// Milliseconds that a device is taken to be busy with a batch.
    pub busy: u64,
    /// The share of its time that it then waits for prepared pixels, on all processors.
    pub waits_for_prepared: f64,
    /// The share of its time that it then waits for images from files.
    pub waits_for_files: f64,
}

/// Images per second.
#[derive(Debug, Serialize)]
pub struct ImageRow {
    /// Threads, or Pillow's processes.
    pub threads: usize,
    /// Read, decoded, resized and cropped, as Pillow does it.
    pub decoded: f64,
    /// The same, also compared with the digest, normalised, and put into batches.
    pub from_files: f64,
    /// Normalised out of prepared pixels.
    pub from_prepared: f64,
    /// What `decoded` counts, by Pillow, where Python has it.
    pub pillow: Option<f64>,
}

/// Measures all JPEG, PNG, WebP, GIF and BMP files below a folder, best of `runs`, and how long a device waits that is
/// `busy` milliseconds with a batch of 100.
///
/// # Errors
/// When there are none, or one cannot be read.
pub fn images(
    folder: &Path,
    size: u32,
    threads: &[usize],
    runs: usize,
    busy: u64,
    python: &Path,
) -> Result<ImageFigures> {
    let paths = files(folder)?;
    if paths.is_empty() {
        return Err(Error::hinted(
            format!("there are no images in `{}`", folder.display()),
            "name a folder with photographs, such as a data set's",
        ));
    }
    let mut items = Vec::new();
    for path in &paths {
        let bytes = std::fs::read(folder.join(path)).map_err(Error::io("read", path))?;
        let item = Item { path: path.to_string_lossy().into_owned(), label: 0, class_name: String::new() };
        items.push(Indexed::new(item, blake3::hash(&bytes).to_hex().to_string()));
    }
    let cache = tempfile::tempdir().map_err(Error::io("write in", std::env::temp_dir()))?;
    let cache = PixelCache(cache.path().to_owned());
    let loader = || Loader::new(folder, items.clone(), Transform::Evaluation { size }, 0, 0);
    let prepared = loader().prepared(&cache, &|| false)?;
    let mut rows = Vec::new();
    for &threads in threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::invalid(format!("could not start threads: {error}")))?;
        let rate = |work: &(dyn Fn() -> Result<()> + Sync)| -> Result<f64> {
            let mut best = Duration::MAX;
            for _ in 0..runs {
                let clock = Instant::now();
                pool.install(work)?;
                best = best.min(clock.elapsed());
            }
            Ok(paths.len() as f64 / best.as_secs_f64())
        };
        let pillow = (0..runs).filter_map(|_| pillow(python, folder, &paths, size, threads)).reduce(f64::max);
        rows.push(ImageRow {
            threads,
            decoded: rate(&|| paths.par_iter().try_for_each(|path| decoded(&folder.join(path), size)))?,
            from_files: rate(&|| batches(&loader()))?,
            from_prepared: rate(&|| batches(&prepared))?,
            pillow,
        });
    }
    let busy_for = Duration::from_millis(busy);
    Ok(ImageFigures {
        images: paths.len(),
        size,
        rows,
        busy,
        waits_for_prepared: waits(&prepared, busy_for)?,
        waits_for_files: waits(&loader(), busy_for)?,
    })
}

/// Reads, decodes and crops one image.
fn decoded(path: &Path, size: u32) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let transform = Transform::Evaluation { size };
    black_box(transform.apply(&decode(&bytes, path)?, &mut generator(0, "unused", 0, 0)));
    Ok(())
}

/// Loads all images in batches, as the vision tower reads them.
fn batches(loader: &Loader) -> Result<()> {
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let (mut memory, mut normalised) = (Vec::new(), Vec::new());
    for places in places.chunks(BATCH) {
        let batch = loader.batch_in(memory, places, 0)?;
        normalised.resize(batch.pixels.len(), 0.0);
        loader.normalise(&batch, &mut normalised);
        black_box(&normalised);
        memory = batch.pixels;
    }
    Ok(())
}

/// The share of its time that a device waits which is busy so long with a batch, on a test set of the usual length.
fn waits(loader: &Loader, busy: Duration) -> Result<f64> {
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let places = places.repeat(TEST_SET.div_ceil(places.len()));
    let clock = Instant::now();
    let waited = loader.each_batch(places.chunks(BATCH), 0, |batch| {
        std::thread::sleep(busy.mul_f64(batch.labels.len() as f64 / BATCH as f64));
        Ok(())
    })?;
    Ok(waited.as_secs_f64() / clock.elapsed().as_secs_f64())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::io("read", folder)(error.into()))?;
        if is_image(entry.path()) && entry.file_type().is_file() {
            paths.push(entry.path().strip_prefix(folder).expect("it is below").to_owned());
        }
    }
    Ok(paths)
}

/// Images per second of Pillow; `None` where Python does not have it.
fn pillow(python: &Path, folder: &Path, paths: &[PathBuf], size: u32, processes: usize) -> Option<f64> {
    let script = tempfile::Builder::new().suffix(".py").tempfile().ok()?;
    std::fs::write(script.path(), PILLOW).ok()?;
    let list = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\0");
    let input = tempfile::NamedTempFile::new().ok()?;
    std::fs::write(input.path(), list).ok()?;
    let output = Command::new(python)
        .arg(script.path())
        .args([size.to_string(), processes.to_string()])
        .current_dir(folder)
        .stdin(std::fs::File::open(input.path()).ok()?)
        .output()
        .ok()?;
    let seconds: f64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    Some(paths.len() as f64 / seconds)
}
