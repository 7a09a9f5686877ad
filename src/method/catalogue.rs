//! The methods that ship: `pipelines/methods/*.toml`, compiled in.

use super::Method;
use crate::error::{Error, Result};
use crate::text::did_you_mean;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../pipelines/methods/", $name, ".toml")))),*]
    };
}

/// Names and texts.
const SHIPPED: [(&str, &str); 32] = shipped![
    "clip",
    "clip_7_templates",
    "clip_80_templates",
    "coop",
    "coop_ep50",
    "coop_ep100",
    "coop_ep200",
    "cocoop",
    "cocoop_random",
    "vpt",
    "language",
    "ivlp",
    "ivlp_ep20",
    "maple",
    "maple_cross_dataset",
    "promptsrc",
    "promptsrc_cross_dataset",
    "promptsrc_fewshot",
    "promptsrc_fewshot_late",
    "kgcoop",
    "tcp",
    "prograd",
    "linear_probe",
    "zs_lp",
    "clap",
    "taskres",
    "clip_adapter",
    "tip_adapter",
    "tip_adapter_f",
    "tip_adapter_f_chosen_on_test",
    "clip-lora",
    "mma",
];

/// Every shipped method with its name.
pub fn shipped() -> impl Iterator<Item = (&'static str, Method)> {
    SHIPPED.into_iter().map(|(name, text)| (name, Method::parse(text).expect("shipped methods are valid")))
}

/// The shipped method of a name.
///
/// # Errors
/// There is none; the hint lists them.
pub fn shipped_as(name: &str) -> Result<Method> {
    shipped().find(|(known, _)| *known == name).map(|(_, method)| method).ok_or_else(|| {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let known = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let hint = did_you_mean(name, &names).unwrap_or_else(|| format!("these ship: {known}"));
        Error::hinted(format!("no method `{name}` ships"), hint)
    })
}

/// The shipped methods that are trained on images, one of each kind: variants of a method have a `_` in their names.
pub fn all_trained() -> impl Iterator<Item = (&'static str, Method)> {
    let of_its_kind = |name: &str, method: &Method| !name.contains('_') && !method.learner.works_on_features();
    shipped().filter(move |(name, method)| of_its_kind(name, method) && method.training.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    #[test]
    fn one_method_of_each_kind_is_trained() {
        let names: Vec<&str> = all_trained().map(|(name, _)| name).collect();
        let first = [
            "coop",
            "cocoop",
            "vpt",
            "language",
            "ivlp",
            "maple",
            "promptsrc",
            "kgcoop",
            "tcp",
            "prograd",
            "clip-lora",
            "mma",
        ];
        assert_eq!(names, first);
        assert!(shipped_as("maple").unwrap().training.is_some());
        let error = shipped_as("mapel").unwrap_err();
        assert_eq!(
            (&*error.to_string(), error.hint().as_deref()),
            ("no method `mapel` ships", Some("did you mean `maple`?"))
        );
    }

    #[test]
    fn every_method_ships_and_makes_sense_for_the_published_model() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/methods");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SHIPPED.len());
        shipped().for_each(|(_, method)| method.learner.fits(&Architecture::vit_b16()).unwrap());
    }
}
