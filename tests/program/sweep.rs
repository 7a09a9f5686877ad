//! A sweep over a learning rate, of which one value is chosen on validation images.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde_json::Value;

use crate::support::Project;

const SWEEP: &str = r#"
include = "tiny.toml"
name = "sweep"
results = ["@table", "@select"]
[axes]
method = ["clip", "coop"]
learning_rate = [1e-7, 0.01, 1.0]
[stage.train]
axes = ["dataset", "method", "learning_rate", "seed"]
method = { include = "methods/{method}.toml", training = { learning_rate = "{learning_rate}" } }
[stage.validate]
kind = "eval"
axes = ["dataset", "method", "learning_rate", "seed"]
exclude = { method = "clip" }
prompt = "@train"
shots = "@shots"
split = "val"
weights = "@clip"
classes = "base"
[stage.select]
kind = "select"
axes = ["method"]
exclude = { method = "clip" }
validation = "@validate"
over = "learning_rate"
[stage.best]
kind = "chosen"
axes = ["dataset", "method", "seed"]
exclude = { method = "clip" }
choice = "@select"
prompts = "@train"
[stage.eval]
prompt = "@best"
"#;

fn project() -> Project {
    let project = Project::after_a_run();
    project.write("pipelines/sweep.toml", SWEEP);
    project
}

#[test]
fn the_choice_is_recorded_and_traced_and_only_it_sees_test_images() {
    let project = project();
    let ran = project.ran(&["run", "pipelines/sweep.toml"]);
    // One of the three rates is what the method says itself, and has been trained.
    let count = |stage: &str| ran.iter().filter(|node| node.starts_with(stage)).count();
    assert_eq!((count("train/"), count("validate/"), count("select/"), count("best/")), (4, 6, 1, 2), "{ran:?}");
    assert!(ran.contains("train/shapes/coop/learning_rate1e-7/seed1"), "{ran:?}");
    let choice: Value = serde_json::from_str(&project.read("results/sweep/select/coop.json")).unwrap();
    let candidates = choice["candidates"].as_array().unwrap();
    let values: Vec<&Value> = candidates.iter().map(|one| &one["value"]).collect();
    assert_eq!(values, [1e-7, 0.01, 1.0]);
    // It is the best of the means, which are those of the metrics.
    let records = project.records();
    let accuracy = |rate: &str, seed: usize| -> f64 {
        let metrics = project.artifact(&format!("validate/shapes/coop/learning_rate{rate}/seed{seed}"), "metrics");
        let metrics: Value = serde_json::from_str(&fs::read_to_string(metrics).unwrap()).unwrap();
        assert_eq!((&metrics["split"], &metrics["classes"]), (&"val".into(), &"base".into()));
        metrics["accuracy"].as_f64().unwrap()
    };
    let means = ["1e-7", "0.01", "1.0"].map(|rate| (accuracy(rate, 1) + accuracy(rate, 2)) / 2.0);
    for (mean, candidate) in means.iter().zip(candidates) {
        assert!((candidate["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
        assert_eq!(candidate["evaluations"], 2);
    }
    let best = (0..3).reduce(|best, other| if means[best] < means[other] { other } else { best }).unwrap();
    assert_eq!(choice["value"], candidates[best]["value"]);
    // The prompt is that of the chosen rate, and the trace of a number shows how it was chosen.
    let rate = ["1e-7", "0.01", "1.0"][best];
    let digest = |node: &str| records[node]["outputs"]["prompt"]["digest"].clone();
    assert_eq!(digest("best/shapes/coop/seed2"), digest(&format!("train/shapes/coop/learning_rate{rate}/seed2")));
    let printed = project.run(&["table", "pipelines/sweep.toml", "--trace", "coop", "shapes", "novel"]);
    for text in ["select/coop", &format!("learning_rate {rate}: "), "validate/shapes/coop/learning_rate0.01/seed1"] {
        assert!(printed.stdout.contains(text), "{text} in {}", printed.stdout);
    }
    // The report counts test images alone: three per class and seed.
    project.run(&["report", "pipelines/sweep.toml"]);
    let report = project.read("results/sweep/report.html");
    let counts = Regex::new(r#"title="\d+ of (\d+) images""#).unwrap();
    let counts: BTreeSet<&str> = counts.captures_iter(&report).map(|count| count.extract::<1>().1[0]).collect();
    assert_eq!(counts, BTreeSet::from(["3", "6"]));
    // Another value of the axis trains that value alone.
    let more = ["run", "pipelines/sweep.toml", "--set", "axes.learning_rate=[1e-7, 0.01, 1.0, 0.1]"];
    assert_eq!(project.ran(&more).iter().filter(|node| node.starts_with("train/")).count(), 2);
}

#[test]
fn nothing_is_chosen_on_test_images() {
    let project = project();
    project.replace("pipelines/sweep.toml", "shots = \"@shots\"\nsplit = \"val\"\n", "dataset = \"@data\"\n");
    let printed = project.run(&["run", "pipelines/sweep.toml", "--only", "select/*"]);
    assert_eq!(printed.code, Some(1));
    let message = "error: the evaluation of dataset shapes, learning_rate 1e-7, method coop, seed 1 is of test images, by \
                   which nothing may be chosen\nhint: give that `eval` stage `split = \"val\"`";
    assert!(printed.stderr.contains(message), "{}", printed.stderr);
}

#[test]
fn mistakes_in_a_sweep_are_found_before_anything_runs() {
    for (from, to, message) in [
        (
            "over = \"learning_rate\"",
            "over = \"shots\"",
            "stage `validate` has no axis `shots`, of which `validation` takes all",
        ),
        (
            "kind = \"select\"\naxes = [\"method\"]",
            "kind = \"select\"\naxes = [\"method\", \"learning_rate\"]",
            "`validation` takes all values of axis `learning_rate`, which `select` has, too",
        ),
        ("choice = \"@select\"\n", "choice = \"@train\"\n", "a `chosen` stage needs a `select` stage"),
        (
            "shots = \"@shots\"\nsplit = \"val\"",
            "shots = \"@shots\"",
            "`split` is `test`, of which a few-shot sample has no",
        ),
        (
            "classes = \"base\"",
            "classes = \"novel\"",
            "`shots` was cut to base classes, but novel classes are told apart",
        ),
        ("[1e-7, 0.01, 1.0]", "[1e-7, nan]", "`nan` is not a finite number"),
        ("[1e-7, 0.01, 1.0]", "[0.01, 0.010]", "axis `learning_rate` has the value `0.01` twice"),
    ] {
        let project = project();
        project.replace("pipelines/sweep.toml", from, to);
        let printed = project.run(&["run", "pipelines/sweep.toml"]);
        assert_eq!(printed.code, Some(2), "{to}: {}", printed.stderr);
        assert!(printed.stderr.contains(message), "{message} in {}", printed.stderr);
    }
}
