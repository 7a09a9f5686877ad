//! Data preparation against the larger reference sets, which lie in the folder that `MAPLE_PIPE_SHARED` names, or in
//! `../shared` beside the checkout.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use image::RgbImage;
use maple_pipe::backbone::Preprocessing;
use maple_pipe::data::manifest::Manifest;
use maple_pipe::data::sampling::few_shot;
use maple_pipe::data::split::Split;
use maple_pipe::data::transform::Normalisation;
use safetensors::SafeTensors;

use crate::parity::{assert_equal, evaluation, open, read_json};

/// Few-shot samples that the published code drew, and the splits that they are of.
const SPLITS: &str = "splits";
/// Real photographs.
const DATA: &str = "data";
/// What Pillow and torchvision made of images.
const PREPROCESS: &str = "golden/preprocess";

fn shared(part: &str) -> PathBuf {
    let root = std::env::var_os("MAPLE_PIPE_SHARED").map(PathBuf::from);
    root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(part)
}

pub fn has_splits() -> bool {
    shared(SPLITS).is_dir()
}

pub fn has_data() -> bool {
    shared(DATA).is_dir()
}

pub fn has_preprocess() -> bool {
    shared(PREPROCESS).is_dir()
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

pub fn few_shot_samples_of_real_data_sets_equal_the_published_ones() {
    let folder = shared(SPLITS);
    let sets = [("caltech101", "Caltech101"), ("dtd", "DescribableTextures"), ("eurosat", "EuroSAT")];
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
            }
        }
    }
}

pub fn the_caltech_subset_is_what_its_manifest_says() {
    let root = shared(DATA);
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

pub fn all_evaluation_crops_equal_torchvisions() {
    let folder = shared(PREPROCESS);
    let decoded = reference_images(&folder.join("decoded_jpeg_u8_hwc.safetensors"), false);
    for (name, reference) in reference_images(&folder.join("resized_cropped_u8.safetensors"), true) {
        let source = folder.join("images").join(&name);
        assert_equal(&name, &evaluation(&open(&source)), &reference);
        if let Some(decoded) = decoded.get(&name) {
            assert_equal(&format!("{name} as Pillow decodes it"), &evaluation(decoded), &reference);
        }
    }
}

pub fn all_decoded_jpegs_equal_pillows() {
    let folder = shared(PREPROCESS);
    for (name, reference) in reference_images(&folder.join("decoded_jpeg_u8_hwc.safetensors"), false) {
        assert_equal(&name, &open(&folder.join("images").join(&name)), &reference);
    }
}

pub fn normalised_values_are_torchvisions_to_the_bit() {
    let folder = shared(PREPROCESS);
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
