//! Data preparation against what the published code, CPython, Pillow and torchvision give.
//!
//! The fixtures are a part of the reference numbers; the rest lies in the folder that `MAPLE_PIPE_SHARED` names, or in
//! `../shared` beside the checkout, and its tests are skipped without it.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use image::RgbImage;
use maple_pipe::backbone::Preprocessing;
use maple_pipe::data::classes::Classes;
use maple_pipe::data::image::decode;
use maple_pipe::data::item::Item;
use maple_pipe::data::manifest::Manifest;
use maple_pipe::data::random::generator;
use maple_pipe::data::sampling::{PythonRandom, few_shot};
use maple_pipe::data::split::Split;
use maple_pipe::data::transform::{Normalisation, Transform, View};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

/// The larger reference sets, where they are.
fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MAPLE_PIPE_SHARED").map(PathBuf::from);
    let folder = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(part);
    if !folder.exists() {
        println!("skipped: no `{}` (name the folder of reference data in MAPLE_PIPE_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(!names.is_empty(), "{}", folder.display());
    names
}

// ---- Few-shot samples ----

#[derive(Deserialize)]
struct FewShot {
    runs: Vec<Run>,
    rng_anchors: BTreeMap<u64, BTreeMap<String, Vec<usize>>>,
}

#[derive(Deserialize)]
struct Run {
    seed: u64,
    shots: NonZeroUsize,
    subsample: String,
    train: Vec<(String, usize, String)>,
    val: Vec<(String, usize, String)>,
    test: Option<Vec<(String, usize, String)>>,
    n_test: usize,
    classnames: Vec<String>,
}

fn triples(items: Vec<Item>) -> Vec<(String, usize, String)> {
    items.into_iter().map(|item| (item.path, item.label, item.class_name)).collect()
}

#[test]
fn few_shot_samples_and_class_subsets_equal_the_published_codes() {
    let reference: FewShot = read_json(&fixtures().join("fewshot.json"));
    let split = Split::read(&fixtures().join("fewshot.synthetic_split.json")).unwrap();
    let names = split.class_names();
    assert_eq!(reference.runs.len(), 45);
    for run in reference.runs {
        let what = format!("seed {}, {} shots, {}", run.seed, run.shots, run.subsample);
        let classes = match run.subsample.as_str() {
            "all" => Classes::All,
            "base" => Classes::Base,
            "new" => Classes::Novel,
            other => panic!("unknown subset `{other}`"),
        };
        let sample = few_shot(&split, run.shots, run.seed);
        assert_eq!(triples(classes.select(&sample.train, names.len())), run.train, "{what}: train");
        assert_eq!(triples(classes.select(&sample.val, names.len())), run.val, "{what}: val");
        let test = classes.select(&split.test, names.len());
        assert_eq!(test.len(), run.n_test, "{what}: test");
        if let Some(reference) = run.test {
            assert_eq!(triples(test), reference, "{what}: test");
        }
        assert_eq!(classes.names(&names), run.classnames, "{what}: class names");
    }
}

#[test]
fn the_generator_draws_as_cpython_does() {
    let reference: FewShot = read_json(&fixtures().join("fewshot.json"));
    assert_eq!(reference.rng_anchors.len(), 3);
    for (seed, anchors) in reference.rng_anchors {
        assert_eq!(PythonRandom::new(seed).sample(100, 5), anchors["sample(range(100),5)"], "seed {seed}");
        assert_eq!(PythonRandom::new(seed).sample(37, 16), anchors["sample(range(37),16)"], "seed {seed}");
    }
}

#[test]
fn few_shot_samples_of_real_data_sets_equal_the_published_ones() {
    let Some(folder) = shared("splits") else { return };
    let sets = [("caltech101", "Caltech101"), ("dtd", "DescribableTextures"), ("eurosat", "EuroSAT")];
    let mut compared = 0;
    for (data_set, split_name) in sets {
        let split = Split::read(&folder.join(format!("split_zhou_{split_name}.json"))).unwrap();
        for (shots, seed) in [1, 4, 16].into_iter().flat_map(|shots| [1, 2, 3].map(|seed| (shots, seed))) {
            let file = folder.join(format!("fewshot/{data_set}/shot_{shots}-seed_{seed}.json"));
            let reference: BTreeMap<String, Vec<String>> = read_json(&file);
            let sample = few_shot(&split, NonZeroUsize::new(shots).unwrap(), seed);
            for (part, items) in [("train", &sample.train), ("val", &sample.val)] {
                // The reference's paths begin with the image folder.
                let images = reference[part][0].strip_suffix(&items[0].path).unwrap_or("?");
                let paths: Vec<String> = items.iter().map(|item| format!("{images}{}", item.path)).collect();
                assert_eq!(paths, reference[part], "{}: {part}", file.display());
                compared += paths.len();
            }
        }
    }
    println!("{compared} images in {} samples are equal, in order", sets.len() * 9);
}

#[test]
fn the_caltech_subset_is_what_its_manifest_says() {
    let Some(root) = shared("data") else { return };
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests");
    let manifest =
        |name: &str| -> Manifest { toml::from_str(&fs::read_to_string(manifests.join(name)).unwrap()).unwrap() };
    let subset = manifest("caltech101-20.toml");
    let folder = root.join(&subset.folder);
    for (part, items) in subset.split(&folder).unwrap().parts() {
        for item in items {
            assert!(folder.join(&subset.images).join(&item.path).is_file(), "{part}: {}", item.path);
        }
    }
    // The full data set's manifest refuses the subset.
    let error = manifest("caltech101.toml").split(&folder).unwrap_err().to_string();
    assert!(error.contains("is not the published file: its SHA-256 is"), "{error}");
}

// ---- Images ----

/// How far two 8-bit images of one size are apart.
#[derive(Clone, Copy)]
struct Difference {
    /// The share of values that differ at all.
    share: f64,
    mean: f64,
    largest: u8,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "{:6.3}% differ, mean {:.4}, largest {}", 100.0 * self.share, self.mean, self.largest)
    }
}

fn difference(ours: &RgbImage, reference: &RgbImage) -> Difference {
    assert_eq!(ours.dimensions(), reference.dimensions());
    let values = ours.as_raw().iter().zip(reference.as_raw()).map(|(ours, reference)| ours.abs_diff(*reference));
    let count = ours.as_raw().len() as f64;
    Difference {
        share: values.clone().filter(|&value| value > 0).count() as f64 / count,
        mean: values.clone().map(f64::from).sum::<f64>() / count,
        largest: values.max().unwrap(),
    }
}

fn open(path: &Path) -> RgbImage {
    decode(&fs::read(path).unwrap(), path).unwrap()
}

fn evaluation(image: &RgbImage) -> RgbImage {
    Transform::Evaluation { size: 224 }.apply(image, &mut generator(0, "unused", 0, 0))
}

/// Not one value differs.
#[track_caller]
fn assert_equal(name: &str, ours: &RgbImage, reference: &RgbImage) {
    let difference = difference(ours, reference);
    println!("{name}: {difference}");
    assert_eq!(difference.largest, 0, "{name}: {difference}");
}

/// The test images in `folder`, by name without extension.
fn sources(folder: &Path) -> BTreeMap<String, PathBuf> {
    let stem = |name: &str| Path::new(name).file_stem().unwrap().to_str().unwrap().to_owned();
    names(folder).into_iter().map(|name| (stem(&name), folder.join(name))).collect()
}

#[test]
fn evaluation_crops_equal_torchvisions() {
    let folder = fixtures().join("preprocess");
    let sources = sources(&folder.join("images"));
    for name in names(&folder.join("evaluation")) {
        let source = &sources[name.strip_suffix(".png").unwrap()];
        let reference = open(&folder.join("evaluation").join(&name));
        assert_equal(&name, &evaluation(&open(source)), &reference);
    }
}

#[test]
fn training_crops_equal_torchvisions() {
    #[derive(Deserialize)]
    struct Recorded {
        result: String,
        image: String,
        top: u32,
        left: u32,
        height: u32,
        width: u32,
        flip: bool,
    }
    let folder = fixtures().join("preprocess");
    let recorded: Vec<Recorded> = read_json(&folder.join("views.json"));
    assert_eq!(recorded.len(), 7);
    for Recorded { result, image, top, left, height, width, flip } in recorded {
        let ours = View { top, left, height, width, flip }.of(&open(&folder.join("images").join(image)), 224);
        let reference = open(&folder.join(format!("training/{result}.png")));
        assert_equal(&result, &ours, &reference);
    }
}

#[test]
fn decoded_jpegs_equal_pillows() {
    let folder = fixtures().join("preprocess");
    let sources = sources(&folder.join("images"));
    for name in names(&folder.join("decoded")) {
        let source = &sources[name.strip_suffix(".png").unwrap()];
        assert_equal(&name, &open(source), &open(&folder.join("decoded").join(&name)));
    }
}

/// The tensors of a reference file by name, as 8-bit images; `channels_first` tells their layout.
fn reference_images(path: &Path, channels_first: bool) -> BTreeMap<String, RgbImage> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let image = |name: &str| {
        let tensor = tensors.tensor(name).unwrap();
        let (shape, data) = (tensor.shape(), tensor.data());
        let (height, width) = if channels_first { (shape[1], shape[2]) } else { (shape[0], shape[1]) };
        let value = |place: usize, channel: usize| {
            if channels_first { data[channel * height * width + place] } else { data[3 * place + channel] }
        };
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            image::Rgb([0, 1, 2].map(|channel| value(y as usize * width + x as usize, channel)))
        })
    };
    tensors.names().into_iter().map(|name| (name.to_owned(), image(name))).collect()
}

/// `fixtures/data/formats/write.py` says how they were made.
#[test]
fn images_of_every_kind_equal_pillows() {
    let folder = fixtures().join("formats");
    let names = names(&folder.join("sources"));
    for name in &names {
        let reference = open(&folder.join(format!("decoded/{name}.png")));
        assert_equal(name, &open(&folder.join("sources").join(name)), &reference);
    }
    assert_eq!(names.len(), 39);
}

#[test]
fn all_evaluation_crops_equal_torchvisions() {
    let Some(folder) = shared("golden/preprocess") else { return };
    let decoded = reference_images(&folder.join("decoded_jpeg_u8_hwc.safetensors"), false);
    for (name, reference) in reference_images(&folder.join("resized_cropped_u8.safetensors"), true) {
        let source = folder.join("images").join(&name);
        assert_equal(&name, &evaluation(&open(&source)), &reference);
        if let Some(decoded) = decoded.get(&name) {
            assert_equal(&format!("{name} as Pillow decodes it"), &evaluation(decoded), &reference);
        }
    }
}

#[test]
fn all_decoded_jpegs_equal_pillows() {
    let Some(folder) = shared("golden/preprocess") else { return };
    for (name, reference) in reference_images(&folder.join("decoded_jpeg_u8_hwc.safetensors"), false) {
        assert_equal(&name, &open(&folder.join("images").join(&name)), &reference);
    }
}

#[test]
fn normalised_values_are_torchvisions_to_the_bit() {
    let Some(folder) = shared("golden/preprocess") else { return };
    let crops = reference_images(&folder.join("resized_cropped_u8.safetensors"), true);
    let bytes = fs::read(folder.join("normalised_f32.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), 6);
    for (name, tensor) in tensors.iter() {
        let mut ours = vec![0.0f32; 3 * 224 * 224];
        Normalisation::new(&Preprocessing::openai(224)).apply(crops[name].as_raw(), &mut ours);
        let reference = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        assert!(ours.iter().copied().eq(reference), "{name}");
    }
}
