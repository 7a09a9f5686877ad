//! libtorch's errors.

use maple_pipe::error::Error;

/// libtorch's error as ours; its own stack trace, which follows the first line, is dropped.
pub fn torch(error: tch::TchError) -> Error {
    Error::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
}
