//! Which device has room for one more node.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::process::worker_program;
use crate::device::{Device, Devices, kibibytes};

/// The devices of a run with what is free on each.
#[derive(Debug)]
pub(super) struct Slots(BTreeMap<Device, Slot>);

#[derive(Debug)]
struct Slot {
    free: usize,
    taken: usize,
    /// Bytes that nodes may use; asked for when the first node with a known need comes.
    memory: Option<Option<u64>>,
    /// Bytes that running nodes are expected to use.
    used: u64,
}

impl Slots {
    pub fn new(devices: &Devices) -> Slots {
        let slot = |free| Slot { free, taken: 0, memory: None, used: 0 };
        Slots(devices.slots().map(|(device, slots)| (device, slot(slots))).collect())
    }

    /// Takes the emptiest device on which a node of this many bytes fits; one that nobody uses takes any node.
    pub fn take(&mut self, bytes: u64) -> Option<Device> {
        let mut fits: Vec<(usize, Device)> = Vec::new();
        for (&device, slot) in self.0.iter_mut().filter(|(_, slot)| slot.free > 0) {
            let has_room = slot.taken == 0 || bytes == 0 || {
                let memory = slot.memory.get_or_insert_with(|| memory(device));
                memory.is_none_or(|memory| slot.used + bytes <= memory)
            };
            if has_room {
                fits.push((slot.taken, device));
            }
        }
        let (_, device) = fits.into_iter().min()?;
        let slot = self.0.get_mut(&device).expect("just found");
        slot.free -= 1;
        slot.taken += 1;
        slot.used += bytes;
        Some(device)
    }

    /// No device takes any node.
    pub fn are_full(&self) -> bool {
        self.0.values().all(|slot| slot.free == 0)
    }

    /// Gives a device back.
    pub fn give(&mut self, device: Device, bytes: u64) {
        let slot = self.0.get_mut(&device).expect("what was taken exists");
        slot.free += 1;
        slot.taken -= 1;
        slot.used -= bytes;
    }
}

/// The machine's graphics cards that libtorch can use, one node each; without one, the processor.
pub fn devices(jobs: usize) -> Devices {
    // Asking libtorch takes a while, so it is asked only where the driver shows a card.
    let has_cards = Path::new("/proc/driver/nvidia/gpus").is_dir();
    Devices::cards(if has_cards { cards().unwrap_or(0) } else { 0 }, jobs)
}

/// The graphics cards that the worker's libtorch sees.
fn cards() -> Option<u32> {
    let output = Command::new(worker_program().ok()?).arg("--count-cards").stdin(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Bytes of memory that a device has for nodes; unknown where the system does not say.
fn memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:"),
        Device::Cuda(number) => {
            let arguments = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id"];
            let output = Command::new("nvidia-smi").args(arguments).arg(number.to_string()).output().ok()?;
            let mebibytes: u64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
            Some(mebibytes << 20)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_spread_over_devices() {
        let mut slots = Slots::new(&Devices::parse("cuda:0*2,cuda:1", 1).unwrap());
        let taken: Vec<Option<Device>> = (0..4).map(|_| slots.take(0)).collect();
        assert_eq!(taken, [Some(Device::Cuda(0)), Some(Device::Cuda(1)), Some(Device::Cuda(0)), None]);
        slots.give(Device::Cuda(1), 0);
        assert_eq!(slots.take(0), Some(Device::Cuda(1)));
    }

    #[test]
    fn what_does_not_fit_waits_unless_the_device_is_empty() {
        let mut slots = Slots::new(&Devices::parse("cpu*3", 1).unwrap());
        slots.0.get_mut(&Device::Cpu).unwrap().memory = Some(Some(100));
        assert_eq!(slots.take(1000), Some(Device::Cpu));
        assert_eq!(slots.take(1), None);
        slots.give(Device::Cpu, 1000);
        assert_eq!(slots.take(60), Some(Device::Cpu));
        assert_eq!(slots.take(60), None);
        assert_eq!(slots.take(40), Some(Device::Cpu));
    }
}
