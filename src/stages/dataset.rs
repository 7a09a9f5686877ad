//! `dataset`: indexes a data set: class names, splits, and the digest of every image. Each part is an artifact of its
//! own, so that a changed test image leaves training fresh.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::world;
use crate::data::catalogue::known_as;
use crate::data::check::CORRECT;
use crate::data::likeness::alike;
use crate::data::{Classes, Indexed, Item, Manifest};
use crate::error::{Error, Result};
use crate::kind::{Given, Here, Kind, PathPort, Place, Port, Work, file};
use crate::task::Task;
use crate::text::plural;

/// Indexes a data set: classes, splits, image digests.
pub static KIND: Kind = Kind {
    inputs: &[(
        "root",
        "The data set's folder, or a `world` stage; without it, the manifest's folder below the data root.",
    )],
    outputs: &[
        file("classes", "classes.json"),
        file("template", "template.json"),
        file("train", "train.json"),
        file("val", "val.json"),
        file("test-base", "test-base.json"),
        file("test-novel", "test-novel.json"),
        file("test-all", "test-all.json"),
    ],
    table_parameters: &["manifest"],
    location: Some("root"),
    ..Kind::of::<Dataset>("dataset", "Indexes a data set: class names, splits, and the digest of every image.", 1)
};

/// A list of images: path below the data set's folder, label, class name, digest.
pub type Index = Vec<Indexed>;
/// The zero-shot prompt of a data set, with `{}` for the class name.
pub type Template = String;

/// Parameters of a `dataset` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// What and where the data set is.
    pub manifest: Manifest,
}

/// The output with the test images of a class subset.
pub fn test_output(classes: Classes) -> &'static str {
    match classes {
        Classes::Base => "test-base",
        Classes::Novel => "test-novel",
        Classes::All => "test-all",
    }
}

/// A relative path as listings write it: no `.`, no doubled or final `/`.
fn as_listed(path: &Path) -> String {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

impl Work for Dataset {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        self.manifest.check()?;
        Ok(vec![Port::one("root", &world::KIND, vec!["files"]).or_path(PathPort::Folder {
            within: self.manifest.within(),
            default: self.manifest.folder.clone(),
            sources: self.manifest.addresses(),
            known_as: known_as(&self.manifest),
        })])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }

    fn test_images(&self, classes: Classes) -> Option<u64> {
        let test = self.manifest.counts.test? as u64;
        // Images are about as many of base as of novel classes.
        Some(if classes == Classes::All { test } else { test.div_ceil(2) })
    }
}

impl Here for Dataset {
    fn run(&self, task: &Task) -> Result<String> {
        let root = task.one("root.files");
        let listing = root.listing.as_ref().expect("a folder comes with its digests");
        let split = self.manifest.split(&root.path)?;
        let class_names = split.class_names();
        let place = |item: &Item| as_listed(&Path::new(&self.manifest.images).join(&item.path));
        let parts = split.parts();
        let all = || parts.iter().flat_map(|(_, items)| *items);
        let absent: Vec<&Item> = all().filter(|item| listing.get(&place(item)).is_none()).collect();
        if let Some(first) = absent.first() {
            let images = self.manifest.image_folder(&root.path);
            let more = absent.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {}", plural(more, "other", "others")) };
            let message = format!("`{}` lacks `{}`{more}, which the split names", images.display(), first.path);
            let below = as_listed(Path::new(&self.manifest.images)) + "/";
            let there = listing.files().map(|(name, _)| name.strip_prefix(&below).unwrap_or(name).to_owned());
            let hint = alike(absent.iter().map(|item| item.path.as_str()), there);
            return Err(Error::hinted(
                message,
                match hint {
                    Some(alike) => format!("{alike}: {CORRECT}"),
                    None => "the data set is incomplete: fetch or unpack it again".to_owned(),
                },
            ));
        }
        let indexed = |item: &Item| {
            let path = place(item);
            let digest = listing.get(&path).expect("none is absent").to_string();
            Indexed::new(Item { path, ..item.clone() }, digest)
        };
        let index = |items: &[Item]| -> Index { items.iter().map(indexed).collect() };
        let test = index(&split.test);
        task.write_json("classes", &class_names)?;
        task.write_json("template", &self.manifest.template)?;
        task.write_json("train", &index(&split.train))?;
        task.write_json("val", &index(&split.val))?;
        for classes in [Classes::Base, Classes::Novel, Classes::All] {
            task.write_json(test_output(classes), &classes.select(&test, class_names.len()))?;
        }
        let classes = plural(class_names.len(), "class", "classes");
        let unread = self.manifest.reader.unread(&root.path, &self.manifest.images)?;
        let unread = if unread.is_empty() { String::new() } else { format!("; {unread}") };
        Ok(format!("{classes}, {}{unread}", plural(all().count(), "image", "images")))
    }
}
