//! What each stage makes of a tiny instance, pinned beside its version: a change of meaning without a new `VERSION`
//! fails here. Where the numbers come from floating-point sums, they are pinned as closely as processors agree.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PIPELINE: &str = r#"
[axes]
dataset = ["shapes"]
method = ["maple"]

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
shots = "@shots"
weights = "@clip"
seed = 1
method.learner = "maple"
method.context_length = 2
method.context_initial_words = "a photo of a"
method.depth = 2
method.training = { epochs = 2, batch_size = 3, learning_rate = 0.01 }

[stage.eval]
kind = "eval"
axes = ["dataset", "method"]
dataset = "@data"
prompt = "@train"
weights = "@clip"
classes = "all"

[stage.table]
kind = "table"
evals = "@eval"
caption = "A tiny table."
"#;

/// Node, version, and output digests or the number in its note with its tolerance.
enum Pinned {
    Digests(&'static [(&'static str, &'static str)]),
    Number(f64, f64),
}

const PINS: [(&str, u64, Pinned); 7] = [
    ("world", 1, Pinned::Digests(&[("files", "3069b048623c0938")])),
    (
        "data",
        1,
        Pinned::Digests(&[
            ("classes", "48110591aad4c8fc"),
            ("template", "0b9139b73c2c30b8"),
            ("test-novel", "16cbc01c7cd7104d"),
            ("train", "af25d797a73716dd"),
            ("val", "10378d272923c310"),
        ]),
    ),
    (
        "shots",
        1,
        Pinned::Digests(&[("classes", "1de7b8a98051bf51"), ("train", "92a99512153f0edc"), ("val", "423788c47d8f63c7")]),
    ),
    ("clip", 2, Pinned::Number(3.584, 0.01)),
    ("train", 3, Pinned::Number(0.696, 0.01)),
    // 16 images: one may fall on either side of a tie.
    ("eval/shapes/maple", 2, Pinned::Number(37.5, 6.3)),
    ("table", 2, Pinned::Number(1.0, 0.0)),
];

#[test]
fn every_stage_means_what_its_version_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pipeline.toml"), PIPELINE).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
        .args(["run", "pipeline.toml", "--store", "store"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = records(&folder.path().join("store/records"));
    let mut wrong = Vec::new();
    for (node, version, pinned) in PINS {
        let record = &records[node];
        let mut check = |what: &str, found: String, expected: String| {
            if found != expected {
                wrong.push(format!("{node} {what}: {found}, pinned {expected}"));
            }
        };
        check("version", record["manifest"]["version"].to_string(), version.to_string());
        match pinned {
            Pinned::Digests(digests) => {
                for (name, expected) in digests {
                    let found = record["outputs"][name]["digest"].as_str().unwrap();
                    check(name, found[..16].to_owned(), (*expected).to_owned());
                }
            }
            Pinned::Number(expected, tolerance) => {
                let note = record["note"].as_str().unwrap();
                let found: f64 = note.split(' ').find_map(|word| word.parse().ok()).unwrap();
                if (found - expected).abs() > tolerance {
                    check("note", note.to_owned(), format!("{expected} within {tolerance}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "raise the stage's VERSION and pin anew:\n{}", wrong.join("\n"));
}

/// The records by node.
fn records(folder: &Path) -> BTreeMap<String, Value> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| serde_json::from_str::<Value>(&fs::read_to_string(entry.path()).unwrap()).unwrap())
        .map(|record| (record["node"].as_str().unwrap().to_owned(), record))
        .collect()
}
