//! The graphics cards of this computer, as NVIDIA's driver tells of them (NVML). It is asked by the identifier of a card,
//! because numbers mean other cards to other programs: CUDA counts what `CUDA_VISIBLE_DEVICES` leaves.

use std::env;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use serde::Serialize;

use crate::device::VISIBLE_CARDS;

/// A graphics card.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PhysicalCard {
    /// What the driver calls this very card, e.g. `GPU-5a1f...`.
    pub uuid: String,
    /// The model's name.
    pub name: String,
    /// E.g. `9.0`.
    pub compute_capability: String,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory that nobody uses now.
    pub memory_free: u64,
}

/// What this computer shows of graphics cards.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cards {
    /// The driver's version, where it answers.
    pub driver: Option<String>,
    /// The cards that the driver lists.
    pub cards: Vec<PhysicalCard>,
    /// Files of the driver that show a card, whether the driver answers or not.
    pub traces: Vec<PathBuf>,
    /// Why the driver does not answer; absent where it does.
    pub problem: Option<String>,
    /// The user hides all cards, by an empty `CUDA_VISIBLE_DEVICES` or one that begins with -1.
    pub hidden: bool,
}

impl Cards {
    /// Asks the driver and looks at its files. Where there is neither, this takes no time.
    pub fn look() -> Cards {
        let mut cards = Cards { traces: traces(Path::new("/")), hidden: are_hidden(), ..Cards::default() };
        match Nvml::init() {
            Ok(nvml) => {
                cards.driver = nvml.sys_driver_version().ok();
                let count = nvml.device_count().unwrap_or(0);
                cards.cards = (0..count).filter_map(|number| card(&nvml.device_by_index(number).ok()?)).collect();
            }
            Err(error) => cards.problem = Some(error.to_string()),
        }
        cards
    }

    /// Whether there seems to be a card that a program of this user may compute on.
    pub fn show_one(&self) -> bool {
        !self.hidden && (!self.cards.is_empty() || !self.traces.is_empty())
    }

    /// The card of this identifier; of a part of a card (MIG), the driver knows it, too.
    pub fn find(uuid: &str) -> Option<PhysicalCard> {
        let nvml = Nvml::init().ok()?;
        let part = uuid.replacen("GPU-", "MIG-", 1);
        card(&nvml.device_by_uuid(uuid).or_else(|_| nvml.device_by_uuid(part)).ok()?)
    }

    /// What shows a card, in words.
    pub fn sign(&self) -> String {
        match (self.cards.first(), self.traces.first()) {
            (Some(card), _) => format!("the driver lists {}", card.name),
            (None, Some(path)) => format!("there is `{}`", path.display()),
            (None, None) => "nothing shows one".to_owned(),
        }
    }
}

/// The version of NVIDIA's driver, where there is one.
pub fn driver_version() -> Option<String> {
    Nvml::init().ok()?.sys_driver_version().ok()
}

fn card(device: &nvml_wrapper::Device<'_>) -> Option<PhysicalCard> {
    let memory = device.memory_info().ok();
    let capability = device.cuda_compute_capability().ok();
    Some(PhysicalCard {
        uuid: device.uuid().ok()?,
        name: device.name().unwrap_or_else(|_| "a card without a name".to_owned()),
        compute_capability: capability.map_or(String::new(), |one| format!("{}.{}", one.major, one.minor)),
        memory_total: memory.as_ref().map_or(0, |memory| memory.total),
        memory_free: memory.map_or(0, |memory| memory.free),
    })
}

/// The files by which the driver makes cards known: in containers those below `/dev` alone.
fn traces(root: &Path) -> Vec<PathBuf> {
    let entries = |folder: &str, wanted: &dyn Fn(&str) -> bool| {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(wanted))
            .collect()
    };
    let is_card = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut found: Vec<PathBuf> = entries("dev", &is_card);
    found.extend::<Vec<PathBuf>>(entries("proc/driver/nvidia/gpus", &|_| true));
    found.sort();
    found
}

fn are_hidden() -> bool {
    env::var(VISIBLE_CARDS).is_ok_and(|list| {
        let first = list.split(',').next().unwrap_or_default().trim();
        matches!(first, "" | "-1" | "NoDevFiles" | "none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_show_in_machines_and_in_containers() {
        let root = tempfile::tempdir().unwrap();
        let found = || {
            traces(root.path())
                .iter()
                .map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert!(found().is_empty());
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        for device in ["nvidiactl", "nvidia-uvm", "nvidia", "null"] {
            std::fs::write(root.path().join("dev").join(device), "").unwrap();
        }
        assert!(found().is_empty());
        std::fs::write(root.path().join("dev/nvidia0"), "").unwrap();
        assert_eq!(found(), ["dev/nvidia0"]);
        std::fs::create_dir_all(root.path().join("proc/driver/nvidia/gpus/0000:65:00.0")).unwrap();
        assert_eq!(found(), ["dev/nvidia0", "proc/driver/nvidia/gpus/0000:65:00.0"]);
    }
}
