//! Counts what is done with images and texts, so that a run can show that nothing is done twice.

use std::ops::{AddAssign, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What was done so far in this process.
static IMAGES_DECODED: AtomicU64 = AtomicU64::new(0);
static IMAGE_PASSES: AtomicU64 = AtomicU64::new(0);
static TEXT_PASSES: AtomicU64 = AtomicU64::new(0);
static BYTES_READ: AtomicU64 = AtomicU64::new(0);

/// What was done with images and texts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Image files that were decoded.
    pub images_decoded: u64,
    /// Images that ran through the image tower, in trainings forward and backward.
    pub image_passes: u64,
    /// Prompts that ran through the text tower, in trainings forward and backward.
    pub text_passes: u64,
    /// Bytes of files that were read to decode or to hash them.
    pub bytes_read: u64,
}

impl Tally {
    /// What this process has done since it started.
    pub fn so_far() -> Tally {
        Tally {
            images_decoded: IMAGES_DECODED.load(Ordering::Relaxed),
            image_passes: IMAGE_PASSES.load(Ordering::Relaxed),
            text_passes: TEXT_PASSES.load(Ordering::Relaxed),
            bytes_read: BYTES_READ.load(Ordering::Relaxed),
        }
    }

    /// An image file was decoded.
    pub fn decoded_image() {
        IMAGES_DECODED.fetch_add(1, Ordering::Relaxed);
    }

    /// So many images run through the image tower.
    pub fn passes_images(count: i64) {
        IMAGE_PASSES.fetch_add(count.unsigned_abs(), Ordering::Relaxed);
    }

    /// So many prompts run through the text tower.
    pub fn passes_texts(count: i64) {
        TEXT_PASSES.fetch_add(count.unsigned_abs(), Ordering::Relaxed);
    }

    /// All of this is done once more.
    pub fn repeats(self) {
        for (counter, count) in self.counters() {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// All of this was counted, and not done.
    pub fn takes_back(self) {
        for (counter, count) in self.counters() {
            counter.fetch_sub(count, Ordering::Relaxed);
        }
    }

    fn counters(self) -> [(&'static AtomicU64, u64); 4] {
        [
            (&IMAGES_DECODED, self.images_decoded),
            (&IMAGE_PASSES, self.image_passes),
            (&TEXT_PASSES, self.text_passes),
            (&BYTES_READ, self.bytes_read),
        ]
    }

    /// So many bytes of files were read.
    pub fn read_bytes(count: usize) {
        BYTES_READ.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Sub for Tally {
    type Output = Tally;

    /// What came after `earlier`.
    fn sub(self, earlier: Tally) -> Tally {
        Tally {
            images_decoded: self.images_decoded - earlier.images_decoded,
            image_passes: self.image_passes - earlier.image_passes,
            text_passes: self.text_passes - earlier.text_passes,
            bytes_read: self.bytes_read - earlier.bytes_read,
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.images_decoded += other.images_decoded;
        self.image_passes += other.image_passes;
        self.text_passes += other.text_passes;
        self.bytes_read += other.bytes_read;
    }
}
