//! What runs leave on record: `runs`, `diff` and `logs`.

use std::fs;
use std::process::Command;

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project};

#[test]
fn runs_are_listed_and_shown() {
    let project = Project::after_a_run();
    project.prints(
        &["runs"],
        str![[r#"
<stderr>
no runs are recorded here
<exit code 0>

"#]],
    );
    project.ran(&["run", PIPELINE, "--only", "shots/*"]);
    project.ran(&["run", PIPELINE, "--only", "shots/*", "--set", "stage.shots.shots=1", "-j", "1"]);
    // Neither is a run.
    project.run(&["run", PIPELINE, "--dry-run"]);
    project.run(&["status", PIPELINE]);
    project.prints(
        &["runs"],
        str![[r#"
<stdout>
[RUN]   [DATE]   tiny   3 nodes: 2 done, 1 cached   done in [TIME]      --set stage.shots.shots=1
[RUN]   [DATE]   tiny   3 nodes: 3 cached           done in [TIME]
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "-n", "1", "--pipeline", "tiny"],
        str![[r#"
<stdout>
[RUN]   [DATE]   tiny   3 nodes: 2 done, 1 cached   done in [TIME]      --set stage.shots.shots=1
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "--pipeline", "tony"],
        str![[r#"
<stderr>
no runs of `tony` are recorded here
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "last"],
        str![[r#"
<stdout>
run         [RUN]
started     [DATE]
ended       done in [TIME]
pipeline    tiny ([PROJECT]/pipelines/tiny.toml)
arguments   run pipelines/tiny.toml --only shots/* --set stage.shots.shots=1 -j 1
program     maple-pipe [VERSION] (build [BUILD])
host        [HOST]
nodes       3 nodes: 2 done, 1 cached
made by     [MAKER]: 3 nodes

cached   data/shapes          [DIGEST]
done     shots/shapes/seed1   [DIGEST]   [TIME]
done     shots/shapes/seed2   [DIGEST]   [TIME]
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "last~1"],
        str![[r#"
<stdout>
run         [RUN]
started     [DATE]
ended       done in [TIME]
pipeline    tiny ([PROJECT]/pipelines/tiny.toml)
arguments   run pipelines/tiny.toml --only shots/*
program     maple-pipe [VERSION] (build [BUILD])
host        [HOST]
nodes       3 nodes: 3 cached
made by     [MAKER]: 3 nodes

cached   data/shapes          [DIGEST]
cached   shots/shapes/seed1   [DIGEST]
cached   shots/shapes/seed2   [DIGEST]
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "last~2"],
        str![[r#"
<stderr>
error: there is no run `last~2`: the store knows of 2
<exit code 2>

"#]],
    );
    project.prints(
        &["runs", "2"],
        str![[r#"
<stderr>
error: `2` may be any of 2 runs
hint: say more of it: `[RUN]`, `[RUN]`
<exit code 2>

"#]],
    );
    project.prints(
        &["runs", "yesterday"],
        str![[r#"
<stderr>
error: there is no run `yesterday`
hint: `maple-pipe runs` lists them; `last` is the newest
<exit code 2>

"#]],
    );
    assert_eq!(fs::read_dir(project.file(".maple/work")).unwrap().count(), 0);
}

#[test]
fn a_run_is_recorded_as_json() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE, "--only", "shots/*1", "--data-root", "data", "--set", "stage.shots.shots=1"]);
    let run = project.json(&["runs", "last", "--json"]);
    assert_eq!(run, {
        let mut listed = project.json(&["runs", "--json"]);
        listed["nodes"] = run["nodes"].clone();
        listed["made_by"] = run["made_by"].clone();
        listed
    });
    let made_by = run["made_by"].as_object().unwrap();
    let (maker, count) = made_by.iter().next().unwrap();
    assert!(maker.starts_with("build ") && maker.contains(", host ") && *count == 2, "{made_by:?}");
    assert_eq!(run["build"].as_str().unwrap().len(), 16);
    for (name, expected) in [
        ("end", "\"done\""),
        ("counts", r#"{"cached":1,"done":1}"#),
        ("pipeline", "\"tiny\""),
        ("file", &format!("\"{}\"", project.file(PIPELINE).display())),
        ("data_root", &format!("\"{}\"", project.file("data").display())),
        ("overrides", r#"["stage.shots.shots=1"]"#),
        (
            "arguments",
            r#"["run","pipelines/tiny.toml","--only","shots/*1","--data-root","data","--set","stage.shots.shots=1"]"#,
        ),
        ("version", &format!("\"{}\"", env!("CARGO_PKG_VERSION"))),
        ("commit", "null"),
        // Nothing had to compute.
        ("devices", "[]"),
    ] {
        assert_eq!(run[name].to_string(), expected, "{name}");
    }
    let nodes = run["nodes"].as_array().unwrap();
    let [cached, done] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((&cached["node"], &cached["end"]), (&"data/shapes".into(), &"cached".into()));
    assert_eq!((&done["node"], &done["end"]), (&"shots/shapes/seed1".into(), &"done".into()));
    assert_eq!(done["key"], project.records()["shots/shapes/seed1"]["key"]);
    assert!(done["started"].is_string() && done["seconds"].is_number());
    assert!(cached["started"].is_null() && cached["key"].is_string());
}

#[test]
fn a_failed_run_is_recorded_with_what_it_did_not_reach() {
    let project = Project::new();
    let split = project.read("data/shapes/split.json");
    project.write("data/shapes/split.json", &split.replacen("0001.png", "9999.png", 1));
    assert_eq!(project.run(&["run", PIPELINE, "--only", "{shots/*,captioned}", "-j", "1"]).code, Some(1));
    project.prints(
        &["runs", "last"],
        str![[r#"
<stdout>
run         [RUN]
started     [DATE]
ended       failed in [TIME]
pipeline    tiny ([PROJECT]/pipelines/tiny.toml)
arguments   run pipelines/tiny.toml --only {shots/*,captioned} -j 1
program     maple-pipe [VERSION] (build [BUILD])
host        [HOST]
nodes       4 nodes: 1 failed, 2 blocked, 1 not started

failed        data/shapes          [DIGEST]   [TIME]
blocked       shots/shapes/seed1
blocked       shots/shapes/seed2
not started   captioned
<exit code 0>

"#]],
    );
}

#[test]
fn the_commit_is_recorded() {
    let project = Project::new();
    fs::remove_dir_all(project.file(".git")).unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(project.path());
        let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let commit = || {
        project.ran(&["run", PIPELINE, "--only", "data/*"]);
        project.json(&["runs", "last", "--json"])["commit"].clone()
    };
    git(&["init", "--quiet"]);
    assert_eq!(commit(), Value::Null);
    git(&["add", "pipelines", "manifests"]);
    git(&["commit", "--quiet", "--message", "First"]);
    let id = git(&["rev-parse", "HEAD"]);
    // What git does not know, such as the data, makes no difference.
    assert_eq!(commit(), serde_json::json!({ "id": id, "dirty": false }));
    project.replace(PIPELINE, "shots = 2", "shots = 3");
    assert_eq!(commit(), serde_json::json!({ "id": id, "dirty": true }));
    let short = format!(" {} dirty\n", &id[..7]);
    assert!(project.run(&["runs", "-n", "1"]).stdout.ends_with(&short));
    let without_git = project.command(&["run", PIPELINE, "--only", "data/*"]).env("PATH", "/nonexistent").status();
    assert!(without_git.unwrap().success());
    assert_eq!(project.json(&["runs", "last", "--json"])["commit"], Value::Null);
}

#[test]
fn a_store_is_needed() {
    let project = Project::new();
    project.prints(
        &["runs"],
        str![[r#"
<stderr>
error: there is no store at `.maple`
hint: go to the project's folder, or name its store with `--store`; `maple-pipe run` makes it
<exit code 2>

"#]],
    );
    project.prints(
        &["diff", "last~1", "last", "--store", "elsewhere"],
        str![[r#"
<stderr>
error: there is no store at `elsewhere`
hint: go to the project's folder, or name its store with `--store`; `maple-pipe run` makes it
<exit code 2>

"#]],
    );
    fs::create_dir(project.file(".maple")).unwrap();
    project.prints(
        &["runs"],
        str![[r#"
<stderr>
no runs are recorded here
<exit code 0>

"#]],
    );
    project.prints(
        &["runs", "last"],
        str![[r#"
<stderr>
error: there is no run `last`: the store knows of 0
<exit code 2>

"#]],
    );
}

#[test]
fn a_changed_parameter_shows_in_a_diff() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    project.ran(&["run", PIPELINE, "--set", "stage.table.caption=Another"]);
    project.prints(
        &["diff", "last~1"],
        str![[r#"
<stdout>
changed parameters
  parameters.caption: "Two methods on drawn shapes." -> "Another"   table
<exit code 0>

"#]],
    );
    project.ran(&["run", PIPELINE, "--only", "shots/*", "--set", "stage.shots.shots=1"]);
    project.ran(&["run", PIPELINE, "--only", "shots/*"]);
    project.prints(
        &["diff", "last~1", "last"],
        str![[r#"
<stdout>
changed parameters
  parameters.shots: 1 -> 2   2 nodes, e.g. shots/shapes/seed1
<exit code 0>

"#]],
    );
    project.prints(
        &["diff", "last~2", "last~1"],
        str![[r#"
<stdout>
changed parameters
  parameters.shots: 2 -> 1   2 nodes, e.g. shots/shapes/seed1

only in [RUN]
  captioned
  clip
  zeroshot/shapes/clip/base
  zeroshot/shapes/clip/novel
  train/shapes/coop/seed1
  train/shapes/coop/seed2
  train/shapes/maple/seed1
  train/shapes/maple/seed2
  eval/shapes/coop/seed1/base
  eval/shapes/coop/seed1/novel
  eval/shapes/coop/seed2/base
  eval/shapes/coop/seed2/novel
  eval/shapes/maple/seed1/base
  eval/shapes/maple/seed1/novel
  eval/shapes/maple/seed2/base
  eval/shapes/maple/seed2/novel
  table
<exit code 0>

"#]],
    );
    project.prints(
        &["diff", "last~3", "last~3"],
        str![[r#"
<stderr>
`[RUN]` and `[RUN]` have the same results
<exit code 0>

"#]],
    );
    project.prints(
        &["diff", "last~3", "last~9"],
        str![[r#"
<stderr>
error: there is no run `last~9`: the store knows of 4
<exit code 2>

"#]],
    );
    // What has been removed cannot be compared.
    let run = project.json(&["runs", "last~1", "--json"]);
    let node = run["nodes"].as_array().unwrap().iter().find(|node| node["node"] == "shots/shapes/seed1").unwrap();
    fs::remove_file(project.record_file(node["key"].as_str().unwrap())).unwrap();
    project.prints(
        &["diff", "last~1", "last"],
        str![[r#"
<stdout>
changed parameters
  parameters.shots: 1 -> 2   shots/shapes/seed2

no longer in the store, so not compared
  shots/shapes/seed1
<exit code 0>

"#]],
    );
}

#[test]
fn changed_metrics_are_those_of_the_artifacts() {
    let project = Project::after_a_run();
    let only = ["run", PIPELINE, "--only", "eval/shapes/coop/seed1/*"];
    let metrics = |class: &str| -> Value {
        let path = project.artifact(&format!("eval/shapes/coop/seed1/{class}"), "metrics");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    project.ran(&only);
    let before = ["base", "novel"].map(metrics);
    project.ran(&[&only[..], &["--set", "stage.shots.shots=1"]].concat());
    let now = ["base", "novel"].map(metrics);
    let mut expected = Vec::new();
    for (place, class) in ["base", "novel"].iter().enumerate() {
        for metric in ["accuracy", "correct", "macro_f1", "total"] {
            let number = |metrics: &[Value; 2]| metrics[place][metric].as_f64().unwrap();
            if number(&before) != number(&now) {
                let node = format!("eval/shapes/coop/seed1/{class}");
                expected.push((node, metric.to_owned(), number(&before), number(&now)));
            }
        }
    }
    let difference = project.json(&["diff", "last~1", "last", "--json"]);
    let found = difference["metrics"].as_array().unwrap().iter().map(|change| {
        let text = |name: &str| change[name].as_str().unwrap().to_owned();
        (text("node"), text("metric"), change["before"].as_f64().unwrap(), change["now"].as_f64().unwrap())
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(
        difference["parameters"].to_string(),
        r#"[{"before":"2","nodes":["shots/shapes/seed1"],"now":"1","path":"parameters.shots"}]"#
    );
    assert_eq!(difference["inputs"]["shots.train"].to_string(), r#"["train/shapes/coop/seed1"]"#);
}

#[test]
fn a_node_s_log_is_printed() {
    let project = Project::after_a_run();
    let training = project.run(&["logs", PIPELINE, "train/shapes/maple/seed1"]).stdout;
    let lines: Vec<&str> = training.lines().collect();
    assert!(
        lines[0].starts_with("epoch 1/") && lines[0].contains("   loss ") && lines[0].contains("   learning rate ")
    );
    assert!(lines.iter().all(|line| line.ends_with(" images/s")), "{training}");
    // What is kept of the result tells the epochs without the log, too.
    fs::remove_file(project.file(".maple/logs/tiny/train/shapes/maple/seed1.log")).unwrap();
    let kept = project.run(&["logs", PIPELINE, "train/shapes/maple/seed1"]).stdout;
    assert_eq!(kept.lines().count(), lines.len());
    for (kept, line) in kept.lines().zip(&lines) {
        assert!(line.starts_with(kept), "{kept}\n{line}");
    }
    project.write(".maple/logs/tiny/clip.log", "a warning of a library\n");
    project.prints(
        &["logs", PIPELINE, "clip"],
        str![[r#"
<stdout>
a warning of a library
<exit code 0>

"#]],
    );
    project.prints(
        &["logs", PIPELINE, "clip", "--path"],
        str![[r#"
<stdout>
[PROJECT]/.maple/logs/tiny/clip.log
<exit code 0>

"#]],
    );
    project.write(".maple/logs/tiny/clip.log", "");
    project.prints(
        &["logs", PIPELINE, "clip"],
        str![[r#"
<stderr>
`clip` wrote nothing
<exit code 0>

"#]],
    );
    project.prints(
        &["logs", PIPELINE, "data/shapes"],
        str![[r#"
<stderr>
error: `data/shapes` has no log
hint: a node has one when it ran in a process of its own, as pretraining, training and evaluation do
<exit code 2>

"#]],
    );
    project.prints(
        &["logs", PIPELINE, "clop"],
        str![[r#"
<stderr>
error: the pipeline has no node `clop`
hint: did you mean `clip`?
<exit code 2>

"#]],
    );
}
