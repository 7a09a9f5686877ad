//! In place of the package `zip` 0.6, whose default features compile zstd, bzip2 and AES: `tch` and the build of `torch-sys` ask for
//! them, and nothing here reads or writes what they are for.

pub use later::{CompressionMethod, ZipArchive, ZipWriter, result};

/// How archives are written.
pub mod write {
    pub use later::write::SimpleFileOptions as FileOptions;
}
