//! The methods that ship: `pipelines/methods/*.toml`, compiled in.

use super::Method;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../pipelines/methods/", $name, ".toml")))),*]
    };
}

/// Names and texts.
const SHIPPED: [(&str, &str); 14] = shipped![
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
    "maple",
    "maple_cross_dataset",
];

/// Every shipped method with its name.
pub fn shipped() -> impl Iterator<Item = (&'static str, Method)> {
    SHIPPED.into_iter().map(|(name, text)| (name, Method::parse(text).expect("shipped methods are valid")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    #[test]
    fn every_method_ships_and_makes_sense_for_the_published_model() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/methods");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), SHIPPED.len());
        shipped().for_each(|(_, method)| method.learner.fits(&Architecture::vit_b16()).unwrap());
    }
}
