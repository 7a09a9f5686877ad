//! What computed a result: the build, libtorch, the processor or the card, the computer. It stands in the result's record
//! and in no key, so that machines share results.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::identity;
use crate::numerics::Numerics;

/// What computed a result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MadeBy {
    /// [`identity::BUILD`] of the program.
    pub build: String,
    /// The version of libtorch; absent where the result was made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// The processor.
    pub processor: Processor,
    /// The graphics card; absent where the processor computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<Card>,
    /// The computer's name.
    pub host: String,
}

/// A processor, as far as it decides results.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Processor {
    /// The model's name, e.g. `AMD EPYC 9R14`.
    pub model: String,
    /// The instructions that libtorch uses, e.g. `AVX512`; absent where it was not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What libtorch was held to, there or on a card.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

/// A graphics card, as far as it decides results.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Card {
    /// The model's name, e.g. `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// What the driver calls this very card.
    pub uuid: String,
    /// E.g. `9.0`.
    pub compute_capability: String,
    /// The driver's version, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl MadeBy {
    /// This program on this computer, without libtorch.
    pub fn here() -> MadeBy {
        static HERE: LazyLock<MadeBy> = LazyLock::new(|| MadeBy {
            build: identity::BUILD.to_owned(),
            libtorch: None,
            processor: Processor { model: processor_model(), instructions: None, numerics: Numerics::Native },
            card: None,
            host: host(),
        });
        HERE.clone()
    }

    /// The kind of processor or card: results of one kind have the same bits. Nothing where libtorch was not used, for then
    /// every machine gives the same.
    pub fn kind(&self) -> Option<String> {
        self.libtorch.as_ref()?;
        Some(match (&self.card, self.processor.numerics) {
            (Some(card), Numerics::Tf32) => format!("{} in TF32", card.name),
            (Some(card), _) => card.name.clone(),
            (None, Numerics::Portable) => "any processor with AVX2 (portable)".to_owned(),
            (None, Numerics::Native | Numerics::Tf32) => self.processor.to_string(),
        })
    }
}

impl fmt::Display for MadeBy {
    /// `build 3f2a90c1d2e4, libtorch 2.11.0, AMD EPYC 9R14 with AVX512, host atlas`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "build {}, ", self.build)?;
        if let Some(libtorch) = &self.libtorch {
            write!(formatter, "libtorch {libtorch}, ")?;
        }
        match &self.card {
            Some(card) if self.processor.numerics == Numerics::Tf32 => write!(formatter, "{card} in TF32")?,
            Some(card) => card.fmt(formatter)?,
            None => self.processor.fmt(formatter)?,
        }
        write!(formatter, ", host {}", self.host)
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.model)?;
        if let Some(instructions) = &self.instructions {
            write!(formatter, " with {instructions}")?;
        }
        if self.numerics == Numerics::Portable { formatter.write_str(" (portable)") } else { Ok(()) }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (compute capability {}", self.name, self.compute_capability)?;
        match &self.driver {
            Some(driver) => write!(formatter, ", driver {driver})"),
            None => formatter.write_str(")"),
        }
    }
}

/// The name of this computer.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The processor's name, as the system has it.
fn processor_model() -> String {
    let named = |text: String| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    std::fs::read_to_string("/proc/cpuinfo").ok().and_then(named).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computed_reads_well_and_has_a_kind() {
        let light = MadeBy { host: "atlas".into(), build: "3f2a90c1d2e4".into(), ..MadeBy::here() };
        let light = MadeBy { processor: Processor { model: "AMD EPYC".into(), ..light.processor.clone() }, ..light };
        assert_eq!((light.kind(), light.to_string()), (None, "build 3f2a90c1d2e4, AMD EPYC, host atlas".into()));
        let instructions = Some("AVX512".to_owned());
        let processor = Processor { instructions, ..light.processor.clone() };
        let native = MadeBy { libtorch: Some("2.11.0".into()), processor, ..light };
        let text = "build 3f2a90c1d2e4, libtorch 2.11.0, AMD EPYC with AVX512, host atlas";
        assert_eq!((native.kind().unwrap().as_str(), native.to_string().as_str()), ("AMD EPYC with AVX512", text));
        let other = Processor { model: "Intel Xeon".into(), ..native.processor.clone() };
        assert_ne!(MadeBy { processor: other.clone(), ..native.clone() }.kind(), native.kind());
        let portable = |processor: &Processor| {
            let processor = Processor { numerics: Numerics::Portable, ..processor.clone() };
            MadeBy { processor, ..native.clone() }
        };
        assert_eq!(portable(&native.processor).kind(), portable(&other).kind());
        let card = Card {
            name: "NVIDIA H100".into(),
            uuid: "GPU-1".into(),
            compute_capability: "9.0".into(),
            driver: Some("580.1".into()),
        };
        let carded = MadeBy { card: Some(card), ..native };
        assert_eq!(carded.kind().unwrap(), "NVIDIA H100");
        assert!(carded.to_string().contains("NVIDIA H100 (compute capability 9.0, driver 580.1), host"), "{carded}");
        assert_eq!(serde_json::from_str::<MadeBy>(&serde_json::to_string(&carded).unwrap()).unwrap(), carded);
    }
}
