//! Data preparation against what the published code, CPython, Pillow and torchvision give.
//!
//! The fixtures are a part of the reference numbers; `tests/tools/reference.rs` compares with all of them.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use maple_pipe::data::classes::Classes;
use maple_pipe::data::item::Item;
use maple_pipe::data::sampling::{PythonRandom, few_shot};
use maple_pipe::data::split::Split;
use maple_pipe::data::transform::View;
use serde::Deserialize;

use parity::{assert_equal, evaluation, open, read_json};

mod parity;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
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

// ---- Images ----

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
