//! The weights of a CLIP model as files: read, checked, converted and fetched, all without libtorch.

mod array;
mod catalogue;
mod checkpoint;
mod mistaken;
mod names;
mod number_format;
mod pickle;
mod shapes;
mod torch;
mod torch_archive;

/// The entry of a file that holds a text of ours: beside the model in what `torch.save` writes; in the metadata of a safetensors
/// file, and one only, because several are written in no fixed order.
const NOTE: &str = "maple-pipe";

pub use array::Array;
pub use catalogue::{PUBLISHED, PublishedWeights, known};
pub use checkpoint::{ALIGNMENT, Checkpoint, Format, to_safetensors};
pub use names::{Names, is_no_weight, wrapper};
pub use number_format::NumberFormat;
pub use shapes::Shapes;
pub use torch_archive::to_torch_archive;
