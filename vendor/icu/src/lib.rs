//! In place of the package `icu`, which names all of ICU4X: `plsfix` uses its normalizer alone.

pub use icu_normalizer as normalizer;
