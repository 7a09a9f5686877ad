//! CLIP on libtorch.

pub mod clip;
