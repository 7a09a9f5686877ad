//! The devices on which libtorch computes.
//!
//! The program is linked with libtorch's part for processors alone, so that one build serves machines with and without
//! graphics cards. The part for CUDA is loaded when a card is asked for.

use std::sync::LazyLock;

use maple_pipe::device::{Device, kibibytes};
use maple_pipe::error::{Error, Result};

/// libtorch's part for CUDA.
const LIBRARY: &str = "libtorch_cuda.so";

/// Loads libtorch's part for CUDA, once; an error says why it cannot be loaded.
static CUDA: LazyLock<Result<(), String>> = LazyLock::new(|| {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library's initialisers are libtorch's own, which expect to be run by loading it into a process that
    // uses libtorch; nothing of it is used before.
    #[allow(unsafe_code)]
    let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded: libtorch keeps pointers into it.
    library.map(std::mem::forget).map_err(|error| error.to_string())
});

/// How many graphics cards libtorch can use.
pub fn count_cards() -> i64 {
    if CUDA.is_ok() { tch::Cuda::device_count() } else { 0 }
}

/// The device in libtorch's words.
///
/// # Errors
/// libtorch cannot use it; why not.
pub fn open(device: Device) -> Result<tch::Device> {
    let Device::Cuda(number) = device else { return Ok(tch::Device::Cpu) };
    let hint = "install a libtorch with CUDA and name it with `LIBTORCH`, or use `--devices cpu`";
    if let Err(error) = &*CUDA {
        return Err(Error::hinted(format!("there is no `{device}`: libtorch cannot use CUDA: {error}"), hint));
    }
    match tch::Cuda::device_count() {
        0 => Err(Error::hinted(format!("there is no `{device}`: CUDA finds no card"), hint)),
        count if i64::from(number) >= count => Err(Error::hinted(
            format!("there is no `{device}`"),
            format!("CUDA's cards have the numbers 0 to {}", count - 1),
        )),
        _ => Ok(tch::Device::Cuda(number as usize)),
    }
}

/// The most memory that this process has used on a device, in bytes, where the system says. libtorch gives nothing back to
/// a card before the process ends, so what it holds at the end is what it needed.
pub fn memory_used(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:"),
        Device::Cuda(_) => {
            let arguments = ["--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits"];
            let output = std::process::Command::new("nvidia-smi").args(arguments).output().ok()?;
            let own = std::process::id().to_string();
            let text = String::from_utf8(output.stdout).ok()?;
            let (_, mebibytes) =
                text.lines().filter_map(|line| line.split_once(',')).find(|(id, _)| id.trim() == own)?;
            Some(mebibytes.trim().parse::<u64>().ok()? << 20)
        }
    }
}
