//! Where a command computes that asks a worker one question.

use clap::Args;

use super::project::{AT_ONCE, number};
use super::terminal::say;
use crate::device::Device;
use crate::run::DeviceChoice;
use crate::terminal::warning_word;

/// Where it computes.
#[derive(Args, Debug)]
pub(super) struct Computer {
    /// Where to compute: `cpu` or `cuda:NUMBER` [default: the first card that libtorch sees, else `cpu`]
    #[arg(long, alias = "devices", value_name = "DEVICE")]
    device: Option<Device>,
    /// Threads, as a node has them [default: one per processor, shared by what computes at the same time]
    #[arg(long, value_name = "N", value_parser = number(AT_ONCE))]
    threads: Option<u32>,
}

impl Computer {
    /// The device, looked for where none is named.
    pub(super) fn device(&self) -> Device {
        self.device.unwrap_or_else(|| {
            let choice = DeviceChoice::new(None, 1);
            let found = choice.found();
            if let Some(warning) = &found.warning {
                say(&format!("{}: {}\nhint: {}", warning_word(), warning.message, warning.hint));
            }
            found.devices.slots().next().map_or(Device::Cpu, |(device, _)| device)
        })
    }

    /// The number of threads.
    pub(super) fn threads(&self) -> usize {
        self.threads_of(1)
    }

    /// The number of threads of each of so many processes.
    pub(super) fn threads_of(&self, processes: usize) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or((processors / processes).max(1), |number| number as usize)
    }
}
