//! Which devices a run computes on: those that the user names, else the graphics cards that libtorch can use, else the
//! processor.

use std::sync::OnceLock;

use crate::cards::Cards;
use crate::device::{Device, Devices, Share, processor_memory};
use crate::executor::ask_worker;
use crate::task::{About, CudaCard};

/// The devices of a run. Where the user names none, they are looked for when the first node is about to run: asking libtorch
/// takes a second where there is a card, which a run without work must not pay.
#[derive(Debug)]
pub struct DeviceChoice {
    named: Option<Devices>,
    /// Nodes at the same time on the processor.
    jobs: usize,
    found: OnceLock<Found>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The devices.
    pub devices: Devices,
    /// A card is there that cannot be used, so the processor computes.
    pub warning: Option<Warning>,
    /// What the worker says, where it was asked.
    about: Option<About>,
}

/// Something that a user should know before the first node runs.
#[derive(Clone, Debug)]
pub struct Warning {
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl DeviceChoice {
    /// These devices, or those that are found.
    pub fn new(named: Option<Devices>, jobs: usize) -> DeviceChoice {
        DeviceChoice { named, jobs, found: OnceLock::new() }
    }

    /// The devices, looked for now if they have not been before.
    pub fn found(&self) -> &Found {
        self.found.get_or_init(|| match &self.named {
            Some(devices) => {
                let wants_card = devices.slots().any(|(device, _)| device != Device::Cpu);
                let about = if wants_card { ask_worker().ok() } else { None };
                Found { devices: devices.clone(), warning: None, about }
            }
            None => self.look(),
        })
    }

    fn look(&self) -> Found {
        let cards = Cards::look();
        let processor = |warning| Found { devices: Devices::processor(self.jobs), warning, about: None };
        if !cards.show_one() {
            return processor(None);
        }
        let (reason, hint) = match ask_worker() {
            Ok(about) => match &about.cuda {
                Ok(usable) => {
                    let devices = Devices::cards(&shares(usable));
                    return Found { devices, warning: None, about: Some(about) };
                }
                Err(problem) => (problem.to_string(), problem.hint().to_owned()),
            },
            Err(error) => (error.to_string(), error.hint().unwrap_or_default().into_owned()),
        };
        let message = format!("nodes compute on the processor, although {}: {reason}", cards.sign());
        processor(Some(Warning { message, hint: format!("{hint}; `--devices cpu` says that the processor is meant") }))
    }
}

/// How many nodes each card takes at the same time, where the user does not say.
pub fn shares(cards: &[CudaCard]) -> Vec<Share> {
    let memory: Vec<u64> = cards.iter().map(|card| card.memory_total).collect();
    Share::of_cards(&memory, std::thread::available_parallelism().map_or(1, usize::from))
}

impl Found {
    /// Bytes of memory that a device has for nodes now; unknown where the system does not say.
    pub fn memory(&self, device: Device) -> Option<u64> {
        match device {
            Device::Cpu => processor_memory(),
            Device::Cuda(number) => {
                let usable = self.about.as_ref()?.cuda.as_ref().ok()?;
                Some(Cards::find(&usable.get(number as usize)?.card.uuid)?.memory_free)
            }
        }
    }
}
