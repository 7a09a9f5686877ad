//! Which device has room for one more node.

use std::collections::BTreeMap;

use crate::device::{Device, Devices};

/// The devices of a run with what is free on each.
#[derive(Debug)]
pub(super) struct Slots(BTreeMap<Device, Slot>);

/// What a node needs of its device's memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// About so many bytes.
    Bytes(u64),
    /// Nobody has seen such a node yet. A card is small, and who takes too much of it fails: it gets one for itself. A processor
    /// has much, and swaps.
    Unknown,
    /// All of it.
    All,
}

#[derive(Debug)]
struct Slot {
    free: usize,
    taken: usize,
    /// Bytes that nodes may use; more than there are anywhere, where that is not known.
    memory: u64,
    /// Bytes that running nodes are expected to use.
    used: u64,
}

impl Need {
    /// The bytes that are set aside for a node on a device; nothing where it gets all of it.
    fn bytes(self, device: Device) -> Option<u64> {
        match self {
            Need::Bytes(bytes) => Some(bytes),
            Need::Unknown if device == Device::Cpu => Some(0),
            Need::Unknown | Need::All => None,
        }
    }
}

impl Slots {
    /// All are free; `memory` is what each device has before the first node is on it.
    pub fn new(devices: &Devices, memory: impl Fn(Device) -> Option<u64>) -> Slots {
        let slot = |device, free| Slot { free, taken: 0, memory: memory(device).unwrap_or(u64::MAX), used: 0 };
        Slots(devices.slots().map(|(device, slots)| (device, slot(device, slots))).collect())
    }

    /// Takes the emptiest device on which a node fits, and so many of its bytes; a device that nobody uses takes any node. The
    /// node needs of each device what `need` says.
    pub fn take(&mut self, need: impl Fn(Device) -> Need) -> Option<(Device, u64)> {
        let fits = |device, slot: &Slot| {
            let left = slot.memory.saturating_sub(slot.used);
            let fits_beside = || left > 0 && need(device).bytes(device).is_some_and(|bytes| bytes <= left);
            slot.free > 0 && (slot.taken == 0 || fits_beside())
        };
        let fitting = self.0.iter().filter(|(device, slot)| fits(**device, slot));
        let (_, device) = fitting.map(|(&device, slot)| (slot.taken, device)).min()?;
        let slot = self.0.get_mut(&device).expect("just found");
        let bytes = need(device).bytes(device).unwrap_or(slot.memory);
        slot.free -= 1;
        slot.taken += 1;
        slot.used += bytes;
        Some((device, bytes))
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
        let mut take = || slots.take(|_| Need::Bytes(0)).map(|(device, _)| device);
        let taken: Vec<Option<Device>> = (0..4).map(|_| take()).collect();
        assert_eq!(taken, [Some(Device::Cuda(0)), Some(Device::Cuda(1)), Some(Device::Cuda(0)), None]);
        slots.give(Device::Cuda(1), 0);
        assert_eq!(slots.take(|_| Need::Bytes(0)), Some((Device::Cuda(1), 0)));
    }

    #[test]
    fn what_does_not_fit_waits_unless_the_device_is_empty() {
        let mut slots = Slots::new(&Devices::parse("cpu*3", 1).unwrap(), |_| Some(100));
        assert_eq!(slots.take(|_| Need::Bytes(1000)), Some((Device::Cpu, 1000)));
        assert_eq!(slots.take(|_| Need::Bytes(1)), None);
        slots.give(Device::Cpu, 1000);
        assert_eq!(slots.take(|_| Need::Bytes(60)), Some((Device::Cpu, 60)));
        assert_eq!(slots.take(|_| Need::Bytes(60)), None);
        assert_eq!(slots.take(|_| Need::Bytes(40)), Some((Device::Cpu, 40)));
    }

    #[test]
    fn an_unknown_node_has_a_card_for_itself() {
        for memory in [None, Some(100)] {
            let mut slots = Slots::new(&Devices::parse("cpu*3,cuda:0*3", 1).unwrap(), |_| memory);
            let devices = |slots: &mut Slots, need| slots.take(|_| need).map(|(device, _)| device);
            assert_eq!(devices(&mut slots, Need::All), Some(Device::Cpu));
            let (device, bytes) = slots.take(|_| Need::Unknown).unwrap();
            assert_eq!(device, Device::Cuda(0));
            assert_eq!(devices(&mut slots, Need::Bytes(1)), None);
            assert_eq!(devices(&mut slots, Need::Unknown), None);
            slots.give(device, bytes);
            assert_eq!(devices(&mut slots, Need::Bytes(1)), Some(Device::Cuda(0)));
            assert_eq!(devices(&mut slots, Need::Bytes(1)), Some(Device::Cuda(0)));
            assert_eq!(devices(&mut slots, Need::Unknown), None);
            // On a processor, nobody waits to be known.
            slots.give(Device::Cpu, memory.unwrap_or(u64::MAX));
            assert_eq!(devices(&mut slots, Need::Unknown), Some(Device::Cpu));
            assert_eq!(devices(&mut slots, Need::Unknown), Some(Device::Cpu));
            assert_eq!(devices(&mut slots, Need::All), None);
        }
    }
}
