//! Which device has room for one more node.

use std::collections::BTreeMap;

use crate::device::{Device, Devices};

/// The devices of a run with what is free on each.
#[derive(Debug)]
pub(super) struct Slots(BTreeMap<Device, Slot>);

#[derive(Debug)]
struct Slot {
    free: usize,
    taken: usize,
    /// Bytes that nodes may use; nothing where that is not known.
    memory: Option<u64>,
    /// Bytes that running nodes are expected to use.
    used: u64,
}

impl Slots {
    /// All are free; `memory` is what each device has before the first node is on it.
    pub fn new(devices: &Devices, memory: impl Fn(Device) -> Option<u64>) -> Slots {
        let slot = |device, free| Slot { free, taken: 0, memory: memory(device), used: 0 };
        Slots(devices.slots().map(|(device, slots)| (device, slot(device, slots))).collect())
    }

    /// Takes the emptiest device on which a node of this many bytes fits; one that nobody uses takes any node.
    pub fn take(&mut self, bytes: u64) -> Option<Device> {
        let mut fits: Vec<(usize, Device)> = Vec::new();
        for (&device, slot) in self.0.iter().filter(|(_, slot)| slot.free > 0) {
            if slot.taken == 0 || bytes == 0 || slot.memory.is_none_or(|memory| slot.used + bytes <= memory) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_spread_over_devices() {
        let mut slots = Slots::new(&Devices::parse("cuda:0*2,cuda:1", 1).unwrap(), |_| None);
        let taken: Vec<Option<Device>> = (0..4).map(|_| slots.take(0)).collect();
        assert_eq!(taken, [Some(Device::Cuda(0)), Some(Device::Cuda(1)), Some(Device::Cuda(0)), None]);
        slots.give(Device::Cuda(1), 0);
        assert_eq!(slots.take(0), Some(Device::Cuda(1)));
    }

    #[test]
    fn what_does_not_fit_waits_unless_the_device_is_empty() {
        let mut slots = Slots::new(&Devices::parse("cpu*3", 1).unwrap(), |_| Some(100));
        assert_eq!(slots.take(1000), Some(Device::Cpu));
        assert_eq!(slots.take(1), None);
        slots.give(Device::Cpu, 1000);
        assert_eq!(slots.take(60), Some(Device::Cpu));
        assert_eq!(slots.take(60), None);
        assert_eq!(slots.take(40), Some(Device::Cpu));
    }
}
