//! CLIP and its learners on libtorch.

pub mod clip;
pub mod method;
