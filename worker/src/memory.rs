//! How much memory this process needs on its device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maple_pipe::device::{Device, kibibytes};

use crate::context;

/// How often the process is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// What a process needs on a card beside what libtorch holds there: its context and the code of libtorch's kernels. Reckoned
/// generously from what PyTorch takes (0.4 to 0.6 GB); the driver tells it of a process only where it sees the process's
/// number, which in a container it does not.
const CUDA_CONTEXT: u64 = 768 << 20;

/// Watches the memory of this process until it ends.
pub struct Peak(Arc<AtomicU64>);

impl Peak {
    /// Begins to watch.
    pub fn watch() -> Peak {
        let peak = Arc::new(AtomicU64::new(0));
        let shared = peak.clone();
        std::thread::spawn(move || {
            loop {
                shared.fetch_max(own_memory().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
        });
        Peak(peak)
    }

    /// Forgets what was before: a task on this device begins.
    pub fn begin(&self, device: Device) {
        self.0.store(own_memory().unwrap_or(0), Ordering::Relaxed);
        if let Device::Cuda(number) = device {
            context::forget_peak_cuda_memory(number);
        }
    }

    /// The most bytes that the process has needed on a device since the task began, where the system says.
    pub fn bytes(&self, device: Device) -> Option<u64> {
        match device {
            Device::Cpu => {
                let now = own_memory()?;
                Some(self.0.fetch_max(now, Ordering::Relaxed).max(now))
            }
            Device::Cuda(number) => Some(context::peak_cuda_memory(number)? + CUDA_CONTEXT),
        }
    }
}

/// Gives what is free in the heap and on this device back to the system, so that others can use it between two tasks.
pub fn give_back(device: Device) {
    if let Device::Cuda(_) = device {
        context::empty_cuda_cache();
    }
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of C")]
    // SAFETY: the function takes a number, and touches what is free alone.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that belong to this process alone. Files that are mapped (weights, prepared pixels, libraries) are not among them:
/// the system takes their memory back when it needs it.
fn own_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(kibibytes(&status, "RssAnon:")? + kibibytes(&status, "RssShmem:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn memory_counts_and_mapped_files_do_not() {
        const SIZE: usize = 64 << 20;
        let peak = Peak::watch();
        let before = peak.bytes(Device::Cpu).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![1u8; SIZE]).unwrap();
        let after_writing = peak.bytes(Device::Cpu).unwrap();
        #[expect(unsafe_code, reason = "mapping a file is unsafe because others could change it")]
        // SAFETY: nobody else knows of the file.
        let map = unsafe { memmap2::Mmap::map(file.as_file()) }.unwrap();
        assert_eq!(map.iter().map(|&byte| usize::from(byte)).sum::<usize>(), SIZE);
        let mapped = peak.bytes(Device::Cpu).unwrap();
        assert!(mapped < after_writing + (SIZE as u64) / 2, "{before} {after_writing} {mapped}");
        // Between two looks at it memory could come and go, so it stays until it was seen.
        let held = std::hint::black_box(vec![1u8; 2 * SIZE]);
        let expected = before + (2 * SIZE as u64) * 9 / 10;
        let end = Instant::now() + Duration::from_secs(60);
        while peak.0.load(Ordering::Relaxed) < expected && Instant::now() < end {
            std::thread::sleep(INTERVAL);
        }
        drop(held);
        assert!(peak.bytes(Device::Cpu).unwrap() >= expected);
        // The next task begins with what is left.
        give_back(Device::Cpu);
        peak.begin(Device::Cpu);
        assert!(peak.bytes(Device::Cpu).unwrap() < expected);
    }
}
