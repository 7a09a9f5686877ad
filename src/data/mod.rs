//! Data sets: manifests, split files, few-shot sampling, decoding, transforms, and the embedded world.

pub mod batch;
pub mod classes;
pub mod image;
pub mod item;
pub mod manifest;
pub mod pixels;
pub mod random;
pub mod resize;
pub mod sampling;
pub mod split;
pub mod transform;
pub mod world;

pub use batch::{Batch, Loader, OnBadImage};
pub use classes::Classes;
pub use item::{Indexed, Item, Labelled};
pub use manifest::Manifest;
pub use pixels::PixelCache;
pub use sampling::few_shot;
pub use split::Split;
pub use transform::Transform;
