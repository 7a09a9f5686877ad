//! What each stage makes of a tiny instance, pinned beside its version: a change of meaning without a new `VERSION`
//! fails here. Whole outputs are pinned where every machine makes the same bytes. What libtorch computes is pinned as a few
//! projections of its numbers, for every learner in every precision, after six steps at a rate that moves them; so another
//! order of a sum passes, and another momentum does not. Numerics are portable, so the numbers are those of every processor.
//!
//! `MAPLE_PIPE_WRITE_PINS=1 cargo test --profile fast --test versions` writes `tests/fixtures/versions.json` anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maple_pipe::data::random;
use maple_pipe::evaluation::AttentionMap;
use maple_pipe::stages::KINDS;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const PIPELINE: &str = r#"
[axes]
dataset = ["shapes"]
method = [
    "clip", "coop", "cocoop", "vpt", "language", "ivlp", "maple", "promptsrc", "kgcoop", "tcp", "prograd",
    "linear_probe", "zs_lp", "clap", "task_residual", "clip_adapter", "tip_adapter", "tip_adapter_f", "clip-lora", "mma",
]
learning_rate = [0.01, 0.02]
precision = ["fp32", "published-fp32", "fp16", "mixed", "bf16"]

[defaults]
train = { numerics = "portable" }
eval = { numerics = "portable" }
features = { numerics = "portable" }

[stage.captioned]
kind = "world"
dataset = "captioned"
captioned = 96
size = 32

[stage.clip]
kind = "pretrain"
captioned = "@captioned"
seed = 1
epochs = 2
batch_size = 32
learning_rate = 1e-3
warmup_epochs = 0.5
weight_decay = 0.1
crop = [0.5, 1.0]
numerics = "portable"

[stage.world]
kind = "world"
dataset = "shapes"
classes = 4
train = 4
val = 2
test = 4
size = 32

[stage.data]
kind = "dataset"
root = "@world"
manifest.name = "Shapes"
manifest.folder = "shapes"
manifest.images = "images"
manifest.template = "a photo of a {}."
manifest.reader = { kind = "split-json", file = "split.json" }

[stage.shots]
kind = "fewshot"
dataset = "@data"
shots = 3
seed = 1
classes = "base"

[stage.train]
kind = "train"
axes = ["method", "precision"]
only = { method = ["coop", "cocoop", "vpt", "language", "ivlp", "maple", "promptsrc", "kgcoop", "tcp", "prograd", "clip-lora", "mma"] }
shots = "@shots"
weights = "@clip"
seed = 1
method.include = "{method}.toml"
method.precision = "{precision}"

# Two steps an epoch; warm-up, full rate, annealing.
[stage.train.method.training]
epochs = 3
batch_size = 3
learning_rate = 0.05
momentum = 0.8
weight_decay = 0.05
warmup_epochs = 1
warmup_learning_rate = 0.01

[stage.zeroshot]
kind = "eval"
axes = ["method", "precision"]
only = { method = "clip" }
method = { include = "{method}.toml", precision = "{precision}" }
dataset = "@data"
weights = "@clip"
classes = "all"

[stage.eval]
kind = "eval"
axes = ["dataset", "method", "precision"]
only = { method = ["coop", "cocoop", "vpt", "language", "ivlp", "maple", "promptsrc", "kgcoop", "tcp", "prograd", "clip-lora", "mma"] }
dataset = "@data"
prompt = "@train"
weights = "@clip"
classes = "all"

[stage.features]
kind = "features"
axes = ["precision"]
dataset = "@data"
weights = "@clip"
precision = "{precision}"

[stage.sample]
kind = "features"
shots = "@shots"
weights = "@clip"
split = "train"

[stage.of_features]
kind = "eval"
axes = ["dataset", "method", "precision"]
only = { method = ["coop", "cocoop", "language", "kgcoop", "tcp", "prograd"] }
dataset = "@data"
prompt = "@train"
weights = "@clip"
features = "@features"
classes = "all"

[stage.views]
kind = "features"
axes = ["precision"]
shots = "@shots"
weights = "@clip"
split = "train"
views = { epochs = 2, seed = 1, augmentation = { crop_scale = [0.5, 1.0] } }
precision = "{precision}"

[stage.validation]
kind = "features"
axes = ["precision"]
shots = "@shots"
weights = "@clip"
split = "val"
precision = "{precision}"

[stage.behind]
kind = "train"
axes = ["method", "precision"]
only = { method = ["linear_probe", "zs_lp", "clap", "task_residual", "clip_adapter", "tip_adapter", "tip_adapter_f"] }
shots = "@shots"
weights = "@clip"
features = "@views"
validation = "@validation"
seed = 1
method = { include = "{method}.toml", precision = "{precision}", augmentation = { crop_scale = [0.5, 1.0] } }

[stage.eval_behind]
kind = "eval"
axes = ["dataset", "method", "precision"]
only = { method = ["linear_probe", "zs_lp", "clap", "task_residual", "clip_adapter", "tip_adapter", "tip_adapter_f"] }
dataset = "@data"
prompt = "@behind"
weights = "@clip"
classes = "base"

[stage.probe_shots]
kind = "fewshot"
dataset = "@data"
shots = 3
seed = 1
generator = "numpy"

[stage.sweep]
kind = "train"
axes = ["method", "learning_rate"]
only = { method = "maple" }
shots = "@shots"
weights = "@clip"
seed = 1
method = { include = "{method}.toml", precision = "fp32", training = { epochs = 1, batch_size = 3, learning_rate = "{learning_rate}" } }

[stage.validate]
kind = "eval"
axes = ["method", "learning_rate"]
only = { method = "maple" }
shots = "@shots"
split = "val"
prompt = "@sweep"
weights = "@clip"
classes = "base"

[stage.select]
kind = "select"
validation = "@validate"
over = "learning_rate"

[stage.best]
kind = "chosen"
axes = ["method"]
only = { method = "maple" }
choice = "@select"
prompts = "@sweep"

[stage.reported]
kind = "reported"
axes = ["dataset", "method"]
only = { method = "maple" }
log = "@chosen.metrics"
lines = { accuracy = '"accuracy":{},', correct = '"correct":{},' }

[stage.table]
kind = "table"
evals = "@chosen"
caption = "A tiny table."

[stage.chosen]
kind = "eval"
axes = ["dataset", "method"]
only = { method = "maple" }
dataset = "@data"
prompt = "@fp32"
weights = "@clip"
classes = "all"

[stage.attention]
kind = "attention"
axes = ["method"]
only = { method = "maple" }
dataset = "@data"
prompt = "@fp32"
weights = "@clip"
images = 2
numerics = "portable"

[stage.texts]
kind = "features"
axes = ["method"]
only = { method = "clip" }
dataset = "@data"
weights = "@clip"
precision = "fp32"
method = { include = "{method}.toml", precision = "fp32" }

[stage.fp32]
kind = "train"
axes = ["method"]
only = { method = "maple" }
shots = "@shots"
weights = "@clip"
seed = 1
method = { include = "{method}.toml", precision = "fp32", training = { epochs = 1, batch_size = 3, learning_rate = 0.01 } }

[stage.imported]
kind = "imported"
axes = ["method"]
only = { method = "maple" }
checkpoint = "@fp32"
method = { include = "{method}.toml", precision = "fp32", training = { epochs = 1, batch_size = 3, learning_rate = 0.01 } }
"#;

/// Six steps behind the towers; a table of its own, which the learners without steps do not have.
const BEHIND: &str =
    "[training]\nepochs = 3\nbatch_size = 3\nlearning_rate = 0.05\nweight_decay = 0.05\nannealing = \"step\"";

/// The method files, in depths that the tiny model has.
const METHODS: [(&str, &str); 20] = [
    ("clip", "learner = \"zero-shot\"\ntemplates = [\"a picture of a {}.\"]"),
    ("coop", "learner = \"coop\"\ncontext_length = 4\nclass_token_position = \"middle\""),
    ("cocoop", "learner = \"cocoop\"\ncontext_length = 4\ncontext_initial_words = \"a photo of a\""),
    ("vpt", "learner = \"vpt\"\nvision_context_length = 4\nvision_depth = 4"),
    ("language", "learner = \"ivlp\"\ncontext_length = 4\ndepth = 3\nvision_context_length = 0\nvision_depth = 0"),
    ("ivlp", "learner = \"ivlp\"\ncontext_length = 2\ndepth = 3\nvision_context_length = 2\nvision_depth = 3"),
    ("maple", "learner = \"maple\"\ncontext_length = 2\ncontext_initial_words = \"a photo of a\"\ndepth = 3"),
    (
        "promptsrc",
        "learner = \"promptsrc\"\ncontext_length = 2\ndepth = 3\nvision_context_length = 2\nvision_depth = 3\n\
         aggregation_mean = 2\naggregation_deviation = 1\naggregate = \"all\"",
    ),
    (
        "kgcoop",
        "learner = \"kgcoop\"\ncontext_length = 4\nteacher_template = \"a picture of a {}.\"\nteacher_weight = 8.0",
    ),
    ("prograd", "learner = \"prograd\"\ncontext_length = 4\nteacher_template = \"a picture of a {}.\""),
    (
        "tcp",
        "learner = \"tcp\"\ncontext_length = 4\nprompt_template = \"X X X X {}, a shape.\"\n\
         teacher_template = \"a picture of a {}.\"\nteacher_weight = 8.0\nclass_token_block = 2",
    ),
    ("linear_probe", "learner = \"linear-probe\""),
    ("zs_lp", "learner = \"zs-lp\"\nBEHIND"),
    ("clap", "learner = \"zs-lp\"\nclass_adaptive_penalty = true\nBEHIND"),
    ("task_residual", "learner = \"task-residual\"\nBEHIND"),
    ("clip_adapter", "learner = \"clip-adapter\"\nBEHIND"),
    ("tip_adapter", "learner = \"tip-adapter\""),
    ("tip_adapter_f", "learner = \"tip-adapter\"\nBEHIND"),
    ("clip-lora", "learner = \"clip-lora\"\nrank = 2\ndropout = 0.25\ntext_blocks = [1, 3]\nvision_blocks = [2, 4]"),
    ("mma", "learner = \"mma\"\nblocks = [2, 3]\nwidth = 4\nscale = 0.01"),
];

/// What is pinned of a node.
#[derive(Debug, Deserialize, Serialize)]
struct Pin {
    version: u64,
    /// Of outputs that are the same bytes on every machine, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    digests: BTreeMap<String, String>,
    /// Of the numbers that libtorch computed, tensor by tensor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    projections: BTreeMap<String, Vec<f64>>,
}

/// How many projections there are behind the norm.
const PROJECTIONS: u64 = 3;

/// How far the numbers of a tensor may be from the pinned ones, in parts of their norm: what another order of sums makes of six
/// steps.
fn tolerance(node: &str) -> f64 {
    if ["fp16", "mixed", "bf16"].iter().any(|precision| node.ends_with(precision)) { 1e-2 } else { 1e-3 }
}

fn pins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/versions.json")
}

#[test]
fn every_stage_means_what_its_version_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pipeline.toml"), PIPELINE).unwrap();
    for (name, text) in METHODS {
        fs::write(folder.path().join(name).with_extension("toml"), text.replace("BEHIND", BEHIND)).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
        .args(["run", "pipeline.toml", "--store", "store", "--devices", "cpu"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = records(folder.path());
    // A command means what its program means.
    for kind in KINDS.iter().filter(|kind| !kind.is_open) {
        let has_node = records.values().any(|record| record["manifest"]["kind"] == kind.name);
        assert!(has_node, "nothing is pinned of the kind `{}`", kind.name);
    }
    // Features are what an evaluation of images computes, to the bit.
    let predictions = |node: &str| records[node]["outputs"]["predictions"].clone();
    for node in records.keys().filter_map(|node| node.strip_prefix("of_features/")) {
        assert_eq!(predictions(&format!("of_features/{node}")), predictions(&format!("eval/{node}")), "{node}");
    }
    let found: BTreeMap<String, Pin> =
        records.iter().map(|(node, record)| (node.clone(), pin(folder.path(), record))).collect();
    if std::env::var_os("MAPLE_PIPE_WRITE_PINS").is_some() {
        fs::write(pins(), serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let pinned: BTreeMap<String, Pin> = serde_json::from_str(&fs::read_to_string(pins()).unwrap()).unwrap();
    let names = |pins: &BTreeMap<String, Pin>| pins.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&pinned));
    let wrong: Vec<String> = pinned.iter().flat_map(|(node, pin)| differences(node, pin, &found[node])).collect();
    assert!(wrong.is_empty(), "raise the stage's VERSION and pin anew:\n{}", wrong.join("\n"));
}

/// What is not as it was pinned.
fn differences(node: &str, pinned: &Pin, found: &Pin) -> Vec<String> {
    let mut wrong = Vec::new();
    if pinned.version != found.version {
        wrong.push(format!("{node}: version {}, pinned {}", found.version, pinned.version));
    }
    if pinned.digests != found.digests {
        wrong.push(format!("{node}: {:?}, pinned {:?}", found.digests, pinned.digests));
    }
    let names = |pin: &Pin| pin.projections.keys().cloned().collect::<Vec<_>>();
    if names(pinned) != names(found) {
        wrong.push(format!("{node}: {:?}, pinned {:?}", names(found), names(pinned)));
        return wrong;
    }
    for (name, pinned) in &pinned.projections {
        let pairs = found.projections[name].iter().zip(pinned);
        let apart = pairs.map(|(found, pinned)| (found - pinned).abs()).fold(0.0, f64::max) / pinned[0];
        if apart > tolerance(node) {
            wrong.push(format!("{node}: `{name}` is {apart:.1e} of its norm away from what is pinned"));
        }
    }
    wrong
}

/// The pins tell meanings apart: other hyper-parameters lie far beyond the tolerance.
#[test]
fn pins_tell_meanings_apart() {
    let pinned: BTreeMap<String, Pin> = serde_json::from_str(&fs::read_to_string(pins()).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pipeline.toml"), PIPELINE).unwrap();
    for (name, text) in METHODS {
        fs::write(folder.path().join(name).with_extension("toml"), text.replace("BEHIND", BEHIND)).unwrap();
    }
    for changed in
        ["momentum=0.79", "weight_decay=0.045", "learning_rate=0.049", "warmup_learning_rate=0.0097", "epochs=2"]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
            .args(["run", "pipeline.toml", "--store", "store", "--devices", "cpu", "--only", "train/maple/fp32"])
            .args(["--set", &format!("stage.train.method.training.{changed}")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let newest = records(folder.path()).remove("train/maple/fp32").unwrap();
        let wrong = differences("train/maple/fp32", &pinned["train/maple/fp32"], &pin(folder.path(), &newest));
        assert!(!wrong.is_empty(), "{changed} passes for what is pinned");
        fs::remove_dir_all(folder.path().join("store/records")).unwrap();
    }
}

/// What there is to pin of a record.
fn pin(folder: &Path, record: &Value) -> Pin {
    let version = record["manifest"]["version"].as_u64().unwrap();
    let outputs = record["outputs"].as_object().unwrap();
    let file = |name: &str| {
        let digest = outputs[name]["digest"].as_str().unwrap();
        folder.join("store/artifacts").join(&digest[..2]).join(digest)
    };
    let mut pin = Pin { version, digests: BTreeMap::new(), projections: BTreeMap::new() };
    match record["manifest"]["kind"].as_str().unwrap() {
        "pretrain" => pin.projections = tensors(&file("weights")),
        "train" | "imported" | "chosen" => pin.projections = tensors(&file("prompt")),
        "features" => pin.projections = tensors(&file("features")),
        "eval" => {
            pin.projections.insert("probabilities".to_owned(), projections(&probabilities(&file("predictions"))));
        }
        "attention" => {
            pin.projections.insert("maps".to_owned(), projections(&shares(&file("maps"))));
        }
        // It names the keys of its evaluations, and so what libtorch computed.
        "table" => {}
        _ => {
            let digest = |artifact: &Value| artifact["digest"].as_str().unwrap()[..16].to_owned();
            pin.digests = outputs.iter().map(|(name, artifact)| (name.clone(), digest(artifact))).collect();
        }
    }
    pin
}

/// The norm of some numbers, and their products with vectors of random signs, which are as far apart as the numbers are.
fn projections(numbers: &[f64]) -> Vec<f64> {
    let norm = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    let product = |number: u64| {
        let mut generator = random::generator(0, "pins", 0, number);
        numbers.iter().map(|number| number * (2.0 * random::below(&mut generator, 2) as f64 - 1.0)).sum::<f64>()
    };
    std::iter::once(norm).chain((0..PROJECTIONS).map(product)).collect()
}

/// The projections of every tensor of a safetensors file.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    use safetensors::{Dtype, SafeTensors};
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str, tensor: &safetensors::tensor::TensorView<'_>| match tensor.dtype() {
        Dtype::F32 => {
            tensor.data().as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect::<Vec<_>>()
        }
        Dtype::BF16 => {
            tensor.data().as_chunks::<2>().0.iter().map(|two| half::bf16::from_le_bytes(*two).to_f64()).collect()
        }
        Dtype::F16 => {
            tensor.data().as_chunks::<2>().0.iter().map(|two| half::f16::from_le_bytes(*two).to_f64()).collect()
        }
        other => panic!("`{name}` is {other:?}"),
    };
    let pinned = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let projections = projections(&values(&name, &tensor));
        (name, projections)
    };
    file.tensors().into_iter().map(pinned).filter(|(_, projections)| projections[0] > 0.0).collect()
}

/// The probability of every prediction, with the label as its sign and size, so that both count.
fn probabilities(path: &Path) -> Vec<f64> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows = reader.deserialize::<BTreeMap<String, String>>().map(|row| row.unwrap());
    let number = |row: &BTreeMap<String, String>, name: &str| row[name].parse::<f64>().unwrap();
    rows.map(|row| number(&row, "probability") * (1.0 + number(&row, "prediction"))).collect()
}

/// The attention to every patch of every image, and to the prompts.
fn shares(path: &Path) -> Vec<f64> {
    let maps: Vec<AttentionMap> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    maps.iter().flat_map(|map| map.patches.iter().chain([&map.prompts])).map(|share| f64::from(*share)).collect()
}

/// The records by node, of nodes with the same result one.
fn records(folder: &Path) -> BTreeMap<String, Value> {
    walkdir::WalkDir::new(folder.join("store/records"))
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| serde_json::from_str::<Value>(&fs::read_to_string(entry.path()).unwrap()).unwrap())
        .map(|record| (record["node"].as_str().unwrap().to_owned(), record))
        .collect()
}
