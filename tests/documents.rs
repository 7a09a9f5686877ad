//! The documents say what is so: their links lead somewhere, their TOML is understood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod shipped;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = docs.filter(|path| path.extension().is_some_and(|one| one == "md"));
    let own = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    documents.chain(own).map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// What GitHub calls the place of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for (path, text) in documents() {
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{} links to `{target}`", path.display());
            if !place.is_empty() {
                let headings = fs::read_to_string(&file).unwrap();
                let found = headings
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|heading| anchor(heading.trim_start_matches('#').trim()) == place);
                assert!(found, "{} links to `{target}`", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

/// Runs the program on a project.
fn program(project: &Path, arguments: &[&str], overrides: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
        .args(arguments)
        .args(overrides.iter().flat_map(|text| ["--set", text]))
        .args(["--data-root", "data"])
        .current_dir(project)
        .output()
        .unwrap()
}

#[test]
fn the_toml_of_the_guide_is_understood() {
    let project = shipped::with_empty_data();
    fs::create_dir(project.path().join(".git")).unwrap();
    for part in ["train", "test"] {
        for class in ["robin", "wren"] {
            fs::create_dir_all(project.path().join("data/birds").join(part).join(class)).unwrap();
        }
    }
    let guide = fs::read_to_string(root().join("docs/guide.md")).unwrap();
    let mut pipelines = Vec::new();
    for block in guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let name = block.lines().next().unwrap().strip_prefix("# ").unwrap();
        let path = project.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, block).unwrap();
        pipelines.extend(name.starts_with("pipelines/").then(|| name.to_owned()));
    }
    assert_eq!(pipelines, ["pipelines/birds.toml", "pipelines/worst.toml"]);
    for pipeline in &pipelines {
        let output = program(project.path(), &["status", pipeline], &[]);
        assert!(output.status.success(), "{pipeline}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let small = [
        "axes.dataset=[\"shapes\"]",
        "axes.method=[\"clip\", \"coop\"]",
        "axes.seed=[1]",
        "stage.captioned.captioned=300",
        "stage.clip.epochs=1",
        "stage.world.classes=8",
        "stage.train.method.training.epochs=1",
    ];
    let output = program(project.path(), &["run", "pipelines/worst.toml"], &small);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for classes in ["base", "novel"] {
        let results = shipped::set_results(&project.path().join("results"), "worst");
        let worst = results.join(format!("worst/shapes/coop/seed1/{classes}.csv"));
        let mut reader = csv::Reader::from_path(&worst).unwrap();
        let accuracy = reader.headers().unwrap().iter().position(|name| name == "accuracy").unwrap();
        let rows: Vec<f64> = reader.records().map(|row| row.unwrap()[accuracy].parse().unwrap()).collect();
        assert!(rows.len() == 3 && rows.is_sorted(), "{rows:?}");
    }
}
