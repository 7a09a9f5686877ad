//! What a result must have been made by, so that it is taken from elsewhere.

use std::str::FromStr;

use serde::Deserialize;

use crate::identity::{BUILD, LIBTORCH};
use crate::made_by::MadeBy;

/// All that is required; by default nothing, because keys alone decide.
#[derive(Clone, Debug, Default)]
pub struct Required(pub Vec<Requirement>);

/// One thing that is required of what made a result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub enum Requirement {
    /// This build of the program.
    Build,
    /// This version of libtorch, where libtorch was used.
    Libtorch,
    /// A kind of processor or card whose name holds this text, where libtorch was used.
    Kind(String),
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Requirement, String> {
        match text.split_once('=') {
            None if text == "build" => Ok(Requirement::Build),
            None if text == "libtorch" => Ok(Requirement::Libtorch),
            Some(("kind", kind)) if !kind.trim().is_empty() => Ok(Requirement::Kind(kind.trim().to_owned())),
            _ => {
                Err("name `build`, `libtorch` or `kind=NAME`, where NAME is a part of what `explain` shows".to_owned())
            }
        }
    }
}

impl TryFrom<String> for Requirement {
    type Error = String;

    fn try_from(text: String) -> Result<Requirement, String> {
        text.parse()
    }
}

impl Required {
    /// Whether a result that was made by this may be taken. What does not say what made it is taken only where nothing is
    /// required.
    pub fn admits(&self, made_by: Option<&MadeBy>) -> bool {
        let kinds: Vec<&str> = self
            .0
            .iter()
            .filter_map(|one| if let Requirement::Kind(kind) = one { Some(kind.as_str()) } else { None })
            .collect();
        let Some(made_by) = made_by else { return self.0.is_empty() };
        let is_of_kind = || made_by.kind().is_none_or(|kind| kinds.iter().any(|wanted| kind.contains(wanted)));
        self.0.iter().all(|one| match one {
            Requirement::Build => made_by.build == BUILD,
            Requirement::Libtorch => made_by.libtorch.as_ref().is_none_or(|version| version == LIBTORCH),
            // Several kinds are alternatives.
            Requirement::Kind(_) => is_of_kind(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(texts: &[&str]) -> Required {
        Required(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_result_is_taken_only_from_what_is_required() {
        let light = MadeBy::here();
        let mut heavy = MadeBy { libtorch: Some(LIBTORCH.to_owned()), ..MadeBy::here() };
        heavy.processor.model = "AMD EPYC 9R14".to_owned();
        heavy.processor.instructions = Some("AVX512".to_owned());
        let old = MadeBy { build: "0123456789abcdef".to_owned(), libtorch: Some("2.10.0".to_owned()), ..heavy.clone() };
        let admitted = |texts: &[&str]| {
            let required = required(texts);
            [Some(&light), Some(&heavy), Some(&old), None].map(|made_by| required.admits(made_by))
        };
        assert_eq!(admitted(&[]), [true, true, true, true]);
        assert_eq!(admitted(&["build"]), [true, true, false, false]);
        assert_eq!(admitted(&["libtorch"]), [true, true, false, false]);
        assert_eq!(admitted(&["kind=EPYC 9R14 with AVX512"]), [true, true, true, false]);
        assert_eq!(admitted(&["kind=H100"]), [true, false, false, false]);
        assert_eq!(admitted(&["kind=H100", "kind=EPYC"]), [true, true, true, false]);
        for wrong in ["", "host", "kind", "kind=", "build=1"] {
            assert!(wrong.parse::<Requirement>().is_err(), "{wrong}");
        }
    }
}
