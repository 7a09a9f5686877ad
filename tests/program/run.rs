//! What `run`, `status`, `explain` and `graph` print, and what they leave.

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
        DONE [TIME] ( 2/13) shots/shapes/seed1   4 images
        DONE [TIME] ( 3/13) captioned
        DONE [TIME] ( 4/13) clip   [NUMBER]
        DONE [TIME] ( 5/13) zeroshot/shapes/clip/base   [NUMBER]
        DONE [TIME] ( 6/13) zeroshot/shapes/clip/novel   [NUMBER]
        DONE [TIME] ( 7/13) train/shapes/coop/seed1   [NUMBER]
        DONE [TIME] ( 8/13) train/shapes/maple/seed1   [NUMBER]
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
fn before_a_run_everything_is_stale() {
    let project = Project::new();
    project.prints(
        &["run", PIPELINE, "--dry-run"],
        str![[r#"
<stdout>
   would run data/shapes   never run
     may run shots/shapes/seed1   waits for data/shapes
     may run shots/shapes/seed2   waits for data/shapes
   would run captioned   never run
     may run clip   waits for captioned
     may run zeroshot/shapes/clip/base   waits for data/shapes and 1 more
     may run zeroshot/shapes/clip/novel   waits for data/shapes and 1 more
     may run train/shapes/coop/seed1   waits for shots/shapes/seed1 and 1 more
     may run train/shapes/coop/seed2   waits for shots/shapes/seed2 and 1 more
     may run train/shapes/maple/seed1   waits for shots/shapes/seed1 and 1 more
     may run train/shapes/maple/seed2   waits for shots/shapes/seed2 and 1 more
     may run eval/shapes/coop/seed1/base   waits for data/shapes and 2 more
     may run eval/shapes/coop/seed1/novel   waits for data/shapes and 2 more
     may run eval/shapes/coop/seed2/base   waits for data/shapes and 2 more
     may run eval/shapes/coop/seed2/novel   waits for data/shapes and 2 more
     may run eval/shapes/maple/seed1/base   waits for data/shapes and 2 more
     may run eval/shapes/maple/seed1/novel   waits for data/shapes and 2 more
     may run eval/shapes/maple/seed2/base   waits for data/shapes and 2 more
     may run eval/shapes/maple/seed2/novel   waits for data/shapes and 2 more
     may run table   waits for zeroshot/shapes/clip/base and 9 more
<stderr>
20 nodes: 2 would run, 18 may run after them, 0 up to date
<exit code 0>

"#]],
    );
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stdout>
never run (2)
  data/shapes
  captioned
waits for stale nodes (18)
  shots/shapes/seed1
  shots/shapes/seed2
  clip
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
  train/shapes/coop/seed1
  train/shapes/coop/seed2
  train/shapes/maple/seed1
  ... and 10 more (`--all` lists them)
<stderr>
20 nodes: 0 up to date, 2 stale, 18 waiting for them
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "data/shapes"],
        str![[r#"
<stdout>
data/shapes is stale: it has never run
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "table"],
        str![[r#"
<stdout>
table waits for nodes that are stale; whether it must run shows when they have run
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
  eval/shapes/coop/seed1/base
  eval/shapes/coop/seed1/novel
  eval/shapes/coop/seed2/base
  eval/shapes/coop/seed2/novel
  eval/shapes/maple/seed1/base
  eval/shapes/maple/seed1/novel
  eval/shapes/maple/seed2/base
  eval/shapes/maple/seed2/novel
<exit code 0>

"#]],
    );
    assert!(!project.file(".maple/records").exists() && !project.file("results").exists());
}

#[test]
fn after_a_run_everything_is_up_to_date() {
    let project = Project::after_a_run();
    project.prints(
        &["run", PIPELINE, "-n"],
        str![[r#"
<stderr>
20 nodes: 0 would run, 0 may run after them, 20 up to date
<exit code 0>

"#]],
    );
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
20 nodes: 20 up to date, 0 stale, 0 waiting for them
<exit code 0>

"#]],
    );
    project.prints(
        &["status", PIPELINE, "--all", "--only", "train/*/seed2"],
        str![[r#"
<stdout>
data/shapes   up to date
shots/shapes/seed2   up to date
captioned   up to date
clip   up to date
train/shapes/coop/seed2   up to date
train/shapes/maple/seed2   up to date
<stderr>
6 nodes: 6 up to date, 0 stale, 0 waiting for them
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "train/shapes/maple/seed2"],
        str![[r#"
<stdout>
train/shapes/maple/seed2 is up to date
  key [DIGEST], ran [DATE] in [TIME]
<exit code 0>

"#]],
    );
    project.prints(
        &["run", PIPELINE, "--verbose", "--only", "shots/*", "-j", "1"],
        str![[r#"
<stderr>
      CACHED [TIME] (1/3) data/shapes
      CACHED [TIME] (2/3) shots/shapes/seed1
      CACHED [TIME] (3/3) shots/shapes/seed2
3 nodes: 0 ran, 3 cached, 0 failed in [TIME]: nothing had to run
<exit code 0>

"#]],
    );
}

#[test]
fn a_changed_value_is_explained() {
    let project = Project::after_a_run();
    let shots = ["--set", "stage.shots.shots=1"];
    let with = |arguments: &[&'static str]| [arguments, &shots].concat();
    project.prints(
        &with(&["explain", PIPELINE, "shots/shapes/seed1"]),
        str![[r#"
<stdout>
shots/shapes/seed1 is stale: changed since it last ran
  parameters.shots: 2 -> 1
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["explain", PIPELINE, "train/shapes/coop/seed1"]),
        str![[r#"
<stdout>
train/shapes/coop/seed1 waits for nodes that are stale; whether it must run shows when they have run
  shots/shapes/seed1
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["explain", PIPELINE, "data/shapes"]),
        str![[r#"
<stdout>
data/shapes is up to date
  key [DIGEST], ran [DATE] in [TIME]
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["status", PIPELINE]),
        str![[r#"
<stdout>
changed: parameters.shots (2)
  shots/shapes/seed1
  shots/shapes/seed2
waits for stale nodes (13)
  train/shapes/coop/seed1
  train/shapes/coop/seed2
  train/shapes/maple/seed1
  train/shapes/maple/seed2
  eval/shapes/coop/seed1/base
  eval/shapes/coop/seed1/novel
  eval/shapes/coop/seed2/base
  eval/shapes/coop/seed2/novel
  ... and 5 more (`--all` lists them)
<stderr>
20 nodes: 5 up to date, 2 stale, 13 waiting for them
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["run", PIPELINE, "-n", "--only", "eval/shapes/coop/seed1/*"]),
        str![[r#"
<stdout>
   would run shots/shapes/seed1   changed: parameters.shots
     may run train/shapes/coop/seed1   waits for shots/shapes/seed1
     may run eval/shapes/coop/seed1/base   waits for train/shapes/coop/seed1
     may run eval/shapes/coop/seed1/novel   waits for train/shapes/coop/seed1
<stderr>
7 nodes: 1 would run, 3 may run after them, 3 up to date
<exit code 0>

"#]],
    );
    project.ran(&with(&["run", PIPELINE, "--only", "shots/*"]));
    project.prints(
        &with(&["explain", PIPELINE, "train/shapes/coop/seed1"]),
        str![[r#"
<stdout>
train/shapes/coop/seed1 is stale: changed since it last ran
  inputs.shots.train: [DIGEST] -> [DIGEST]
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "train/shapes/coop/seed1"],
        str![[r#"
<stdout>
train/shapes/coop/seed1 is up to date
  key [DIGEST], ran [DATE] in [TIME]
<exit code 0>

"#]],
    );
}

#[test]
fn a_graph_is_drawn() {
    let project = Project::new();
    project.prints(
        &["graph", PIPELINE, "--only", "eval/shapes/coop/seed1/novel", "--format", "dot"],
        str![[r#"
<stdout>
digraph "tiny" {
  rankdir=LR;
  node [shape=box, style=filled];
  subgraph "cluster_data" {
    label="data";
    "data/shapes" [fillcolor=orange];
  }
  subgraph "cluster_shots" {
    label="shots";
    "shots/shapes/seed1" [fillcolor=lightgrey];
  }
  subgraph "cluster_captioned" {
    label="captioned";
    "captioned" [fillcolor=orange];
  }
  subgraph "cluster_clip" {
    label="clip";
    "clip" [fillcolor=lightgrey];
  }
  subgraph "cluster_train" {
    label="train";
    "train/shapes/coop/seed1" [fillcolor=lightgrey];
  }
  subgraph "cluster_eval" {
    label="eval";
    "eval/shapes/coop/seed1/novel" [fillcolor=lightgrey];
  }
  "data/shapes" -> "shots/shapes/seed1";
  "captioned" -> "clip";
  "shots/shapes/seed1" -> "train/shapes/coop/seed1";
  "clip" -> "train/shapes/coop/seed1";
  "data/shapes" -> "eval/shapes/coop/seed1/novel";
  "clip" -> "eval/shapes/coop/seed1/novel";
  "train/shapes/coop/seed1" -> "eval/shapes/coop/seed1/novel";
}
<exit code 0>

"#]],
    );
    project.ran(&["run", PIPELINE, "--only", "data/*"]);
    project.prints(
        &["graph", PIPELINE, "--only", "shots/*/seed1"],
        str![[r#"
<stdout>
digraph "tiny" {
  rankdir=LR;
  node [shape=box, style=filled];
  subgraph "cluster_data" {
    label="data";
    "data/shapes" [fillcolor=palegreen];
  }
  subgraph "cluster_shots" {
    label="shots";
    "shots/shapes/seed1" [fillcolor=orange];
  }
  "data/shapes" -> "shots/shapes/seed1";
}
<exit code 0>

"#]],
    );
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
