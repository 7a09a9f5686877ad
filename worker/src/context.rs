//! Settings and readings of the libtorch that is loaded: `context.cpp`, and what else tch does not offer.
#![expect(unsafe_code, reason = "calls into C")]

use std::ffi::{CStr, c_char, c_int, c_void};

use bytes::Bytes;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn maple_tensor_over(
        data: *const c_void,
        length: i64,
        release: extern "C" fn(*mut c_void),
        owner: *mut c_void,
    ) -> *mut C_tensor;
    fn maple_records_gradients() -> bool;
    fn maple_pinned(tensor: *const C_tensor) -> *mut C_tensor;
    fn aoti_torch_abi_version() -> u64;
    fn maple_cpu_capability(text: *mut c_char, size: usize);
    fn maple_use_onednn(wanted: bool);
    fn maple_make_cuda_deterministic(in_tf32: bool);
    fn maple_peak_cuda_memory(device: c_int) -> i64;
    fn maple_forget_peak_cuda_memory(device: c_int);
    fn maple_empty_cuda_cache();
}

/// Bytes as a tensor `(N,)` of the processor that shares their memory, which nobody may write to; they live as long as it and
/// everything that is made of its memory. Nothing where libtorch cannot make it.
pub fn tensor_over(bytes: Bytes) -> Option<Tensor> {
    extern "C" fn release(owner: *mut c_void) {
        // SAFETY: it is the pointer made below, and libtorch gives it back once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
    let length = i64::try_from(bytes.len()).ok()?;
    let owner = Box::new(bytes);
    let data = owner.as_ptr().cast();
    // SAFETY: the memory has so many bytes and stays where it is until `release` is called.
    let tensor = unsafe { maple_tensor_over(data, length, release, Box::into_raw(owner).cast()) };
    // SAFETY: the pointer is to a tensor that is ours alone.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
}

/// Whether operations of this thread are recorded for gradients.
pub fn records_gradients() -> bool {
    // SAFETY: the function takes nothing and reads a flag.
    unsafe { maple_records_gradients() }
}

/// A copy of a tensor in memory that cards read by themselves, while the program goes on; the tensor itself where there is none.
pub fn pinned(tensor: &Tensor) -> Tensor {
    // SAFETY: the function reads a tensor, and returns nothing or a pointer to one that is ours alone.
    let pinned = unsafe { maple_pinned(tensor.as_ptr()) };
    match pinned.is_null() {
        true => tensor.shallow_clone(),
        false => unsafe { Tensor::from_ptr(pinned) },
    }
}

/// The version of the libtorch that is loaded, which may be another than the one it was built with, e.g. `2.11.0`.
pub fn libtorch_version() -> String {
    // SAFETY: the function takes nothing and returns a number.
    let [major, minor, patch, ..] = unsafe { aoti_torch_abi_version() }.to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

/// The file of the libtorch that is loaded.
pub fn libtorch_path() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = |line: &str| Some(line.get(line.find('/')?..)?.to_owned());
    maps.lines().filter_map(path).find(|path| path.ends_with("/libtorch_cpu.so"))
}

/// The instructions that ATen's kernels use on this processor, e.g. `AVX512`.
pub fn cpu_capability() -> String {
    let mut text = [0; 32];
    // SAFETY: the function writes at most so many characters, the last of them a zero.
    let text = unsafe {
        maple_cpu_capability(text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr())
    };
    text.to_string_lossy().into_owned()
}

/// Whether convolutions and products may go through oneDNN, whose sums depend on the sizes of a processor's caches.
pub fn use_onednn(wanted: bool) {
    // SAFETY: the function sets a flag, which is read when the next operation starts.
    unsafe { maple_use_onednn(wanted) }
}

/// Makes cards give the same bits whenever the same is computed on the same kind; an operation that cannot keep to that fails.
/// fp32 is multiplied in fp32, or in NVIDIA's TF32, which has ten bits behind the point.
pub fn make_cuda_deterministic(in_tf32: bool) {
    // SAFETY: the function sets flags, which are read when the next operation starts.
    unsafe { maple_make_cuda_deterministic(in_tf32) }
}

/// The most bytes that libtorch has held on a card since [`forget_peak_cuda_memory`], where it can tell.
pub fn peak_cuda_memory(number: u32) -> Option<u64> {
    // SAFETY: the function takes a number and catches what libtorch throws.
    u64::try_from(unsafe { maple_peak_cuda_memory(c_int::try_from(number).ok()?) }).ok()
}

/// What libtorch holds on a card now becomes the most that it has held.
pub fn forget_peak_cuda_memory(number: u32) {
    let Ok(number) = c_int::try_from(number) else { return };
    // SAFETY: the function takes a number and catches what libtorch throws.
    unsafe { maple_forget_peak_cuda_memory(number) }
}

/// Gives back what libtorch keeps on cards for later.
pub fn empty_cuda_cache() {
    // SAFETY: the function takes nothing and catches what libtorch throws.
    unsafe { maple_empty_cuda_cache() }
}

/// MKL asks this before it takes the ways that it has for AVX2 and AVX512. It knows only Intel's processors by name, and has
/// others compute with what is left, in another order, so that no setting of MKL's own gives the same bits on both makes.
/// The instructions are the same on all, and MKL still asks the processor which of them it has; so the answer is yes. It
/// stands in this program, where the loader looks first.
#[unsafe(no_mangle)]
pub extern "C" fn mkl_serv_intel_cpu_true() -> c_int {
    1
}

/// Whether this program's [`mkl_serv_intel_cpu_true`] is the one that libtorch asks.
pub fn answers_mkl() -> bool {
    use libloading::os::unix::Library;
    let ours = mkl_serv_intel_cpu_true as extern "C" fn() -> c_int;
    // SAFETY: the symbol is looked up, and not called.
    let found =
        unsafe { Library::this().get::<extern "C" fn() -> c_int>(b"mkl_serv_intel_cpu_true\0").map(|symbol| *symbol) };
    found.is_ok_and(|found| std::ptr::fn_addr_eq(found, ours))
}
