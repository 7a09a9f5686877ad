//! Weights as files: what PyTorch wrote (`fixtures/weights/record.py`), and what libraries name their tensors.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use maple_pipe::architecture::Architecture;
use maple_pipe::backbone::{Activation, Backbone, BackboneOptions, Teller};
use maple_pipe::weights::{Array, Checkpoint, Format, Names, NumberFormat, Shapes, known, to_safetensors};
use safetensors::Dtype;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights").join(name)
}

/// Single-precision values.
fn floats(shape: &[i64], values: impl IntoIterator<Item = f32>) -> Array {
    let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
    Array { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

/// The fixtures' values: they count up from -1 in quarters.
fn count(shape: &[i64]) -> Array {
    floats(shape, (0..shape.iter().product()).map(|number: i64| number as f32 * 0.25 - 1.0))
}

fn written(folder: &Path, tensors: &BTreeMap<String, Array>) -> PathBuf {
    let path = folder.join("weights.safetensors");
    std::fs::write(&path, to_safetensors(tensors, None).unwrap()).unwrap();
    path
}

#[test]
fn torch_script_archives_are_read() {
    let checkpoint = Checkpoint::read(&fixture("script.pt")).unwrap();
    assert_eq!(checkpoint.format(), Format::TorchScript);
    let mut expected = BTreeMap::from([("logit_scale".to_owned(), floats(&[], [4.5]))]);
    let resolution = Array { dtype: Dtype::I64, shape: vec![], bytes: 224i64.to_le_bytes().to_vec() };
    expected.insert("input_resolution".to_owned(), resolution);
    for block in ["blocks.0", "blocks.1"] {
        expected.insert(format!("{block}.in_proj_weight"), count(&[6, 2]).to_float(Dtype::F16));
        expected.insert(format!("{block}.out_proj.weight"), count(&[2, 2]));
        expected.insert(format!("{block}.out_proj.bias"), count(&[2]));
    }
    assert_eq!(checkpoint.tensors(), &expected);
}

#[test]
fn saved_dictionaries_are_read_in_both_formats() {
    let whole = count(&[4, 3]);
    let ramp = |dtype, bytes: &[u8]| Array { dtype, shape: vec![3], bytes: bytes.to_vec() };
    let expected = BTreeMap::from(
        [
            ("single", whole.clone()),
            ("half", count(&[5]).to_float(Dtype::F16)),
            ("brain", count(&[5]).to_float(Dtype::BF16)),
            ("double", count(&[5]).to_float(Dtype::F64)),
            ("long", ramp(Dtype::I64, &[0, 1, 2].map(i64::to_le_bytes).concat())),
            ("int", ramp(Dtype::I32, &[0, 1, 2].map(i32::to_le_bytes).concat())),
            ("short", ramp(Dtype::I16, &[0, 1, 2].map(i16::to_le_bytes).concat())),
            ("char", ramp(Dtype::I8, &[0, 1, 2])),
            ("byte", ramp(Dtype::U8, &[0, 1, 2])),
            ("bool", Array { dtype: Dtype::BOOL, shape: vec![2], bytes: vec![1, 0] }),
            ("turned", whole.transposed()),
            ("row", floats(&[3], [0.5, 0.75, 1.0])),
            ("parameter", floats(&[4], [-0.75, 0.0, 0.75, 1.5])),
            ("scalar", floats(&[], [0.5])),
            ("empty", floats(&[0, 3], [])),
        ]
        .map(|(name, array)| (name.to_owned(), array)),
    );
    for name in ["archive.pth", "plain.pth"] {
        let checkpoint = Checkpoint::read(&fixture(name)).unwrap();
        assert_eq!(checkpoint.format(), Format::TorchSave, "{name}");
        assert_eq!(checkpoint.tensors(), &expected, "{name}");
    }
}

#[test]
fn of_a_training_checkpoint_the_model_is_read() {
    let checkpoint = Checkpoint::read(&fixture("model.pth.tar-5")).unwrap();
    let expected = [("prompt_learner.ctx", count(&[2, 4])), ("prompt_learner.token_prefix", count(&[1, 1, 4]))];
    assert_eq!(checkpoint.tensors(), &BTreeMap::from(expected.map(|(name, array)| (name.to_owned(), array))));
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    for name in ["script.pt", "archive.pth", "plain.pth", "model.pth.tar-5"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // Behind the tensors of an archive there is its directory, without which it cannot be read either.
        for length in (0..bytes.len()).step_by(97) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = Checkpoint::read(&path).unwrap_err().to_string();
            assert!(message.contains("is not a valid checkpoint: "), "{message}");
        }
        // A changed byte may be harmless; it must not be a panic.
        for place in (0..bytes.len()).step_by(31) {
            let mut changed = bytes.clone();
            changed[place] ^= 0x55;
            std::fs::write(&path, changed).unwrap();
            let _ = Checkpoint::read(&path);
        }
    }
    std::fs::write(&path, "<html>404</html>").unwrap();
    let message = Checkpoint::read(&path).unwrap_err().to_string();
    assert!(message.contains("it is neither PyTorch's nor safetensors"), "{message}");
}

/// The tensors of a small CLIP, every value another one.
fn clip() -> (Architecture, BTreeMap<String, Array>) {
    let architecture = Architecture { vocabulary: 9, text_layers: 2, ..Architecture::tiny() };
    let tensors = architecture.tensors().into_iter().enumerate().map(|(number, (name, shape))| {
        let values = (0..shape.iter().product()).map(|value: i64| (value * 100 + number as i64) as f32);
        (name, floats(&shape, values))
    });
    (architecture, tensors.collect())
}

/// The rows `part` of three equal parts.
fn third(array: &Array, part: usize) -> Array {
    let bytes = array.bytes.len() / 3;
    let mut shape = array.shape.clone();
    shape[0] /= 3;
    Array { dtype: array.dtype, shape, bytes: array.bytes[part * bytes..(part + 1) * bytes].to_vec() }
}

/// The names of Hugging Face's `CLIPModel`, written down from its state dict.
fn hugging_face(tensors: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let mut theirs = BTreeMap::new();
    for (name, array) in tensors {
        let (tower, rest) = match name.strip_prefix("visual.") {
            Some(rest) => ("vision_model", rest),
            None => ("text_model", name.as_str()),
        };
        let mut add = |name: String, array: Array| theirs.insert(name, array);
        if let Some(block) = rest.strip_prefix("transformer.resblocks.") {
            let (index, part) = block.split_once('.').unwrap();
            let layer = format!("{tower}.encoder.layers.{index}");
            match part.split_once('.').unwrap() {
                ("attn", joined @ ("in_proj_weight" | "in_proj_bias")) => {
                    let kind = joined.trim_start_matches("in_proj_");
                    for (part, letter) in ["q", "k", "v"].iter().enumerate() {
                        add(format!("{layer}.self_attn.{letter}_proj.{kind}"), third(array, part));
                    }
                }
                ("attn", part) => drop(add(format!("{layer}.self_attn.{part}"), array.clone())),
                ("ln_1", part) => drop(add(format!("{layer}.layer_norm1.{part}"), array.clone())),
                ("ln_2", part) => drop(add(format!("{layer}.layer_norm2.{part}"), array.clone())),
                ("mlp", part) => {
                    let part = part.replace("c_fc", "fc1").replace("c_proj", "fc2");
                    add(format!("{layer}.mlp.{part}"), array.clone());
                }
                other => panic!("{other:?}"),
            }
            continue;
        }
        let theirs = match name.as_str() {
            "token_embedding.weight" => "text_model.embeddings.token_embedding.weight".to_owned(),
            "positional_embedding" => "text_model.embeddings.position_embedding.weight".to_owned(),
            "visual.class_embedding" => "vision_model.embeddings.class_embedding".to_owned(),
            "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight".to_owned(),
            "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight".to_owned(),
            "text_projection" => "text_projection.weight".to_owned(),
            "visual.proj" => "visual_projection.weight".to_owned(),
            "logit_scale" => "logit_scale".to_owned(),
            norm => norm
                .replace("visual.ln_pre", "vision_model.pre_layrnorm")
                .replace("visual.ln_post", "vision_model.post_layernorm")
                .replace("ln_final", "text_model.final_layer_norm"),
        };
        let turned = theirs.ends_with("_projection.weight");
        add(theirs, if turned { array.transposed() } else { array.clone() });
    }
    let places = Array { dtype: Dtype::I64, shape: vec![1, 1], bytes: vec![0; 8] };
    theirs.insert("text_model.embeddings.position_ids".to_owned(), places.clone());
    theirs.insert("vision_model.embeddings.position_ids".to_owned(), places);
    theirs
}

#[test]
fn names_of_other_libraries_are_turned_into_openais() {
    let folder = tempfile::tempdir().unwrap();
    let (architecture, tensors) = clip();
    let read = |tensors: &BTreeMap<String, Array>| {
        let checkpoint = Checkpoint::read_clip(&written(folder.path(), tensors)).unwrap();
        assert_eq!(checkpoint.shapes().architecture().unwrap(), architecture);
        // The same without the values.
        let shapes = Shapes::read_clip(&folder.path().join("weights.safetensors")).unwrap();
        assert_eq!(shapes.architecture().unwrap(), architecture);
        checkpoint
    };
    let theirs = hugging_face(&tensors);
    assert!(theirs.contains_key("vision_model.encoder.layers.3.self_attn.v_proj.bias"));
    let checkpoint = read(&theirs);
    assert_eq!((checkpoint.names(), checkpoint.tensors()), (Names::HuggingFace, &tensors));

    // OpenAI's own archives hold three numbers more; open_clip trains with `DataParallel`, or has a text tower apart.
    let number = Array { dtype: Dtype::I64, shape: vec![], bytes: vec![0; 8] };
    let numbers = ["input_resolution", "context_length", "vocab_size"].map(|name| (name.to_owned(), number.clone()));
    let apart = |name: &str| match name.starts_with("visual.") || name == "logit_scale" {
        true => name.to_owned(),
        false => format!("text.{name}"),
    };
    for named in [
        tensors.clone().into_iter().chain(numbers).collect(),
        tensors.iter().map(|(name, array)| (format!("module.{name}"), array.clone())).collect(),
        tensors.iter().map(|(name, array)| (apart(name), array.clone())).collect(),
    ] {
        let checkpoint = read(&named);
        assert_eq!((checkpoint.names(), checkpoint.tensors()), (Names::OpenAi, &tensors));
    }
}

#[test]
fn what_is_missing_surplus_or_misshapen_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, tensors) = clip();
    let message = |tensors: &BTreeMap<String, Array>| {
        let checkpoint = Checkpoint::read_clip(&written(folder.path(), tensors)).unwrap();
        let message = checkpoint.shapes().architecture().unwrap_err().to_string();
        message.split_once("` ").unwrap().1.to_owned()
    };
    let mut changed = tensors.clone();
    changed.remove("visual.ln_post.bias");
    changed.insert("logit_bias".to_owned(), floats(&[], [1.0]));
    changed.insert("ln_final.weight".to_owned(), count(&[3]));
    let expected =
        "do not fit: missing: `visual.ln_post.bias`; unknown: `logit_bias`; `ln_final.weight` is [3], not [64]";
    assert_eq!(message(&changed), expected);

    let mut theirs = hugging_face(&tensors);
    theirs.remove("text_model.encoder.layers.1.self_attn.k_proj.bias");
    let expected = "do not fit: missing: `transformer.resblocks.1.attn.in_proj_bias`; unknown: \
        `transformer.resblocks.1.attn.q_proj.bias`, `transformer.resblocks.1.attn.v_proj.bias`";
    assert_eq!(message(&theirs), expected);
}

#[test]
fn a_converted_file_holds_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let (architecture, tensors) = clip();
    let path = written(folder.path(), &tensors);
    for (precision, projection) in [(NumberFormat::Fp16, Dtype::F16), (NumberFormat::Bf16, Dtype::BF16)] {
        let converted = Checkpoint::read_clip(&path).unwrap().into_number_format(precision);
        let again = Checkpoint::read_clip(&written(folder.path(), converted.tensors())).unwrap();
        assert_eq!(again.tensors(), converted.tensors());
        assert_eq!(again.shapes().architecture().unwrap(), architecture);
        assert_eq!(again.tensors()["visual.proj"], tensors["visual.proj"].to_float(projection));
        assert_eq!(again.tensors()["ln_final.weight"], tensors["ln_final.weight"]);
        written(folder.path(), &tensors);
    }
}

/// An archive like PyTorch's, without values: the tensors in half precision, and a module of that class.
fn archive(path: &Path, architecture: &Architecture, class: &str, torch_script: bool) {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let number = |number: i64| [&b"J"[..], &(number as i32).to_le_bytes()].concat();
    let numbers = |numbers: &[i64]| {
        [b"(".to_vec(), numbers.iter().flat_map(|one| number(*one)).collect(), b"t".to_vec()].concat()
    };
    let mut pickle = b"\x80\x02c__torch__.multimodal\nMultimodal\n)\x81}(".to_vec();
    for (place, (name, shape)) in architecture.tensors().iter().enumerate() {
        let strides: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let storage =
            [text("storage"), b"ctorch\nHalfStorage\n".to_vec(), text(&place.to_string()), text("cpu")].concat();
        let count = number(shape.iter().product());
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend([storage, count, b"tQ".to_vec(), number(0), numbers(shape), numbers(&strides)].concat());
        pickle.extend(b"\x89}tR");
    }
    pickle.extend(text("gelu"));
    pickle.extend(format!("c__torch__.multimodal.model.___torch_mangle_7\n{class}\n").as_bytes());
    pickle.extend(b")\x81}bub.");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        // As PyTorch does.
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(content).unwrap();
    };
    add("data.pkl", &pickle);
    add("byteorder", b"little");
    if torch_script {
        add("constants.pkl", b"\x80\x02).");
    }
    archive.finish().unwrap();
}

/// OpenAI's archives name the class of their activation, whatever its shapes and its file's name; a state dict does not.
#[test]
fn an_archive_tells_the_activation_of_its_modules() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.pt");
    let read = |architecture: &Architecture, class: &str, torch_script: bool| {
        archive(&path, architecture, class, torch_script);
        let shapes = Shapes::read_clip(&path).unwrap();
        known(&path, &shapes, &BackboneOptions::default(), false).unwrap()
    };
    for architecture in
        [Architecture::vit_b32(), Architecture::vit_b16(), Architecture::vit_l14(), Architecture::rn50()]
    {
        let known = read(&architecture, "QuickGELU", true);
        assert_eq!(known.activation.unwrap().by, Teller::File);
        assert_eq!(known.backbone("the weights").unwrap(), Backbone::openai(architecture));
    }
    let known = read(&Architecture::vit_h14(), "GELU", true).backbone("the weights").unwrap();
    assert_eq!((known.activation, known.vision_heads, known.text_heads), (Activation::Gelu, 16, 16));
    let error = read(&Architecture::vit_b32(), "QuickGELU", false).backbone("the weights").unwrap_err();
    assert_eq!(error.to_string(), "the weights do not tell the activation");
    // What the user says must not contradict the file.
    archive(&path, &Architecture::vit_b32(), "QuickGELU", true);
    let given = BackboneOptions { activation: Some(Activation::Gelu), ..BackboneOptions::default() };
    let error = known_error(&path, &given);
    assert_eq!(error, "`backbone.activation` is gelu (as given), but also quick_gelu (as the file says)");
}

fn known_error(path: &Path, given: &BackboneOptions) -> String {
    known(path, &Shapes::read_clip(path).unwrap(), given, false).unwrap_err().to_string()
}

/// A pretrained model needs no words, and a converted file says what was known when it was written.
#[test]
fn what_is_known_is_kept_in_a_converted_file() {
    let folder = tempfile::tempdir().unwrap();
    let (architecture, tensors) = clip();
    let path = written(folder.path(), &tensors);
    let checkpoint = Checkpoint::read_clip(&path).unwrap();
    let nothing = BackboneOptions::default();
    let of_pretrain = known(&path, &checkpoint.shapes(), &nothing, true).unwrap();
    assert_eq!(of_pretrain.backbone("the weights").unwrap(), Backbone::openai(architecture));
    let unknown = known(&path, &checkpoint.shapes(), &nothing, false).unwrap();
    assert_eq!((unknown.activation, unknown.text_heads), (None, None));

    let given = BackboneOptions {
        activation: Some(Activation::Gelu),
        vision_heads: Some(4),
        text_heads: Some(8),
        mean: Some([0.5; 3]),
        standard_deviation: Some([0.25; 3]),
    };
    let said = known(&path, &checkpoint.shapes(), &given, false).unwrap();
    std::fs::write(&path, checkpoint.to_bytes(&said).unwrap()).unwrap();
    let again = Checkpoint::read_clip(&path).unwrap();
    assert_eq!(again.tensors(), &tensors);
    for shapes in [again.shapes(), Shapes::read_clip(&path).unwrap()] {
        let backbone = known(&path, &shapes, &nothing, false).unwrap().backbone("the weights").unwrap();
        assert_eq!(backbone.options(), given);
    }
}
