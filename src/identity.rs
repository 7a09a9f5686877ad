//! What this build is. Both programs carry these, and a result names them.

/// The build: the first 16 hexadecimal digits of blake3 over the sources of both programs and `Cargo.lock`. Programs of one build mean
/// the same by a task and by its key.
pub const BUILD: &str = env!("MAPLE_PIPE_BUILD");

/// The version of libtorch that the worker is built with, e.g. `2.11.0`.
pub const LIBTORCH: &str = env!("MAPLE_PIPE_LIBTORCH");

/// The packages that decode images, with their versions.
pub const DECODERS: &str = env!("MAPLE_PIPE_DECODERS");

/// What `maple-pipe --version` prints behind the name.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (build ",
    env!("MAPLE_PIPE_BUILD"),
    ", libtorch ",
    env!("MAPLE_PIPE_LIBTORCH"),
    ")"
);
