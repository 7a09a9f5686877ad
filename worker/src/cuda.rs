//! Streams and graphs on cards, by `cuda.cpp`, which is compiled into a library of its own and loaded behind libtorch's part for
//! CUDA.
#![expect(unsafe_code, reason = "calls into C++")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::LazyLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use maple_pipe::error::{Error, Result};

/// The library; empty where libtorch's headers for CUDA were not there when this program was built.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libmaple_cuda.so"));

/// What a function of the library returns: null, or what went wrong.
type Answer = *const c_char;

/// The functions of the library.
struct Functions {
    use_own_stream: unsafe extern "C" fn(c_int) -> Answer,
    begin: unsafe extern "C" fn(*mut *mut c_void) -> Answer,
    end: unsafe extern "C" fn(*mut c_void) -> Answer,
    replay: unsafe extern "C" fn(*mut c_void) -> Answer,
    free: unsafe extern "C" fn(*mut c_void) -> Answer,
}

static FUNCTIONS: LazyLock<Result<Functions, String>> = LazyLock::new(load);

/// Loads the library, which is never unloaded.
fn load() -> Result<Functions, String> {
    if LIBRARY.is_empty() {
        return Err("this build was made without libtorch's headers for CUDA".to_owned());
    }
    let file = in_memory(LIBRARY).map_err(|error| error.to_string())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the library's initialisers are those of `cuda.cpp`, which has none but what its headers bring.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| error.to_string())?;
    let library = Box::leak(Box::new(library));
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: the types of the fields are those of `cuda.cpp`.
            *unsafe { library.get($name) }.map_err(|error| error.to_string())?
        };
    }
    Ok(Functions {
        use_own_stream: function!(b"maple_use_own_stream\0"),
        begin: function!(b"maple_graph_begin\0"),
        end: function!(b"maple_graph_end\0"),
        replay: function!(b"maple_graph_replay\0"),
        free: function!(b"maple_graph_free\0"),
    })
}

/// A file that is in no file system, from which programs may be loaded whatever the mounts say.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    // SAFETY: the function takes a text that ends with a zero, and returns a descriptor of our own.
    let file = match unsafe { libc::memfd_create(c"maple_cuda".as_ptr(), libc::MFD_CLOEXEC) } {
        -1 => return Err(std::io::Error::last_os_error()),
        descriptor => unsafe { File::from_raw_fd(descriptor) },
    };
    (&file).write_all(bytes)?;
    Ok(file)
}

fn functions() -> Result<&'static Functions> {
    FUNCTIONS.as_ref().map_err(|error| Error::invalid(format!("CUDA graphs cannot be used: {error}")))
}

fn check(answer: Answer) -> Result<()> {
    if answer.is_null() {
        return Ok(());
    }
    // SAFETY: the library answers with a text that ends with a zero and stays until this thread calls it again.
    let text = unsafe { CStr::from_ptr(answer) }.to_string_lossy();
    // What follows the first line is where in libtorch it happened.
    Err(Error::invalid(text.lines().next().unwrap_or_default().to_owned()))
}

/// From now on this thread's work on a card goes to a stream of its own, which is needed to record it.
///
/// # Errors
/// The library cannot be loaded, or CUDA fails.
pub fn use_own_stream(card: usize) -> Result<()> {
    let card = c_int::try_from(card).map_err(|_| Error::invalid(format!("there is no card {card}")))?;
    // SAFETY: the function takes a number.
    check(unsafe { (functions()?.use_own_stream)(card) })
}

/// Work on a card that was recorded once and is replayed. What it reads and writes stays where it was then.
#[derive(Debug)]
pub struct CudaGraph(*mut c_void);

impl CudaGraph {
    /// Records work, which is not done. It must compute the same at every replay, and read nothing from the card.
    ///
    /// # Errors
    /// Those of the work and of CUDA; nothing is recorded then.
    pub fn record<T>(work: impl FnOnce() -> Result<T>) -> Result<(CudaGraph, T)> {
        let functions = functions()?;
        let mut graph = CudaGraph(std::ptr::null_mut());
        // SAFETY: the function writes a pointer, which `drop` gives back.
        check(unsafe { (functions.begin)(&raw mut graph.0) })?;
        let done = work();
        // SAFETY: the pointer is the one from above.
        let ended = check(unsafe { (functions.end)(graph.0) });
        let done = done?;
        ended?;
        Ok((graph, done))
    }

    /// Does the work once more.
    ///
    /// # Errors
    /// CUDA's.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the pointer is that of a graph that was recorded.
        check(unsafe { (functions()?.replay)(self.0) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if let (false, Ok(functions)) = (self.0.is_null(), functions()) {
            // SAFETY: nobody has the pointer any more.
            let _ = check(unsafe { (functions.free)(self.0) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;
    use tch::{Kind, Tensor};

    /// Where libtorch has headers for CUDA, as the pinned one has, the library is part of the program.
    #[test]
    fn the_library_is_part_of_the_program() {
        assert!(LIBRARY.starts_with(b"\x7fELF"));
        let file = in_memory(LIBRARY).unwrap();
        assert_eq!(std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap(), LIBRARY);
    }

    #[test]
    #[ignore = "needs a graphics card: MAPLE_PIPE_TEST_DEVICE=cuda:0"]
    fn what_was_recorded_is_computed_anew_from_what_is_there() {
        let device = of_tests();
        assert!(device.is_cuda());
        let mut number = Tensor::from(1.0f32).to_device(device);
        let double = || Ok(&number * 2.0);
        let _warm = double().unwrap();
        let (graph, doubled) = CudaGraph::record(double).unwrap();
        for value in [3.0, 5.0] {
            let _ = number.fill_(value);
            graph.replay().unwrap();
            assert_eq!(doubled.to_kind(Kind::Double).double_value(&[]), 2.0 * value);
        }
    }
}
