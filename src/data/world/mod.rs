//! A small world of pictures, drawn rather than downloaded: for the quickstart and the tests.
//!
//! Scenes are named by combinations of attributes (`striped red triangle`, `ring of blue circles`). Three families are
//! data sets in CoOp's layout; a fourth data set shows all of them with captions, for pretraining, without a third of
//! the combinations. The data sets may look different from the captioned pictures (`Style`), which is what prompt
//! learning then makes up for. Every picture depends on the seed and its own number alone.

mod caption;
mod draw;
mod scene;
mod style;

pub use style::{Background, Style};

use crate::data::{Item, Split, random};
use crate::error::{Error, Result};
use draw::Picture;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use scene::{Family, Scene};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The folder of the pictures inside a data set's folder; paths in the other files are relative to it.
pub const IMAGES: &str = "images";
/// The split file of a data set.
pub const SPLIT: &str = "split.json";
/// The captions of the captioned data set: one JSON object per line.
pub const CAPTIONS: &str = "captions.jsonl";

/// The most pictures of a kind.
const MOST: usize = 1_000_000;
/// Quality of the JPEG files, every second one.
const JPEG_QUALITY: u8 = 90;

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dataset {
    /// One object in each picture.
    Shapes,
    /// Patterns over the whole frame.
    Textures,
    /// Several equal objects.
    Arrangements,
    /// Pictures of all three families with captions.
    Captioned,
}

impl Dataset {
    /// The family whose scenes are the classes.
    fn family(self) -> Option<Family> {
        match self {
            Dataset::Shapes => Some(Family::Shapes),
            Dataset::Textures => Some(Family::Textures),
            Dataset::Arrangements => Some(Family::Arrangements),
            Dataset::Captioned => None,
        }
    }
}

/// Everything that decides a data set's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Which data set of the world.
    pub dataset: Dataset,
    /// The world: its classes, the combinations without captions, and the pictures.
    #[serde(default)]
    pub seed: u64,
    /// Width and height of the pictures in pixels.
    #[serde(default = "defaults::size")]
    pub size: u32,
    /// Number of classes (not for captioned pictures).
    #[serde(default = "defaults::classes")]
    pub classes: usize,
    /// Training pictures per class (not for captioned pictures).
    #[serde(default = "defaults::train")]
    pub train: usize,
    /// Validation pictures per class (not for captioned pictures).
    #[serde(default = "defaults::val")]
    pub val: usize,
    /// Test pictures per class (not for captioned pictures).
    #[serde(default = "defaults::test")]
    pub test: usize,
    /// Number of captioned pictures.
    #[serde(default = "defaults::captioned")]
    pub captioned: usize,
    /// What the pictures look like.
    #[serde(default)]
    pub style: Style,
}

impl Parameters {
    /// Checks the values.
    ///
    /// # Errors
    /// Names what is out of range, and what would be in it.
    pub fn check(&self) -> Result<()> {
        let Parameters { size, classes, train, val, test, captioned, .. } = *self;
        if !(16..=1024).contains(&size) {
            return Err(Error::hinted(
                format!("pictures cannot be {size} pixels wide"),
                "set `size` between 16 and 1024",
            ));
        }
        if let Some(problem) = self.style.problem() {
            return Err(Error::hinted(format!("in `style`, {problem}"), "change `style`").about("style"));
        }
        if self.dataset == Dataset::Captioned {
            return match captioned {
                1..=MOST => Ok(()),
                _ => Err(Error::hinted(
                    format!("there cannot be {captioned} captioned pictures"),
                    format!("set `captioned` between 1 and {MOST}"),
                )),
            };
        }
        if [classes, train, val, test].contains(&0) {
            let hint = "set `classes`, `train`, `val` and `test` above 0";
            return Err(Error::hinted("a part of the data set would be empty", hint));
        }
        if [train, val, test].iter().any(|&count| count > MOST) {
            return Err(Error::invalid(format!("`train`, `val` and `test` cannot be above {MOST}")).about("train"));
        }
        Ok(())
    }
}

/// Values of parameters that a file leaves out.
mod defaults {
    pub fn size() -> u32 {
        64
    }
    pub fn classes() -> usize {
        18
    }
    pub fn train() -> usize {
        40
    }
    pub fn val() -> usize {
        8
    }
    pub fn test() -> usize {
        25
    }
    pub fn captioned() -> usize {
        6_000
    }
}

/// A data set of the world.
#[derive(Clone, Debug)]
pub struct World {
    /// What to draw.
    pub parameters: Parameters,
}

/// One picture to draw.
struct Order {
    scene: Scene,
    /// Keys the random numbers within the data set.
    number: u64,
    /// The file, relative to the pictures' folder.
    path: String,
}

impl World {
    /// Writes the data set into `folder`, which is created: pictures under `images/`, and `split.json` (in CoOp's
    /// format) or `captions.jsonl`.
    ///
    /// Fails on parameters out of range and when a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.parameters.check()?;
        match self.parameters.dataset.family() {
            Some(family) => self.write_classes(family, folder),
            None => self.write_captioned(folder),
        }
    }

    /// A data set with classes.
    fn write_classes(&self, family: Family, folder: &Path) -> Result<()> {
        let Parameters { seed, classes: count, train, val, test, .. } = self.parameters;
        let Some(classes) = family.classes(seed, count) else {
            let message = format!("the world has fewer than {count} classes of this family");
            return Err(Error::hinted(message, "lower `classes`"));
        };
        let mut orders = Vec::new();
        let mut split = Split { train: Vec::new(), val: Vec::new(), test: Vec::new() };
        for (label, scene) in classes.into_iter().enumerate() {
            let name = scene.name();
            let mut index = 0;
            for (items, count) in [(&mut split.train, train), (&mut split.val, val), (&mut split.test, test)] {
                for _ in 0..count {
                    index += 1;
                    let path = format!("{}/{index:04}.{}", name.replace(' ', "_"), extension(index));
                    items.push(Item { path: path.clone(), label, class_name: name.clone() });
                    orders.push(Order { scene, number: (label as u64) << 32 | index as u64, path });
                }
            }
        }
        self.draw_all(&orders, folder, |_, _, _| ())?;
        split.write(&folder.join(SPLIT))
    }

    /// The captioned pictures.
    fn write_captioned(&self, folder: &Path) -> Result<()> {
        let seed = self.parameters.seed;
        let scenes = Family::ALL.map(|family| family.captioned(seed));
        let order = |index: usize| {
            let family = &scenes[index % scenes.len()];
            let mut generator = random::generator(seed, "world captioned scene", 0, index as u64);
            let scene = family[random::below(&mut generator, family.len())];
            Order { scene, number: index as u64, path: format!("{index:06}.{}", extension(index)) }
        };
        let orders: Vec<Order> = (0..self.parameters.captioned).map(order).collect();
        let lines = self.draw_all(&orders, folder, |order, picture, generator| {
            let caption = caption::caption(order.scene, picture, generator);
            format!("{}\n", serde_json::json!({ "path": order.path, "caption": caption }))
        })?;
        write(&folder.join(CAPTIONS), lines.concat().as_bytes())
    }

    /// Draws and writes every ordered picture; returns what `note` makes of each, in order.
    fn draw_all<T: Send>(
        &self,
        orders: &[Order],
        folder: &Path,
        note: impl Fn(&Order, &Picture, &mut rand_chacha::ChaCha8Rng) -> T + Sync,
    ) -> Result<Vec<T>> {
        let Parameters { seed, size, dataset, style, .. } = &self.parameters;
        let images = folder.join(IMAGES);
        let mut folders: Vec<&Path> = orders.iter().filter_map(|order| Path::new(&order.path).parent()).collect();
        folders.dedup();
        for parent in folders {
            let parent = images.join(parent);
            std::fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
        }
        let draw = |order: &Order| {
            let mut generator = random::generator(*seed, "world picture", *dataset as u64, order.number);
            let picture = draw::draw(order.scene, style, *size, &mut generator);
            write(&images.join(&order.path), &encode(&picture, &order.path)?)?;
            Ok(note(order, &picture, &mut generator))
        };
        orders.par_iter().map(draw).collect()
    }
}

/// PNG and JPEG in turn.
fn extension(index: usize) -> &'static str {
    if index.is_multiple_of(2) { "jpg" } else { "png" }
}

/// The file's bytes, in the format that its name asks for.
fn encode(picture: &Picture, path: &str) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = if path.ends_with("jpg") {
        picture.image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
    } else {
        picture.image.write_to(&mut bytes, image::ImageFormat::Png)
    };
    written.map_err(|error| Error::format(path, "picture", error))?;
    Ok(bytes.into_inner())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;

    fn tiny(dataset: &str) -> World {
        let parameters = serde_json::json!({
            "dataset": dataset, "size": 32, "classes": 5, "train": 2, "val": 1, "test": 2, "captioned": 40
        });
        World { parameters: serde_json::from_value(parameters).unwrap() }
    }

    /// Every file under a folder.
    fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| (entry.path().strip_prefix(folder).unwrap().to_owned(), std::fs::read(entry.path()).unwrap()))
            .collect()
    }

    /// One digest over names and bytes.
    fn digest(files: &BTreeMap<PathBuf, Vec<u8>>) -> String {
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in files {
            hasher.update(path.to_string_lossy().as_bytes()).update(bytes);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    #[test]
    fn every_run_and_machine_writes_the_same_bytes() {
        let digests = ["shapes", "textures", "arrangements", "captioned"].map(|dataset| {
            let folder = tempfile::tempdir().unwrap();
            tiny(dataset).write(folder.path()).unwrap();
            digest(&files(folder.path()))
        });
        assert_eq!(digests, ["410f40a421dfd2e2", "07a3c33e34907932", "3d521e1e7efc3670", "1dc0cbc019df6a76"]);
    }

    #[test]
    fn a_data_set_is_class_folders_and_a_split_file_that_names_every_picture_once() {
        let folder = tempfile::tempdir().unwrap();
        tiny("shapes").write(folder.path()).unwrap();
        let split = std::fs::read(folder.path().join(SPLIT)).unwrap();
        let split: BTreeMap<String, Vec<(String, usize, String)>> = serde_json::from_slice(&split).unwrap();
        assert_eq!(["train", "val", "test"].map(|part| split[part].len()), [10, 5, 10]);
        let mut named = BTreeSet::new();
        for (path, label, class_name) in split.values().flatten() {
            assert!(*label < 5);
            assert_eq!(path.split('/').next(), Some(class_name.replace(' ', "_").as_str()));
            let picture = image::open(folder.path().join(IMAGES).join(path)).unwrap();
            assert_eq!((picture.width(), picture.height()), (32, 32));
            assert!(named.insert(path.clone()));
        }
        assert_eq!(files(&folder.path().join(IMAGES)).len(), named.len());
        assert_eq!(named.iter().filter(|path| path.ends_with("jpg")).count(), 10);
    }

    #[test]
    fn captions_are_varied_and_leave_out_a_third_of_the_combinations() {
        let folder = tempfile::tempdir().unwrap();
        tiny("captioned").write(folder.path()).unwrap();
        let captions = std::fs::read_to_string(folder.path().join(CAPTIONS)).unwrap();
        let captions: Vec<serde_json::Value> =
            captions.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(captions.len(), 40);
        for line in &captions {
            assert!(folder.path().join(IMAGES).join(line["path"].as_str().unwrap()).is_file());
        }
        let texts: BTreeSet<&str> = captions.iter().map(|line| line["caption"].as_str().unwrap()).collect();
        assert!(texts.len() > 30, "{texts:?}");
        for family in Family::ALL {
            let missing = family.classes(0, 1).unwrap()[0].name();
            assert!(!texts.iter().any(|text| text.contains(&missing)), "{missing}");
        }
    }

    #[test]
    fn parameters_out_of_range_are_refused_by_name() {
        let mut world = tiny("shapes");
        world.parameters.classes = 10_000;
        assert!(world.write(Path::new("unused")).unwrap_err().to_string().contains("10000 classes"));
        let mut world = tiny("shapes");
        world.parameters.style.noise = [0.3, 0.2];
        assert!(world.write(Path::new("unused")).unwrap_err().to_string().contains("`noise`"));
        let mut world = tiny("captioned");
        world.parameters.captioned = 0;
        assert!(world.write(Path::new("unused")).is_err());
        let unknown = serde_json::json!({ "dataset": "shapes", "colour": 1 });
        assert!(serde_json::from_value::<Parameters>(unknown).is_err());
    }
}
