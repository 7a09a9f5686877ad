//! What `status`, `explain` and `run --dry-run` say, in words and in JSON.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// The JSON document that a command prints.
#[track_caller]
fn document(project: &Project, arguments: &[&str]) -> Value {
    let printed = project.run(arguments);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&printed.stdout).unwrap()
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
     may run train/shapes/coop/seed1   waits for data/shapes and 1 more
     may run train/shapes/coop/seed2   waits for data/shapes and 1 more
     may run train/shapes/maple/seed1   waits for data/shapes and 1 more
     may run train/shapes/maple/seed2   waits for data/shapes and 1 more
     may run eval/shapes/coop/seed1/base   waits for data/shapes and 1 more
     may run eval/shapes/coop/seed1/novel   waits for data/shapes and 1 more
     may run eval/shapes/coop/seed2/base   waits for data/shapes and 1 more
     may run eval/shapes/coop/seed2/novel   waits for data/shapes and 1 more
     may run eval/shapes/maple/seed1/base   waits for data/shapes and 1 more
     may run eval/shapes/maple/seed1/novel   waits for data/shapes and 1 more
     may run eval/shapes/maple/seed2/base   waits for data/shapes and 1 more
     may run eval/shapes/maple/seed2/novel   waits for data/shapes and 1 more
     may run table   waits for data/shapes and 1 more
<stderr>
20 nodes: 2 would run, 18 may run after them, 0 up to date
no estimate for 20 nodes: their stages have not run yet
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
waiting for stale nodes (18)
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
table is waiting for nodes that are stale; whether it must run shows when they have run
  data/shapes, captioned   never run
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
  made by [MAKER]
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
  parameters
    shots  2 -> 1
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["explain", PIPELINE, "train/shapes/coop/seed1"]),
        str![[r#"
<stdout>
train/shapes/coop/seed1 is waiting for nodes that are stale; whether it must run shows when they have run
  shots/shapes/seed1   changed: parameters.shots 2 -> 1
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["explain", PIPELINE, "data/shapes"]),
        str![[r#"
<stdout>
data/shapes is up to date
  key [DIGEST], ran [DATE] in [TIME]
  made by [MAKER]
<exit code 0>

"#]],
    );
    project.prints(
        &with(&["status", PIPELINE]),
        str![[r#"
<stdout>
changed: parameters.shots 2 -> 1 (2)
  shots/shapes/seed1
  shots/shapes/seed2
waiting for stale nodes (13)
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
   would run shots/shapes/seed1   changed: parameters.shots 2 -> 1
     may run train/shapes/coop/seed1   waits for shots/shapes/seed1
     may run eval/shapes/coop/seed1/base   waits for shots/shapes/seed1
     may run eval/shapes/coop/seed1/novel   waits for shots/shapes/seed1
<stderr>
7 nodes: 1 would run, 3 may run after them, 3 up to date
about [TIME] with 2 nodes at a time, [SIZE] of results
<exit code 0>

"#]],
    );
    project.ran(&with(&["run", PIPELINE, "--only", "shots/*"]));
    project.prints(
        &with(&["explain", PIPELINE, "train/shapes/coop/seed1"]),
        str![[r#"
<stdout>
train/shapes/coop/seed1 is stale: changed since it last ran
  inputs
    shots.train  [DIGEST] -> [DIGEST]
  because these ran again
    shots/shapes/seed1   changed: parameters.shots 2 -> 1
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "train/shapes/coop/seed1"],
        str![[r#"
<stdout>
train/shapes/coop/seed1 is up to date
  key [DIGEST], ran [DATE] in [TIME]
  made by [MAKER]
<exit code 0>

"#]],
    );
    project.ran(&with(&["run", PIPELINE, "--only", "train/shapes/coop/seed1"]));
    project.prints(
        &with(&["explain", PIPELINE, "eval/shapes/coop/seed1/base"]),
        str![[r#"
<stdout>
eval/shapes/coop/seed1/base is stale: changed since it last ran
  inputs
    prompt.prompt  [DIGEST] -> [DIGEST]
  because these ran again
    shots/shapes/seed1   changed: parameters.shots 2 -> 1
    train/shapes/coop/seed1   changed: inputs.shots.train
<exit code 0>

"#]],
    );
}

#[test]
fn several_changes_are_aligned() {
    let project = Project::after_a_run();
    project.replace("pipelines/methods/maple.toml", "learning_rate = 0.01", "learning_rate = 0.125");
    project.replace("pipelines/methods/maple.toml", "epochs = 1", "epochs = 2");
    project.replace("manifests/shapes.toml", "a photo of a {}.", "a drawing of a {}.");
    project.ran(&["run", PIPELINE, "--only", "data/*"]);
    project.prints(
        &["explain", PIPELINE, "train/shapes/maple/seed2"],
        str![[r#"
<stdout>
train/shapes/maple/seed2 is stale: changed since it last ran
  parameters
    method.training.epochs         1    -> 2
    method.training.learning_rate  0.01 -> 0.125
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "zeroshot/shapes/clip/base"],
        str![[r#"
<stdout>
zeroshot/shapes/clip/base is stale: changed since it last ran
  inputs
    dataset.template  [DIGEST] -> [DIGEST]
  because these ran again
    data/shapes   changed: parameters.manifest.template "a photo of a {}." -> "a drawing of a {}."
<exit code 0>

"#]],
    );
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stdout>
changed: inputs.dataset.template (2)
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
changed: parameters.method.training.epochs 1 -> 2, parameters.method.training.learning_rate 0.01 -> 0.125 (2)
  train/shapes/maple/seed1
  train/shapes/maple/seed2
waiting for stale nodes (5)
  eval/shapes/maple/seed1/base
  eval/shapes/maple/seed1/novel
  eval/shapes/maple/seed2/base
  eval/shapes/maple/seed2/novel
  table
<stderr>
20 nodes: 11 up to date, 4 stale, 5 waiting for them
<exit code 0>

"#]],
    );
}

#[test]
fn what_is_missing_is_named() {
    let project = Project::after_a_run();
    let key = |node: &str| project.records()[node]["key"].as_str().unwrap().to_owned();
    fs::remove_file(project.artifact("shots/shapes/seed1", "train")).unwrap();
    fs::remove_file(project.record_file(&key("shots/shapes/seed2"))).unwrap();
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stdout>
output missing: train (1)
  shots/shapes/seed1
record missing (1)
  shots/shapes/seed2
waiting for stale nodes (13)
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
        &["explain", PIPELINE, "shots/shapes/seed1"],
        str![[r#"
<stdout>
shots/shapes/seed1 is stale: its output `train` is missing from the store or damaged
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "shots/shapes/seed2"],
        str![[r#"
<stdout>
shots/shapes/seed2 is stale: the record of its last run is missing from the store
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", PIPELINE, "table"],
        str![[r#"
<stdout>
table is waiting for nodes that are stale; whether it must run shows when they have run
  shots/shapes/seed1   output missing: train
  shots/shapes/seed2   record missing
<exit code 0>

"#]],
    );
}

#[test]
fn a_cause_whose_record_is_gone_is_named_still() {
    let project = Project::after_a_run();
    let key = project.records()["shots/shapes/seed1"]["key"].as_str().unwrap().to_owned();
    let shots = ["--set", "stage.shots.shots=1"];
    project.ran(&[&["run", PIPELINE, "--only", "shots/*"][..], &shots].concat());
    fs::remove_file(project.record_file(&key)).unwrap();
    project.prints(
        &[&["explain", PIPELINE, "train/shapes/coop/seed1"][..], &shots].concat(),
        str![[r#"
<stdout>
train/shapes/coop/seed1 is stale: changed since it last ran
  inputs
    shots.train  [DIGEST] -> [DIGEST]
  because these ran again
    shots/shapes/seed1   record missing
<exit code 0>

"#]],
    );
}

#[test]
fn status_and_dry_run_say_the_same_in_json() {
    let project = Project::after_a_run();
    let change = ["--set", "stage.shots.shots=1"];
    let status = document(&project, &[&["status", PIPELINE, "--json"][..], &change].concat());
    assert_eq!(status["pipeline"], "tiny");
    assert_eq!(status["counts"], json!({"nodes": 20, "fresh": 5, "stale": 2, "waiting": 13, "blocked": 0}));
    let nodes = status["nodes"].as_array().unwrap();
    let node = |name: &str| nodes.iter().find(|node| node["node"] == name).unwrap().clone();
    let change_of_shots = json!([{"path": "parameters.shots", "before": 2, "now": 1}]);
    let expected = json!({
        "node": "shots/shapes/seed1", "stage": "shots", "state": "stale", "reason": "changed", "changes": change_of_shots
    });
    assert_eq!(node("shots/shapes/seed1"), expected);
    let expected = json!({
        "node": "eval/shapes/coop/seed1/base", "stage": "eval", "state": "waiting", "reason": "upstream_stale",
        "causes": ["shots/shapes/seed1"]
    });
    assert_eq!(node("eval/shapes/coop/seed1/base"), expected);
    let fresh = node("data/shapes");
    let record = &project.records()["data/shapes"];
    assert_eq!((&fresh["state"], &fresh["reason"]), (&json!("fresh"), &json!("up_to_date")));
    assert_eq!((&fresh["key"], &fresh["started"]), (&json!("[DIGEST]"), &record["started"]));

    let dry_run = document(&project, &[&["run", PIPELINE, "--dry-run", "--json"][..], &change].concat());
    assert_eq!(dry_run["counts"], status["counts"]);
    let not_fresh: Vec<&Value> = nodes.iter().filter(|node| node["state"] != "fresh").collect();
    assert_eq!(dry_run["nodes"].as_array().unwrap().iter().collect::<Vec<_>>(), not_fresh);
}

#[test]
fn explain_says_in_json_what_led_to_it() {
    let project = Project::after_a_run();
    let change = ["--set", "stage.shots.shots=1"];
    let with = |arguments: &[&'static str]| [arguments, &change].concat();
    let shots = json!([{"path": "parameters.shots", "before": 2, "now": 1}]);
    let waiting = document(&project, &with(&["explain", PIPELINE, "train/shapes/coop/seed1", "--json"]));
    let upstream = json!([{"node": "shots/shapes/seed1", "reason": "changed", "changes": shots}]);
    let expected = json!({
        "node": "train/shapes/coop/seed1", "stage": "train", "state": "waiting", "reason": "upstream_stale",
        "causes": ["shots/shapes/seed1"], "upstream": upstream
    });
    assert_eq!(waiting, expected);
    project.ran(&with(&["run", PIPELINE, "--only", "shots/*"]));
    let changed = document(&project, &with(&["explain", PIPELINE, "train/shapes/coop/seed1", "--json"]));
    assert_eq!((&changed["reason"], &changed["upstream"]), (&json!("changed"), &upstream));
    assert_eq!(changed["changes"][0]["path"], "inputs.shots.train");
    let never = document(&project, &["explain", PIPELINE, "shots/shapes/seed7", "--json", "--set", "axes.seed=[7]"]);
    let expected = json!({
        "node": "shots/shapes/seed7", "stage": "shots", "state": "stale", "reason": "never_run", "upstream": []
    });
    assert_eq!(never, expected);
}

#[test]
fn nothing_is_up_to_date_that_needs_something_stale() {
    let project = Project::after_a_run();
    for change in ["stage.shots.shots=1", "axes.seed=[1, 3]", "stage.clip.seed=9", "stage.table.caption=other"] {
        let graph = document(&project, &["graph", PIPELINE, "--json", "--set", change]);
        let nodes = graph["nodes"].as_array().unwrap();
        let fresh: BTreeSet<&str> =
            nodes.iter().filter(|node| node["state"] == "fresh").map(|node| node["node"].as_str().unwrap()).collect();
        assert!(fresh.len() < nodes.len(), "{change}");
        for node in nodes {
            let needs_are_fresh =
                node["needs"].as_array().unwrap().iter().all(|one| fresh.contains(one.as_str().unwrap()));
            assert_eq!(node["state"] == "waiting", !needs_are_fresh, "{change}: {node}");
        }
    }
}
