//! Streams and graphs on cards, by `cuda.cpp`, which is compiled into a library of its own and loaded behind libtorch's part for
//! CUDA.
#![expect(unsafe_code, reason = "calls into C++")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::LazyLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};
use maple_pipe::error::{Error, Result};
use tch::Tensor;
use torch_sys::C_tensor;

/// The library; empty where libtorch's headers for CUDA were not there when this program was built.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libmaple_cuda.so"));

/// libtorch's door to CUDA's run-time compiler.
const COMPILER: &str = "libcaffe2_nvrtc.so";

/// What a function of the library returns: null, or what went wrong.
type Answer = *const c_char;

/// The functions of the library.
struct Functions {
    use_own_stream: unsafe extern "C" fn(c_int) -> Answer,
    branch_begin: unsafe extern "C" fn(c_int, c_int, *mut *mut C_tensor, c_int) -> Answer,
    branch_end: unsafe extern "C" fn(c_int) -> Answer,
    branch_join: unsafe extern "C" fn(c_int, c_int, *mut *mut C_tensor, c_int) -> Answer,
    fused_load: unsafe extern "C" fn(*const c_char, bool) -> Answer,
    fused_layer_norm:
        unsafe extern "C" fn(*const C_tensor, *const C_tensor, *const C_tensor, f64, *mut *mut C_tensor) -> Answer,
    fused_sum_and_norm: unsafe extern "C" fn(
        *const C_tensor,
        *const C_tensor,
        *const C_tensor,
        *const C_tensor,
        f64,
        *mut *mut C_tensor,
        *mut *mut C_tensor,
    ) -> Answer,
    fused_quick_gelu: unsafe extern "C" fn(*const C_tensor, f64, *mut *mut C_tensor) -> Answer,
    fused_class_attention:
        unsafe extern "C" fn(*const C_tensor, *const C_tensor, i64, i64, *mut *mut C_tensor) -> Answer,
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
        branch_begin: function!(b"maple_branch_begin\0"),
        branch_end: function!(b"maple_branch_end\0"),
        branch_join: function!(b"maple_branch_join\0"),
        fused_load: function!(b"maple_fused_load\0"),
        fused_layer_norm: function!(b"maple_fused_layer_norm\0"),
        fused_sum_and_norm: function!(b"maple_fused_sum_and_norm\0"),
        fused_quick_gelu: function!(b"maple_fused_quick_gelu\0"),
        fused_class_attention: function!(b"maple_fused_class_attention\0"),
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

/// Whether the library is there; without it a card computes, on one stream, and nothing is recorded.
pub fn is_loaded() -> bool {
    FUNCTIONS.is_ok()
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

/// From now on the work of this thread, and of those that share its work, goes to one stream of ours: it is done in the order in
/// which it is given, and can be recorded.
///
/// # Errors
/// The library cannot be loaded, or CUDA fails.
pub fn use_own_stream(card: usize) -> Result<()> {
    let (functions, card) = (functions()?, number(card)?);
    // SAFETY: the function takes a number.
    let here = || check(unsafe { (functions.use_own_stream)(card) });
    here()?;
    rayon::broadcast(|_| here()).into_iter().collect()
}

/// Does pieces of work on a card beside each other, given the tensors that each reads; the last one is this thread's own. Small
/// work leaves most of a card idle, and what one piece leaves another takes. libtorch goes back through each where it was done.
///
/// # Errors
/// CUDA's.
pub fn beside<T>(
    card: usize,
    work: Vec<(T, Vec<Tensor>)>,
    one: impl Fn((T, Vec<Tensor>)) -> (Vec<Tensor>, Tensor),
) -> Result<Vec<(Vec<Tensor>, Tensor)>> {
    let (functions, card) = (functions()?, number(card)?);
    let branches = work.len() as c_int - 1;
    let mut done = Vec::with_capacity(work.len());
    for (branch, (work, reads)) in (1..).zip(work) {
        if branch > branches {
            done.push(one((work, reads)));
            break;
        }
        let mut read: Vec<*mut C_tensor> = reads.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect();
        // SAFETY: the pointers are of tensors that live longer than the call, and there are so many.
        check(unsafe { (functions.branch_begin)(card, branch, read.as_mut_ptr(), read.len() as c_int) })?;
        done.push(one((work, reads)));
        // SAFETY: the function takes a number.
        check(unsafe { (functions.branch_end)(card) })?;
    }
    for (branch, (_, made)) in (1..=branches).zip(&done) {
        let mut made = made.as_ptr().cast_mut();
        // SAFETY: the pointer is of a tensor that lives longer than the call.
        check(unsafe { (functions.branch_join)(card, branch, &raw mut made, 1) })?;
    }
    Ok(done)
}

/// Makes the kernels of `fused.cu` for tensors in fp16 or in bf16, for the card on which this thread computes.
///
/// # Errors
/// CUDA's compiler cannot be loaded, or refuses them.
pub fn load_fused(source: &CStr, is_bfloat16: bool) -> Result<()> {
    // SAFETY: the library's initialisers are those of libtorch and of CUDA's compiler, made to be loaded into any process.
    let compiler = unsafe { Library::open(Some(COMPILER), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded: `fused.cpp` looks its functions up whenever it needs them.
    compiler.map(std::mem::forget).map_err(|error| Error::invalid(error.to_string()))?;
    // SAFETY: the function takes a text that ends with a zero.
    check(unsafe { (functions()?.fused_load)(source.as_ptr(), is_bfloat16) })
}

/// The layer norm of `x` over its last axis by one kernel, see `fused.cu`; the kernels must have been made.
///
/// # Errors
/// CUDA's.
pub fn fused_layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let [x, weight, bias] = [x, weight, bias].map(Tensor::as_ptr);
    // SAFETY: the tensors live longer than the call.
    made(|functions, tensor| unsafe { (functions.fused_layer_norm)(x, weight, bias, epsilon, tensor) })
}

/// `x + added`, and the layer norm of that, by one kernel, see `fused.cu`; the kernels must have been made.
///
/// # Errors
/// CUDA's.
pub fn fused_sum_and_norm(
    x: &Tensor,
    added: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f64,
) -> Result<[Tensor; 2]> {
    let [x, added, weight, bias] = [x, added, weight, bias].map(Tensor::as_ptr);
    let mut sum = std::ptr::null_mut();
    // SAFETY: the tensors live longer than the call, which writes a pointer to a tensor that is ours alone.
    let made = made(|functions, made| unsafe {
        (functions.fused_sum_and_norm)(x, added, weight, bias, epsilon, &raw mut sum, made)
    })?;
    Ok([unsafe { Tensor::from_ptr(sum) }, made])
}

/// silu(factor x) / factor by one kernel, see `fused.cu`; the kernels must have been made.
///
/// # Errors
/// CUDA's.
pub fn fused_quick_gelu(x: &Tensor, factor: f64) -> Result<Tensor> {
    // SAFETY: as above.
    made(|functions, tensor| unsafe { (functions.fused_quick_gelu)(x.as_ptr(), factor, tensor) })
}

/// Causal attention of prompts that begin with `shared` rows and have at most `longest`, see `fused.cu`; the kernels must have
/// been made.
///
/// # Errors
/// CUDA's.
pub fn fused_class_attention(products: &Tensor, starts: &Tensor, shared: i64, longest: i64) -> Result<Tensor> {
    let [products, starts] = [products, starts].map(Tensor::as_ptr);
    // SAFETY: as above.
    made(|functions, tensor| unsafe { (functions.fused_class_attention)(products, starts, shared, longest, tensor) })
}

/// What a function of the library makes.
fn made(make: impl FnOnce(&Functions, *mut *mut C_tensor) -> Answer) -> Result<Tensor> {
    let mut tensor = std::ptr::null_mut();
    check(make(functions()?, &raw mut tensor))?;
    // SAFETY: the pointer is to a tensor that is ours alone.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// A card's number in C.
fn number(card: usize) -> Result<c_int> {
    c_int::try_from(card).map_err(|_| Error::invalid(format!("there is no card {card}")))
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
