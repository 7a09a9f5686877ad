//! The weights of a CLIP model as files: read, checked, converted and fetched, all without libtorch.

mod shapes;

pub use shapes::Shapes;
