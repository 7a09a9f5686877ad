//! Weights as files: what PyTorch wrote (`fixtures/weights/record.py`), and what libraries name their tensors.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use maple_pipe::architecture::Architecture;
use maple_pipe::backbone::{Activation, Backbone, BackboneOptions, Teller};
use maple_pipe::weights::{ALIGNMENT, Array, Checkpoint, Format, Names, NumberFormat, Shapes, known, to_safetensors};
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
    let resolution = Array { dtype: Dtype::I64, shape: vec![], bytes: 224i64.to_le_bytes().to_vec().into() };
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
    let ramp = |dtype, bytes: &[u8]| Array { dtype, shape: vec![3], bytes: bytes.to_vec().into() };
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
            ("bool", Array { dtype: Dtype::BOOL, shape: vec![2], bytes: vec![1, 0].into() }),
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
            let expected = if length == 0 { "is empty, not a checkpoint" } else { "is not a valid checkpoint: " };
            assert!(message.contains(expected), "{message}");
            if length > 20 {
                assert!(message.ends_with("it is cut off: copy or fetch it again"), "{length}: {message}");
            }
        }
        // A changed byte may be harmless; it must not be a panic.
        for place in (0..bytes.len()).step_by(31) {
            let mut changed = bytes.clone();
            changed[place] ^= 0x55;
            std::fs::write(&path, changed).unwrap();
            let _ = Checkpoint::read(&path);
        }
    }
    std::fs::write(&path, "something else").unwrap();
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
    Array { dtype: array.dtype, shape, bytes: array.bytes[part * bytes..(part + 1) * bytes].to_vec().into() }
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
    let places = Array { dtype: Dtype::I64, shape: vec![1, 1], bytes: vec![0; 8].into() };
    theirs.insert("text_model.embeddings.position_ids".to_owned(), places.clone());
    theirs.insert("vision_model.embeddings.position_ids".to_owned(), places);
    theirs
}

fn in_front(wrapper: &str, tensors: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    tensors.iter().map(|(name, array)| (format!("{wrapper}{name}"), array.clone())).collect()
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
    for named in [in_front("model.", &theirs), theirs] {
        let checkpoint = read(&named);
        assert_eq!((checkpoint.names(), checkpoint.tensors()), (Names::HuggingFace, &tensors));
    }
    let as_list = |name: &str, array: &Array| match name {
        "logit_scale" => Array { shape: vec![1], ..array.clone() },
        _ => array.clone(),
    };

    // OpenAI's own archives hold three numbers more; open_clip trains with `DataParallel`, or has a text tower apart.
    let number = Array { dtype: Dtype::I64, shape: vec![], bytes: vec![0; 8].into() };
    let numbers = ["input_resolution", "context_length", "vocab_size"].map(|name| (name.to_owned(), number.clone()));
    let apart = |name: &str| match name.starts_with("visual.") || name == "logit_scale" {
        true => name.to_owned(),
        false => format!("text.{name}"),
    };
    for named in [
        tensors.clone().into_iter().chain(numbers).collect(),
        in_front("module.", &tensors),
        // Those of Lightning, `torch.compile`, and models of people's own.
        in_front("model.", &tensors),
        in_front("_orig_mod.", &tensors),
        in_front("clip_model.", &tensors),
        in_front("module.clip.model.", &tensors),
        // One number is one number.
        tensors.iter().map(|(name, array)| (name.clone(), as_list(name, array))).collect(),
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

    // A wrapper that not all names have is no wrapper.
    let mut wrapped = in_front("model.", &tensors);
    wrapped.insert("criterion.weight".to_owned(), count(&[1]));
    assert_eq!(message(&wrapped), "have no `token_embedding.weight` of 2 axes, but `model.token_embedding.weight`");
    let other = BTreeMap::from([("a".to_owned(), count(&[1])), ("b".to_owned(), count(&[1]))]);
    assert_eq!(message(&other), "have no `token_embedding.weight` of 2 axes; they have `a`, `b`");
    let mut flat = tensors.clone();
    flat.insert("token_embedding.weight".to_owned(), count(&[3]));
    assert_eq!(message(&flat), "have no `token_embedding.weight` of 2 axes: it is [3]");

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

/// Parts of pickles, as PyTorch writes them.
mod pickled {
    pub fn text(text: &str) -> Vec<u8> {
        [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    pub fn number(number: i64) -> Vec<u8> {
        [&b"J"[..], &(number as i32).to_le_bytes()].concat()
    }

    pub fn numbers(numbers: &[i64]) -> Vec<u8> {
        [b"(".to_vec(), numbers.iter().flat_map(|one| number(*one)).collect(), b"t".to_vec()].concat()
    }

    /// A tensor that is all of a storage of that class, e.g. `Half`.
    pub fn tensor(class: &str, key: &str, shape: &[i64]) -> Vec<u8> {
        let strides: Vec<i64> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let storage =
            [text("storage"), format!("ctorch\n{class}Storage\n").into_bytes(), text(key), text("cpu")].concat();
        let count = number(shape.iter().product());
        let start = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
        [start, storage, count, b"tQ".to_vec(), number(0), numbers(shape), numbers(&strides), b"\x89}tR".to_vec()]
            .concat()
    }

    pub fn dictionary(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
        [b"}(".to_vec(), entries.collect(), b"u".to_vec()].concat()
    }

    /// What `Module.state_dict` gives: an `OrderedDict` with an attribute.
    pub fn state_dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let items = dictionary(entries)[1..].to_vec();
        let state = dictionary(&[("_metadata", dictionary(&[("", dictionary(&[("version", number(1))]))]))]);
        [b"ccollections\nOrderedDict\n)R".to_vec(), items, state, b"b".to_vec()].concat()
    }

    /// An instance of a class.
    pub fn instance(class: &str, state: &[u8]) -> Vec<u8> {
        [format!("c{class}\n)").as_bytes(), b"\x81", state, b"b"].concat()
    }

    pub fn whole(value: &[u8]) -> Vec<u8> {
        [b"\x80\x02", value, b"."].concat()
    }
}

/// A zip archive like PyTorch's.
fn zipped(path: &Path, pickle: &[u8], others: &[(&str, &[u8])]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, content) in [&[("data.pkl", pickle), ("byteorder", b"little")], others].concat() {
        // As PyTorch does.
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap();
}

/// An archive like PyTorch's, without values: the tensors in half precision, and a module of that class.
fn archive(path: &Path, architecture: &Architecture, class: &str, torch_script: bool) {
    let tensors = architecture.tensors();
    let keys: Vec<String> = (0..tensors.len()).map(|place| place.to_string()).collect();
    let tensors = tensors.iter().zip(&keys).map(|((name, shape), key)| (&**name, pickled::tensor("Half", key, shape)));
    let gelu = pickled::instance(&format!("__torch__.multimodal.model.___torch_mangle_7\n{class}"), b"}");
    let entries: Vec<(&str, Vec<u8>)> = tensors.chain([("gelu", gelu)]).collect();
    let module = pickled::instance("__torch__.multimodal\nMultimodal", &pickled::dictionary(&entries));
    let constants: &[(&str, &[u8])] = &[("constants.pkl", b"\x80\x02).")];
    zipped(path, &pickled::whole(&module), if torch_script { constants } else { &[] });
}

/// People save a model in several ways.
#[test]
fn a_model_is_found_among_what_is_saved_with_it() {
    use pickled::{dictionary, instance, number, state_dict, tensor};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.pt");
    let expected = BTreeMap::from([("a.weight".to_owned(), count(&[2, 3])), ("logit_scale".to_owned(), count(&[1]))]);
    let entries = [("a.weight", tensor("Float", "0", &[2, 3])), ("logit_scale", tensor("Float", "1", &[1]))];
    let [parameters, buffers] = [&entries[1..], &[]].map(state_dict);
    let linear = instance(
        "torch.nn\nLinear",
        &dictionary(&[
            ("_parameters", state_dict(&[("weight", tensor("Float", "0", &[2, 3]))])),
            ("_modules", state_dict(&[])),
            // No part of what PyTorch calls its state.
            ("mask", tensor("Float", "0", &[2, 3])),
        ]),
    );
    let module = instance(
        "models\nModel",
        &dictionary(&[("_parameters", parameters), ("_buffers", buffers), ("_modules", state_dict(&[("a", linear)]))]),
    );
    let optimizer = ("optimizer", dictionary(&[("lr", number(1))]));
    for (name, saved) in [
        ("a plain dictionary", dictionary(&entries)),
        ("what `state_dict` gives", state_dict(&entries)),
        ("Dassl's", dictionary(&[("state_dict", state_dict(&entries)), ("epoch", number(5)), optimizer.clone()])),
        ("model", dictionary(&[optimizer.clone(), ("model", state_dict(&entries))])),
        ("model_state_dict", dictionary(&[("model_state_dict", dictionary(&entries)), optimizer.clone()])),
        ("two deep", dictionary(&[("model", dictionary(&[("state_dict", dictionary(&entries))]))])),
        ("a module", module.clone()),
        ("a module in a dictionary", dictionary(&[("model", module), optimizer])),
    ] {
        let values: Vec<Vec<u8>> = expected.values().map(|array| array.bytes.to_vec()).collect();
        zipped(&path, &pickled::whole(&saved), &[("data/0", &values[0]), ("data/1", &values[1])]);
        assert_eq!(Checkpoint::read(&path).unwrap().tensors(), &expected, "{name}");
    }
}

/// What lies in a mapped file is what is read from it, mistakes too.
#[test]
fn a_mapped_file_gives_what_a_read_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    for name in ["script.pt", "archive.pth", "plain.pth", "model.pth.tar-5"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let damaged = |place: usize| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        };
        let files = (0..whole.len()).step_by(97).map(damaged).chain([whole.clone(), whole[..whole.len() / 2].to_vec()]);
        for bytes in files {
            std::fs::write(&path, bytes).unwrap();
            match (Checkpoint::read_clip(&path), Checkpoint::map_clip(&path)) {
                (Ok(read), Ok(mapped)) => assert_eq!(read.tensors(), mapped.tensors()),
                (read, mapped) => assert_eq!(read.unwrap_err().to_string(), mapped.unwrap_err().to_string()),
            }
        }
    }
}

/// Files that would fill the memory or take for ever.
#[test]
fn hostile_files_are_refused() {
    use pickled::{dictionary, tensor, text};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pt");
    let refused = |pickle: &[u8], storage: &[u8]| {
        zipped(&path, &pickled::whole(pickle), &[("data/0", storage)]);
        let message = Checkpoint::read(&path).unwrap_err().to_string();
        assert_eq!(message, Shapes::read(&path).err().map_or(message.clone(), |error| error.to_string()));
        message.split_once("is not a valid checkpoint: ").unwrap().1.to_owned()
    };
    // Each dictionary holds the one before it twice; `q` keeps it, `h` recalls it.
    let doubling = |start: &[u8], levels: u8| {
        let mut pickle = start.to_vec();
        for level in 0..levels {
            pickle.extend(
                [b"q", &[level][..], b"0}(", &text("a"), b"h", &[level], &text("b"), b"h", &[level], b"u"].concat(),
            );
        }
        pickle
    };
    let endless = "its modules hold each other so often that their names have no end";
    assert_eq!(refused(&doubling(&tensor("Float", "0", &[1]), 40), &[0; 4]), endless);
    assert_eq!(refused(&doubling(b"}", 60), &[]), endless);
    // One that holds itself.
    let message = refused(&[&b"}q\0"[..], &text("a"), b"h\0s"].concat(), &[]);
    assert!(message.ends_with("lies deeper than 64 modules"), "{message}");

    let storage = vec![0; 1 << 20];
    let names: Vec<String> = (0..3000).map(|number| format!("t{number:04}")).collect();
    let views = names.iter().map(|name| (&**name, tensor("Byte", "0", &[1 << 20])));
    let message = refused(&dictionary(&views.collect::<Vec<_>>()), &storage);
    assert!(message.ends_with("its tensors hold more than 4 times what the file does"), "{message}");

    // A name that is kept once and imported often.
    let long = [text(&"x".repeat(1 << 20)), b"q\0".to_vec(), b"h\0h\0\x93".repeat(1000)].concat();
    assert_eq!(refused(&long, &[]), "it imports something with too long a name");
    let shape = [1].repeat(65);
    let message = refused(&dictionary(&[("a", tensor("Float", "0", &shape))]), &[0; 4]);
    assert_eq!(message, "`a`: it has 65 axes, or one that is shorter than nothing");
    let message = refused(&dictionary(&[("a", tensor("Float", "0", &[-1, -1]))]), &[0; 4]);
    assert_eq!(message, "`a`: it has 2 axes, or one that is shorter than nothing");

    // Modules that share a part are no harm: the part has a name in each.
    zipped(&path, &pickled::whole(&doubling(&tensor("Float", "0", &[1]), 3)), &[("data/0", &[0; 4])]);
    let names: Vec<String> = Checkpoint::read(&path).unwrap().tensors().keys().cloned().collect();
    assert_eq!(names, ["a.a.a", "a.a.b", "a.b.a", "a.b.b", "b.a.a", "b.a.b", "b.b.a", "b.b.b"]);
}

/// Numbers in a header that no tensor can have.
#[test]
fn safetensors_with_impossible_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (tensor, expected) in [
        (r#"{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]}"#, "an axis that is longer than any"),
        (r#"{"dtype":"F4","shape":[4],"data_offsets":[0,2]}"#, "its numbers are F4, which is not read"),
        (r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#, "it is cut off"),
    ] {
        let header = format!("{{\"a\":{tensor}}}");
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 2]].concat();
        let end = if expected.contains("longer") { bytes.len() - 2 } else { bytes.len() };
        std::fs::write(&path, &bytes[..end]).unwrap();
        let message = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // A matrix of no rows may have any number of columns, and Hugging Face's projections are turned.
    let empty = Array { dtype: Dtype::F32, shape: vec![0, 1 << 60], bytes: Vec::new().into() };
    let tensors =
        BTreeMap::from([("text_model.x".to_owned(), count(&[1])), ("text_projection.weight".to_owned(), empty)]);
    let checkpoint = Checkpoint::read_clip(&written(folder.path(), &tensors)).unwrap();
    assert_eq!(checkpoint.tensors()["text_projection"].shape, [1 << 60, 0]);
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
    // Where the file is mapped, tensors may be used where they are, but for the last ones.
    let mapped = Checkpoint::map_clip(&path).unwrap();
    assert_eq!(mapped.tensors(), &tensors);
    let lies_well = |array: &&Array| array.bytes.as_ptr().addr().is_multiple_of(ALIGNMENT);
    let whole = tensors.values().filter(|array| array.bytes.len().is_multiple_of(ALIGNMENT)).count();
    assert!(mapped.tensors().values().filter(lies_well).count() >= whole && whole > 10);
    for shapes in [again.shapes(), Shapes::read_clip(&path).unwrap()] {
        let backbone = known(&path, &shapes, &nothing, false).unwrap().backbone("the weights").unwrap();
        assert_eq!(backbone.options(), given);
    }
}
