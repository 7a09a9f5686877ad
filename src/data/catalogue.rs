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

/// The name of the shipped manifest that puts all into the data root that another one reads: the one with its name in print,
/// or else the first one whose files and folders are the same.
pub fn known_as(manifest: &Manifest) -> Option<&'static str> {
    static ALL: LazyLock<Vec<(&str, Manifest)>> = LazyLock::new(|| shipped().collect());
    let wanted = manifest.within();
    let gives = |known: &Manifest| {
        let within = known.within();
        known.folder == manifest.folder && wanted.iter().all(|path| within.contains(path))
    };
    let mut fit: Vec<&(&str, Manifest)> = ALL.iter().filter(|(_, known)| gives(known)).collect();
    fit.sort_by_key(|(_, known)| known.name != manifest.name);
    fit.first().map(|(name, _)| *name)
}

/// The shipped manifest of this name.
pub fn find(name: &str) -> Option<Manifest> {
    shipped().find(|(shipped, _)| *shipped == name).map(|(_, manifest)| manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_known_by_what_it_reads() {
        for (name, manifest) in shipped() {
            assert_eq!(known_as(&manifest), Some(name));
            let mut own = Manifest { name: "Mine".to_owned(), ..manifest };
            assert!(known_as(&own).is_some_and(|known| find(known).unwrap().folder == own.folder), "{name}");
            own.images = "mine".to_owned();
            assert_eq!(known_as(&own), None, "{name} does not bring what is read");
        }
    }

    /// Addresses that ship have nothing in them that has to be kept from being printed.
    #[test]
    fn addresses_are_printed_whole() {
        for source in shipped().flat_map(|(_, manifest)| manifest.sources) {
            assert_eq!(crate::download::shown(&source.url), source.url);
        }
    }

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
