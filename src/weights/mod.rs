//! The weights of a CLIP model as files: read, checked, converted and fetched, all without libtorch.

mod array;
mod catalogue;
mod checkpoint;
mod names;
mod pickle;
mod precision;
mod shapes;
mod torch;

pub use array::Array;
pub use catalogue::{PUBLISHED, Published};
pub use checkpoint::{Checkpoint, Format, to_safetensors};
pub use names::Names;
pub use precision::Precision;
pub use shapes::Shapes;
