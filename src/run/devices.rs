//! Which devices a run computes on: those that the user names, else the graphics cards that libtorch can use, else the
//! processor.

use std::sync::OnceLock;

use crate::cards::Cards;
use crate::device::{Device, Devices, Share, processor_memory};
use crate::executor::ask_worker;
use crate::executor::mps::{self, Mps};
use crate::task::{About, CudaCard};

/// The devices of a run. Where the user names none, they are looked for when the first node is about to run: asking libtorch
/// takes a second where there is a card, which a run without work must not pay.
#[derive(Debug)]
pub struct DeviceChoice {
    named: Option<Devices>,
    /// Nodes at the same time on the processor.
    jobs: usize,
    found: OnceLock<Found>,
    ready: OnceLock<Found>,
}

/// What was found.
#[derive(Clone, Debug)]
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
        DeviceChoice { named, jobs, found: OnceLock::new(), ready: OnceLock::new() }
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

    /// The devices, on which nodes are about to run: where several are to share a card, their kernels run side by side from now
    /// on, if they can.
    pub fn ready(&self) -> &Found {
        self.ready.get_or_init(|| {
            let found = self.found().clone();
            let several = |(device, nodes): (Device, usize)| device != Device::Cpu && nodes.min(self.jobs) > 1;
            let cards = found.about.as_ref().and_then(|about| about.cuda.as_deref().ok());
            let Some(cards) = cards.filter(|_| found.devices.slots().any(several)) else { return found };
            if side_by_side(cards) || self.named.is_some() {
                return found;
            }
            Found { devices: Devices::cards(&shares(cards, false)), ..found }
        })
    }

    fn look(&self) -> Found {
        let cards = Cards::look();
        let processor = |warning| Found { devices: Devices::one(Device::Cpu, self.jobs), warning, about: None };
        if !cards.show_one() {
            return processor(None);
        }
        let (reason, hint) = match ask_worker() {
            Ok(about) => match &about.cuda {
                Ok(usable) => {
                    let devices = Devices::cards(&shares(usable, Mps::look() != Mps::Absent));
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

/// How many nodes each card takes at the same time, where the user does not say; their kernels may run side by side.
pub fn shares(cards: &[CudaCard], side_by_side: bool) -> Vec<Share> {
    let memory: Vec<u64> = cards.iter().map(|card| card.memory_total).collect();
    Share::of_cards(&memory, std::thread::available_parallelism().map_or(1, usize::from), side_by_side)
}

/// Sees to it that kernels of several nodes run side by side on these cards, all that libtorch can use. Returns whether they do:
/// where NVIDIA's service is not there or does not work, they take turns.
fn side_by_side(cards: &[CudaCard]) -> bool {
    let program = match Mps::look() {
        Mps::Runs(_) => return true,
        Mps::CanStart(program) => program,
        Mps::Absent => return false,
    };
    let of = |cards: &[CudaCard]| cards.iter().map(|card| card.card.uuid.clone()).collect::<Vec<_>>();
    let works = mps::start(&program, &of(cards))
        && ask_worker().is_ok_and(|about| about.cuda.is_ok_and(|served| of(&served) == of(cards)));
    if !works {
        mps::stop();
    }
    works
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
