//! The environment of a worker. It is chosen, not inherited, because many variables decide what libtorch and the libraries below
//! it compute: `ATEN_CPU_CAPABILITY`, `MKL_CBWR`, `ONEDNN_MAX_CPU_ISA`, `NVIDIA_TF32_OVERRIDE`, `LD_PRELOAD` and their like.

use std::ffi::OsString;
use std::process::Command;

use super::libtorch;
use super::mps;
use crate::error::Result;
use crate::numerics::Numerics;

/// Variables that a worker gets as they are: where things are, what language messages are in, which cards it may see.
const PASSED: [&str; 19] = [
    "CUDA_DEVICE_ORDER",
    mps::FOLDER,
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    LIBRARIES,
    "NO_PROXY",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where the system's loader looks for libraries.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// Variables that every worker gets with these values.
const SET: [(&str, &str); 4] = [
    // Threads are the worker's to start: libtorch's libraries must not start their own.
    ("OMP_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("MKL_DYNAMIC", "FALSE"),
    // The same bits from run to run, in products on a card.
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
];

/// Gives a worker's command its environment.
///
/// # Errors
/// pip has installed this program, and not the libtorch that it needs.
pub(super) fn choose(command: &mut Command, numerics: Numerics) -> Result<()> {
    command.env_clear();
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(SET).envs(numerics.environment().iter().copied()).envs(mps::environment());
    if let Some(folder) = libtorch::of_python()? {
        // Before all others: other folders may hold another libtorch.
        let mut folders = OsString::from(folder);
        if let Some(others) = std::env::var_os(LIBRARIES) {
            folders.push(":");
            folders.push(others);
        }
        command.env(LIBRARIES, folders);
    }
    Ok(())
}
