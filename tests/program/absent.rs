//! A data set or weights that are not there block what needs them, and nothing else.

use std::fs;

use snapbox::str;

use crate::support::{Project, copy};

/// Two data sets, of which one is there, and a method without training.
fn one_of_two() -> Project {
    let project = Project::new();
    for (name, folder) in [("here", "here"), ("gone", "gone")] {
        let manifest = project.read("manifests/shapes.toml");
        let lines = manifest.lines().filter(|line| !line.starts_with("folder") && !line.starts_with("name"));
        let rest: String = lines.map(|line| format!("{line}\n")).collect();
        project.write(&format!("manifests/{name}.toml"), &format!("name = \"{name}\"\nfolder = \"{folder}\"\n{rest}"));
    }
    fs::create_dir(project.file("sets")).unwrap();
    fs::rename(project.file("data/shapes"), project.file("sets/here")).unwrap();
    project.write(
        "two.toml",
        r#"
[axes]
dataset = ["here", "gone"]
seed = [1, 2]
[stage.data]
kind = "dataset"
axes = ["dataset"]
manifest = "manifests/{dataset}.toml"
[stage.shots]
kind = "fewshot"
axes = ["dataset", "seed"]
dataset = "@data"
shots = 2
seed = "{seed}"
[stage.count]
kind = "command"
axes = ["dataset", "seed"]
inputs = { shots = "@shots.train" }
run = "echo '{{\"accuracy\": {seed}0.5, \"classes\": \"all\"}}' > metrics.json"
outputs = { metrics = "metrics.json" }
parameters = { method = "count" }
[stage.table]
kind = "table"
evals = "@score"
caption = "Two data sets."
[stage.score]
kind = "command"
axes = ["dataset", "method", "seed"]
inputs = { metrics = "@count" }
run = "cp inputs/metrics metrics.json"
outputs = { metrics = "metrics.json" }
"#
        .replace("seed = [1, 2]", "seed = [1, 2]\nmethod = [\"count\"]")
        .as_str(),
    );
    project
}

const ROOT: [&str; 2] = ["--data-root", "sets"];

#[test]
fn a_run_lists_all_that_is_absent_and_starts_nothing() {
    let project = one_of_two();
    project.prints(
        &[&["run", "two.toml"], &ROOT[..]].concat(),
        str![[r#"
<stderr>
error: there is no folder `sets/gone`
 --> two.toml:6:8
  |
6 | [stage.data]
  |        ^^^^
  |
  = hint: put the data set there, so that `sets/gone` holds `images` and `split.json`

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
    assert!(!project.file(".maple/records").exists());
}

#[test]
fn what_is_there_runs() {
    let project = one_of_two();
    // What is selected needs nothing that is absent.
    let only = [&["run", "two.toml", "--only", "shots/here/*"], &ROOT[..]].concat();
    assert_eq!(project.ran(&only).len(), 3);
    project.prints(
        &[&["run", "two.toml", "--keep-going", "--jobs", "1"], &ROOT[..]].concat(),
        str![[r#"
<stderr>
warning: there is no folder `sets/gone`
 --> two.toml:6:8
  |
6 | [stage.data]
  |        ^^^^
  |
  = hint: put the data set there, so that `sets/gone` holds `images` and `split.json`

        DONE [TIME] ( 4/15) count/here/seed1
        DONE [TIME] ( 5/15) count/here/seed2
        DONE [TIME] ( 6/15) score/here/count/seed1
        DONE [TIME] ( 7/15) score/here/count/seed2
15 nodes: 4 ran, 3 cached, 0 failed, 8 blocked in [TIME]
error: 8 nodes did not run, because something that they need is not there
hint: `maple-pipe status` lists what is not there, and how to get it
<exit code 1>

"#]],
    );
    // Once it is there, only what was blocked runs.
    copy(&project.file("sets/here"), &project.file("sets/gone"));
    let ran = project.ran(&[&["run", "two.toml"], &ROOT[..]].concat());
    assert!(ran.iter().all(|node| node.contains("gone") || node == "table"), "{ran:?}");
}

#[test]
fn every_command_works_with_what_is_there() {
    let project = one_of_two();
    project.run(&[&["run", "two.toml", "--keep-going"], &ROOT[..]].concat());
    project.prints(
        &[&["status", "two.toml"], &ROOT[..]].concat(),
        str![[r#"
<stdout>
blocked: something that they need is not there (8)
  data/gone
  shots/gone/seed1
  shots/gone/seed2
  count/gone/seed1
  count/gone/seed2
  score/gone/count/seed1
  score/gone/count/seed2
  table
<stderr>
warning: there is no folder `sets/gone`
 --> two.toml:6:8
  |
6 | [stage.data]
  |        ^^^^
  |
  = hint: put the data set there, so that `sets/gone` holds `images` and `split.json`

15 nodes: 7 up to date, 0 stale, 0 waiting for them, 8 blocked
<exit code 0>

"#]],
    );
    project.prints(
        &[&["table", "two.toml"], &ROOT[..]].concat(),
        str![[r#"
<stdout>
Two data sets.

| Data set | Method |     Accuracy |
|:---------|:-------|-------------:|
| here     | count  | 15.50 ± 5.00 |
| gone     | count  |        - [1] |
| Average  | count  |    15.50 [2] |

[1] missing  
[2] 1 of 2 data sets
<stderr>
warning: 1 data set or file of weights is not there, and what needs them is left out
hint: `maple-pipe status two.toml` lists them, and how to get them
<exit code 0>

"#]],
    );
    project.prints(
        &[&["run", "--dry-run", "two.toml"], &ROOT[..]].concat(),
        str![[r#"
<stderr>
warning: there is no folder `sets/gone`
 --> two.toml:6:8
  |
6 | [stage.data]
  |        ^^^^
  |
  = hint: put the data set there, so that `sets/gone` holds `images` and `split.json`

15 nodes: 0 would run, 0 may run after them, 7 up to date, 8 blocked
about [TIME] with 2 nodes at a time, [SIZE] of results, no estimate for 1 node: its stage has not run yet
<exit code 0>

"#]],
    );
    project.prints(
        &[&["explain", "two.toml", "score/gone/count/seed1"], &ROOT[..]].concat(),
        str![[r#"
<stdout>
score/gone/count/seed1 is blocked: something that it needs is not there
  there is no folder `sets/gone`
<exit code 0>

"#]],
    );
    project.prints(
        &[&["logs", "two.toml", "score/here/count/seed1"], &ROOT[..]].concat(),
        str![[r#"
<stderr>
`score/here/count/seed1` wrote nothing
<exit code 0>

"#]],
    );
    for command in [&["report", "two.toml"][..], &["graph", "two.toml"], &["verify", "two.toml"], &["gc", "two.toml"]] {
        let printed = project.run(&[command, &ROOT[..]].concat());
        assert_eq!(printed.code, Some(0), "{command:?}: {}", printed.stderr);
    }
    // Without names it goes by the runs, whatever else is absent now.
    let printed = project.run(&["gc", "--dry-run"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stderr.contains(": 0 results of 0 nodes;"), "{}", printed.stderr);
    let report = project.read("results/two/report.html");
    assert!(report.contains("blocked"));
    let json = project.json(&[&["status", "two.toml", "--json"], &ROOT[..]].concat());
    assert_eq!(json["counts"]["blocked"], 8);
    let gone = json["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "data/gone").unwrap();
    assert_eq!((&gone["state"], &gone["reason"]), (&"blocked".into(), &"blocked".into()));
}

/// Weights are as much a thing to be fetched as a data set.
#[test]
fn absent_weights_are_one_thing() {
    let project = Project::new();
    for weights in ["openai/ViT-B-16", "nowhere.pt"] {
        project.write(
            "weights.toml",
            &format!(
                r#"
[axes]
classes = ["base", "novel"]
[stage.data]
kind = "dataset"
manifest = "manifests/shapes.toml"
root = "data/shapes"
[stage.eval]
kind = "eval"
axes = ["classes"]
dataset = "@data"
weights = "{weights}"
classes = "{{classes}}"
method = {{ learner = "zero-shot" }}
"#
            ),
        );
        let printed = project.run(&["run", "weights.toml", "--data-root", "data"]);
        assert_eq!(printed.code, Some(2));
        assert!(printed.stderr.contains(weights), "{}", printed.stderr);
        assert!(printed.stderr.contains("error: 1 thing is not there"), "{}", printed.stderr);
        let printed = project.run(&["run", "weights.toml", "--data-root", "data", "--keep-going"]);
        assert_eq!(printed.code, Some(1));
        assert!(printed.stderr.contains("failed, 2 blocked"), "{}", printed.stderr);
        assert_eq!(project.run(&["status", "weights.toml", "--data-root", "data"]).code, Some(0));
    }
}
