//! What `run` prints, and what it leaves.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

#[test]
fn a_first_run_executes_everything_and_a_second_nothing() {
    let project = Project::new();
    let arguments = ["run", PIPELINE, "--set", "axes.seed=[1]", "-j", "1"];
    project.prints(
        &arguments,
        str![[r#"
<stdout>

[TABLE]

<stderr>
        DONE [TIME] ( 1/13) data/shapes   4 classes, 32 images
        DONE [TIME] ( 2/13) captioned
        DONE [TIME] ( 3/13) shots/shapes/seed1   4 images
        DONE [TIME] ( 4/13) clip   [NUMBER]
        DONE [TIME] ( 5/13) train/shapes/coop/seed1   [NUMBER]
        DONE [TIME] ( 6/13) train/shapes/maple/seed1   [NUMBER]
        DONE [TIME] ( 7/13) zeroshot/shapes/clip/base   [NUMBER]
        DONE [TIME] ( 8/13) zeroshot/shapes/clip/novel   [NUMBER]
        DONE [TIME] ( 9/13) eval/shapes/coop/seed1/base   [NUMBER]
        DONE [TIME] (10/13) eval/shapes/coop/seed1/novel   [NUMBER]
        DONE [TIME] (11/13) eval/shapes/maple/seed1/base   [NUMBER]
        DONE [TIME] (12/13) eval/shapes/maple/seed1/novel   [NUMBER]
        DONE [TIME] (13/13) table   6 evaluations
13 nodes: 13 ran, 0 cached, 0 failed in [TIME]
wrote results/tiny
<exit code 0>

"#]],
    );
    let digests = project.digests();
    project.prints(
        &arguments,
        str![[r#"
<stdout>

[TABLE]

<stderr>
13 nodes: 0 ran, 13 cached, 0 failed in [TIME]: nothing had to run
wrote results/tiny
<exit code 0>

"#]],
    );
    assert_eq!(project.digests(), digests);
    let listed: Vec<_> =
        fs::read_dir(project.file("results/tiny")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
    for (file, output) in [("table.csv", "csv"), ("table.tex", "latex"), ("table.md", "markdown")] {
        let stored = fs::read_to_string(project.artifact("table", output)).unwrap();
        assert_eq!(project.read(&format!("results/tiny/{file}")), stored);
    }
    let scratch = fs::read_dir(project.file(".maple/work")).unwrap().count();
    assert_eq!((scratch, fs::read_dir(project.file(".maple/partial")).unwrap().count()), (0, 0));
}

#[test]
fn the_table_shows_what_the_evaluations_measured() {
    let project = Project::after_a_run();
    let accuracy = |node: &str| -> f64 {
        let text = fs::read_to_string(project.artifact(node, "metrics")).unwrap();
        let metrics: Value = serde_json::from_str(&text).unwrap();
        let (correct, total) = (metrics["correct"].as_f64().unwrap(), metrics["total"].as_f64().unwrap());
        assert_eq!((total, metrics["accuracy"].as_f64().unwrap()), (6.0, 100.0 * correct / total));
        100.0 * correct / total
    };
    let csv = project.read("results/tiny/table.csv");
    let mut rows = 0;
    for line in csv.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [_, method, "shapes", metric, mean, ..] = cells[..] else { panic!("{line}") };
        let expected = |classes: &str| match method {
            "clip" => accuracy(&format!("zeroshot/shapes/clip/{classes}")),
            _ => (1..=2).map(|seed| accuracy(&format!("eval/shapes/{method}/seed{seed}/{classes}"))).sum::<f64>() / 2.0,
        };
        let expected = match metric {
            "base" | "novel" => expected(metric),
            "hm" => 2.0 / (1.0 / expected("base") + 1.0 / expected("novel")),
            other => panic!("{other}"),
        };
        assert!((mean.parse::<f64>().unwrap() - expected).abs() < 1e-4, "{line}\n{expected}");
        rows += 1;
    }
    assert_eq!(rows, 9, "{csv}");
}

#[test]
fn a_glob_selects_nodes_and_what_they_need() {
    let project = Project::new();
    let ran = project.ran(&["run", PIPELINE, "--only", "{data,shots}/*"]);
    assert_eq!(ran, names(&["data/shapes", "shots/shapes/seed1", "shots/shapes/seed2"]));
    let project = Project::new();
    assert_eq!(project.ran(&["run", PIPELINE, "--only", "shots/*2"]), names(&["data/shapes", "shots/shapes/seed2"]));
    assert!(!project.file("results").exists());
}

#[test]
fn neither_jobs_nor_threads_nor_the_folder_change_an_artifact() {
    let (first, second) = (Project::after_a_run(), Project::new());
    second.ran(&["run", PIPELINE, "--jobs", "1", "--threads", "2"]);
    assert_eq!(second.digests(), first.digests());
    assert_eq!(first.digests().len(), 1 + 1 + 7 + 2 * 3 + 4 * 2 + 10 + 3);
}

#[test]
fn a_result_edited_by_hand_is_written_again() {
    let project = Project::after_a_run();
    let table = project.read("results/tiny/table.csv");
    project.write("results/tiny/table.csv", "my own numbers\n");
    project.write("results/tiny/notes.txt", "kept\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stdout>

[TABLE]

<stderr>
20 nodes: 0 ran, 20 cached, 0 failed in [TIME]: nothing had to run
wrote results/tiny
<exit code 0>

"#]],
    );
    assert_eq!(project.read("results/tiny/table.csv"), table);
    assert_eq!(project.read("results/tiny/notes.txt"), "kept\n");
    assert_eq!(fs::read_to_string(project.artifact("table", "csv")).unwrap(), table);
}

#[test]
fn store_and_results_go_where_they_are_told() {
    let project = Project::new();
    project.prints(
        &["run", PIPELINE, "--only", "data/*", "--store", "elsewhere", "--results", "out"],
        str![[r#"
<stderr>
        DONE [TIME] (1/1) data/shapes   4 classes, 32 images
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    assert!(project.file("elsewhere/records").is_dir() && !project.file(".maple").exists());
    let printed = project.command(&["run", PIPELINE, "--only", "data/*"]).env("MAPLE_STORE", "elsewhere").output();
    assert_eq!(project.printed(printed.unwrap()).done(), names(&[]));
}

#[test]
fn every_precision_trains_and_evaluates() {
    let project = Project::after_a_run();
    let prompt = || fs::read(project.artifact("train/shapes/maple/seed1", "prompt")).unwrap();
    let mut prompts = vec![prompt()];
    for precision in ["published-fp32", "fp16", "bf16", "mixed"] {
        let set = format!("stage.train.method.precision={precision}");
        let ran = project.ran(&["run", PIPELINE, "--set", "axes.seed=[1]", "--set", &set]);
        // CoOp has no deep prompts to be rounded, but its precision is a part of what it is.
        let evaluated = ["eval/shapes/coop/seed1/base", "eval/shapes/maple/seed1/base", "train/shapes/maple/seed1"];
        assert!(names(&evaluated).is_subset(&ran), "{precision}: {ran:?}");
        let prompt = prompt();
        assert!(!prompts.contains(&prompt), "{precision}");
        prompts.push(prompt);
    }
}
