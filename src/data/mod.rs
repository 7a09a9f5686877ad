//! Data sets: manifests, split files, few-shot sampling, decoding, transforms, and the embedded world.

pub mod archive;
pub mod batch;
pub mod catalogue;
pub mod check;
pub mod classes;
pub mod fetch;
pub mod image;
pub mod import;
pub mod item;
pub mod likeness;
pub mod manifest;
pub mod pixels;
pub mod random;
pub mod reader;
pub mod resize;
pub mod sampling;
pub mod split;
pub mod sums;
pub mod transform;
pub mod world;

pub use batch::{Batch, Loader, OnBadImage};
pub use classes::Classes;
pub use item::{Indexed, Item, Labelled};
pub use manifest::Manifest;
pub use pixels::PixelCache;
pub use reader::Reader;
pub use sampling::{few_shot, few_shot_of_probe};
pub use split::{Split, SplitPart};
pub use transform::{Augmentation, Normalisation, Transform};
