//! `maple-pipe schema`: what editors know of pipelines.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// What the program prints.
fn schema(arguments: &[&str]) -> Value {
    let printed = Project::new().run(&[&["schema"], arguments].concat());
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&printed.stdout).unwrap()
}

fn instance(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// The TOML files of a shipped folder.
fn shipped(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = walkdir::WalkDir::new(folder).max_depth(1).into_iter().map(|entry| entry.unwrap().into_path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|one| one == "toml")).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn what_ships_is_what_it_allows() {
    let folders = [
        ("pipeline", "pipelines"),
        ("pipeline", "pipelines/miniature"),
        ("method", "pipelines/methods"),
        ("manifest", "data-manifests"),
    ];
    for (kind, folder) in folders {
        let validator = jsonschema::validator_for(&schema(&[kind])).unwrap();
        for path in shipped(folder) {
            let text = fs::read_to_string(&path).unwrap();
            let mistakes: Vec<String> =
                validator.iter_errors(&instance(&text)).map(|error| error.to_string()).collect();
            assert!(mistakes.is_empty(), "{}: {mistakes:?}", path.display());
            if kind == "pipeline" {
                let names = ["#:schema ./schema.json\n", "#:schema ../schema.json\n"];
                assert!(names.iter().any(|name| text.starts_with(name)), "{} names no schema", path.display());
            }
        }
    }
}

#[test]
fn it_ships_as_it_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/schema.json");
    let shipped: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(shipped == schema(&[]), "write it again: `maple-pipe schema > pipelines/schema.json`");
}

#[test]
fn the_reference_ships_as_it_is_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let printed = Project::new().run(&["schema", "--markdown"]);
    let hint = "write it again: `maple-pipe schema --markdown > docs/reference.md`";
    assert!(fs::read_to_string(path).unwrap() == printed.stdout, "{hint}");
    for expected in [
        "* `shots` (integer, required)",
        "with `learner = \"maple\"`",
        "`light` (list of number, default `[0.85, 1.0]`)",
    ] {
        assert!(printed.stdout.contains(expected), "{expected}");
    }
}

#[test]
fn mistakes_are_refused() {
    let validator = jsonschema::validator_for(&schema(&[])).unwrap();
    let text = Project::new().read(PIPELINE);
    assert!(validator.is_valid(&instance(&text)));
    for (from, to) in [
        ("shots = 2", "shotz = 2"),
        ("shots = 2", "shots = 0.5"),
        ("shots = 2", "shots = \"two\""),
        ("kind = \"fewshot\"", "kind = \"few-shot\""),
        ("kind = \"fewshot\"\n", ""),
        ("[axes]", "[axis]"),
        ("seed = [1, 2]", "seed = 1"),
        ("seed = [1, 2]", "seed = [{ label = \"one\" }]"),
        ("evals = [\"@zeroshot\", \"@eval\"]", "evals = 1"),
        ("only = { method = \"clip\" }", "only = \"clip\""),
        ("classes = \"base\"", "classes = \"basic\""),
        ("batch_size = 16", "batch_size = [16]"),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        assert!(!validator.is_valid(&instance(&text.replace(from, to))), "{from} -> {to}");
    }
    for (from, to) in [
        ("shots = 2", "shots = \"{dataset.shots}\""),
        ("classes = \"base\"", "classes = \"{classes}\""),
        ("only = { method = \"clip\" }", "only = [{ method = [\"clip\"] }]\nextra = { method = \"x\" }"),
        ("[stage.captioned]", "[defaults.train]\nseed = 1\n\n[stage.captioned]"),
        ("dataset = [\"shapes\"]", "dataset = [{ name = \"shapes\", file = \"x.toml\" }]"),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        assert!(validator.is_valid(&instance(&text.replace(from, to))), "{from} -> {to}");
    }
}

#[test]
fn there_is_one_for_each_kind_of_file() {
    Project::new().prints(
        &["schema", "table"],
        str![[r#"
<stderr>
error: invalid value 'table' for '[FILE]'
  [possible values: pipeline, method, manifest]

For more information, try '--help'.
<exit code 2>

"#]],
    );
}
