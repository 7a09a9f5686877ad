//! The data sets whose manifests ship: `data-manifests/*.toml`, compiled in.

use std::sync::LazyLock;

use super::manifest::Manifest;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../data-manifests/", $name, ".toml")))),*]
    };
}

/// Names and texts, in the order of the papers' tables.
const SHIPPED: [(&str, &str); 16] = shipped![
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "flowers102",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
    "imagenetv2",
    "imagenet_sketch",
    "imagenet_a",
    "imagenet_r",
    "caltech101-20",
];

/// Every shipped manifest with its name, in the order of the papers' tables.
pub fn shipped() -> impl Iterator<Item = (&'static str, Manifest)> {
    SHIPPED.into_iter().map(|(name, text)| (name, toml::from_str(text).expect("shipped manifests are valid")))
}

/// The name of the first shipped manifest whose data lie in this folder of the data root.
pub fn known_as(folder: &str) -> Option<&'static str> {
    static FOLDERS: LazyLock<Vec<(&str, String)>> =
        LazyLock::new(|| shipped().map(|(name, manifest)| (name, manifest.folder)).collect());
    FOLDERS.iter().find(|(_, known)| known == folder).map(|(name, _)| *name)
}

/// The shipped manifest of this name.
pub fn find(name: &str) -> Option<Manifest> {
    shipped().find(|(shipped, _)| *shipped == name).map(|(_, manifest)| manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_ships_and_is_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests");
        let files = std::fs::read_dir(folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
        assert_eq!(files.count(), SHIPPED.len());
        for (name, manifest) in shipped() {
            manifest.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
