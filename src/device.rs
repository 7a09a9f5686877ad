//! Where nodes that need libtorch compute, and how many may do so at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::bytes;

/// A processor or a graphics card; results do not name it, so it is no part of a key.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The graphics card of this number, as CUDA counts them.
    Cuda(u32),
}

/// The variable by which CUDA learns which cards a process may see.
pub const VISIBLE_CARDS: &str = "CUDA_VISIBLE_DEVICES";

impl Device {
    /// The value of [`VISIBLE_CARDS`] with which a program sees this card alone, or none where it is the processor. Numbers
    /// count the cards that this process may see.
    pub fn visible(self) -> String {
        self.visible_of(std::env::var(VISIBLE_CARDS).ok().as_deref())
    }

    fn visible_of(self, seen: Option<&str>) -> String {
        let Device::Cuda(number) = self else { return String::new() };
        let card = seen.and_then(|list| list.split(',').nth(number as usize)).map(|card| card.trim().to_owned());
        card.unwrap_or_else(|| number.to_string())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => formatter.write_str("cpu"),
            Device::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device> {
        let unknown = || {
            Error::hinted(
                format!("there is no device `{text}`"),
                "devices are `cpu` and `cuda:NUMBER`; `cuda:0*4` is four nodes at once on one card",
            )
        };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Device::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Device, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The devices of a run, each with the number of nodes that may compute on it at the same time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Devices(BTreeMap<Device, usize>);

impl Devices {
    /// Reads `cpu`, `cuda:0,cuda:1`, `cuda:0*4`; a processor without a number takes `jobs` nodes.
    ///
    /// # Errors
    /// Names the part that is no device.
    pub fn parse(text: &str, jobs: usize) -> Result<Devices> {
        let mut devices = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let (name, slots) = match part.split_once('*') {
                Some((name, count)) => {
                    let count: NonZeroU16 = count.trim().parse().map_err(|_| {
                        Error::hinted(
                            format!("`{part}` does not say how many nodes may use the device"),
                            "a number of 1 to 65535 follows the `*`, e.g. `cuda:0*4`",
                        )
                    })?;
                    (name.trim(), Some(usize::from(count.get())))
                }
                None => (part, None),
            };
            let device: Device = name.parse()?;
            *devices.entry(device).or_insert(0) += slots.unwrap_or(if device == Device::Cpu { jobs } else { 1 });
        }
        Ok(Devices(devices))
    }

    /// One device, with so many nodes at once.
    pub fn one(device: Device, nodes: usize) -> Devices {
        Devices(BTreeMap::from([(device, nodes)]))
    }

    /// Graphics cards in CUDA's order, each with as many nodes as it should take.
    pub fn cards(shares: &[Share]) -> Devices {
        Devices((0..).zip(shares).map(|(number, share)| (Device::Cuda(number), share.nodes)).collect())
    }

    /// Each device with the nodes that it takes.
    pub fn slots(&self) -> impl Iterator<Item = (Device, usize)> + '_ {
        self.0.iter().map(|(&device, &slots)| (device, slots))
    }
}

/// How many nodes a card takes at the same time where the user does not say, and why no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// So many nodes; whether they fit into the free memory is known when they are about to start.
    pub nodes: usize,
    /// Why no more.
    pub bound: Bound,
}

/// What keeps more nodes from a card.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    /// They would not be done sooner.
    Gain,
    /// The card's memory.
    Memory,
    /// The processor's cores.
    Cores,
}

impl Share {
    /// The most nodes on one card whose kernels take turns. One process leaves a card idle while it starts, reads images and ends,
    /// and another fills these gaps; the gain ends there. Measured on an H100 with steps of MaPLe: two nodes at once take 15 %
    /// more steps a second than one, and four no more than two.
    const MOST_IN_TURNS: usize = 2;
    /// The most nodes on one card whose kernels run side by side: one node's leave most of a card idle.
    const MOST_SIDE_BY_SIDE: usize = 4;
    /// What a node may need of a card, in bytes, before anybody has seen one: CUDA's context, a ViT-B/16 in fp32, and what the
    /// text tower keeps of some hundred classes for the gradients.
    const MEMORY: u64 = 6 << 30;

    /// Of cards with so many bytes of memory each, on a computer with so many cores; kernels of several processes may run side by
    /// side there.
    pub fn of_cards(memory: &[u64], cores: usize, side_by_side: bool) -> Vec<Share> {
        let most = if side_by_side { Share::MOST_SIDE_BY_SIDE } else { Share::MOST_IN_TURNS };
        // Each node keeps a core busy with launching kernels and with loading images.
        let cores = cores / memory.len().max(1);
        let share = |memory: u64| {
            let fit = usize::try_from(memory / Share::MEMORY).unwrap_or(usize::MAX);
            let bounds = [(most, Bound::Gain), (fit, Bound::Memory), (cores, Bound::Cores)];
            let (nodes, bound) = bounds.into_iter().min_by_key(|(nodes, _)| *nodes).expect("three bounds");
            Share { nodes: nodes.max(1), bound }
        };
        memory.iter().copied().map(share).collect()
    }
}

impl fmt::Display for Share {
    /// `up to 2 nodes at once, because more would only wait for each other`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nodes {
            1 => write!(formatter, "one node at a time, because ")?,
            nodes => write!(formatter, "up to {nodes} nodes at once, because ")?,
        }
        match self.bound {
            Bound::Gain => formatter.write_str("more would only wait for each other"),
            Bound::Memory => write!(formatter, "each may need {} of memory", bytes(Share::MEMORY)),
            Bound::Cores => formatter.write_str("each needs a core of the processor"),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (device, slots)) in self.slots().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match (device, slots) {
                (Device::Cuda(_), 1) => write!(formatter, "{comma}{device}")?,
                _ => write!(formatter, "{comma}{device}*{slots}")?,
            }
        }
        Ok(())
    }
}

/// Bytes of memory that programs may still take, of which a container may have less than its computer.
pub fn processor_memory() -> Option<u64> {
    let available = kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(container_memory(Path::new("/sys/fs/cgroup")).map_or(available, |left| left.min(available)))
}

/// Whether the processor has these instructions, as Linux calls them, e.g. `avx512_bf16`.
pub fn processor_has(instructions: &str) -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| flags.split_whitespace().any(|flag| flag == instructions))
}

/// Bytes of memory that the computer has.
pub fn total_memory() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Bytes that this container (control group) may still take, where it has a bound.
fn container_memory(folder: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

/// Bytes on the line `name 123 kB` of a file under `/proc`.
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_one_card_of_those_that_we_see() {
        for (device, seen, expected) in [
            (Device::Cpu, Some("2,3"), ""),
            (Device::Cuda(1), None, "1"),
            (Device::Cuda(1), Some("2, 3"), "3"),
            (Device::Cuda(0), Some("GPU-8f1b"), "GPU-8f1b"),
        ] {
            assert_eq!(device.visible_of(seen), expected, "{device}, {seen:?}");
        }
    }

    #[test]
    fn devices_are_read_and_written() {
        let read = |text: &str| Devices::parse(text, 3).map(|devices| devices.to_string());
        assert_eq!(read("cpu").unwrap(), "cpu*3");
        assert_eq!(read("cpu*1").unwrap(), "cpu*1");
        assert_eq!(read("cuda:1, cuda:0*4").unwrap(), "cuda:0*4,cuda:1");
        assert_eq!(read("cuda:0,cuda:0").unwrap(), "cuda:0*2");
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:0*0", "cuda:0*", "cpu,,cpu", "cpu*65536", "cuda:4294967296"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_card_takes_what_fits_and_pays() {
        let of = |gigabytes: &[u64], cores| -> Vec<String> {
            let memory: Vec<u64> = gigabytes.iter().map(|one| one << 30).collect();
            Share::of_cards(&memory, cores, false).iter().map(ToString::to_string).collect()
        };
        assert_eq!(of(&[80], 16), ["up to 2 nodes at once, because more would only wait for each other"]);
        assert_eq!(of(&[80], 1), ["one node at a time, because each needs a core of the processor"]);
        let [small, large] = &of(&[8, 24], 16)[..] else { panic!("two cards") };
        assert_eq!(small, "one node at a time, because each may need 6.4 GB of memory");
        assert_eq!(large, "up to 2 nodes at once, because more would only wait for each other");
        assert_eq!(of(&[8], 16), ["one node at a time, because each may need 6.4 GB of memory"]);
        assert_eq!(of(&[80, 80], 1), ["one node at a time, because each needs a core of the processor"; 2]);
        assert!(of(&[], 16).is_empty());
        let devices =
            |side_by_side| Devices::cards(&Share::of_cards(&[80 << 30, 8 << 30], 16, side_by_side)).to_string();
        assert_eq!((devices(false).as_str(), devices(true).as_str()), ("cuda:0*2,cuda:1", "cuda:0*4,cuda:1"));
    }

    #[test]
    fn a_container_may_have_less_memory() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(container_memory(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "300\n");
        assert_eq!(container_memory(folder.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(container_memory(folder.path()), Some(700));
        assert!(processor_memory().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(kibibytes("MemTotal:  100 kB\nMemAvailable:    2 kB\n", "MemAvailable:"), Some(2048));
        assert_eq!(kibibytes("", "MemAvailable:"), None);
    }
}
