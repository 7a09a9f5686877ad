//! What a stage leaves.

/// A file or folder that a stage leaves in its scratch folder.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// How other stages and records call it.
    pub name: &'static str,
    /// The file's name in the scratch folder, and in `results/`.
    pub file: &'static str,
}
