//! `gc` frees what nobody needs, says whose results these are, and can be killed at any moment.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use maple_pipe::data::random;
use maple_pipe::store::Store;
use snapbox::str;

use crate::kills::kill;
use crate::support::{PIPELINE, Project, names};

/// A project whose pipeline now says something else than in its first run.
fn changed() -> Project {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    project.replace(PIPELINE, "caption = \"Two methods on drawn shapes.\"", "caption = \"Another.\"");
    project.replace(PIPELINE, "seed = [1, 2]", "seed = [1]");
    project.ran(&["run", PIPELINE]);
    project
}

#[test]
fn what_no_pipeline_and_no_kept_run_needs_goes() {
    let project = changed();
    let needed = project.digests();
    project.prints(
        &["gc", "--dry-run"],
        str![[r#"
<stderr>
would free [SIZE]: 0 results of 0 nodes; 21 results kept
<exit code 0>

"#]],
    );
    project.prints(
        &["gc", "--dry-run", "--keep-runs", "0", "--keep-days", "1"],
        str![[r#"
<stderr>
would free [SIZE]: 0 results of 0 nodes; 21 results kept
<exit code 0>

"#]],
    );
    let files = walkdir::WalkDir::new(project.file(".maple")).into_iter().count();
    project.prints(
        &["gc", "--dry-run", "--keep-runs", "0"],
        str![[r#"
<stdout>
eval (4 nodes, [SIZE])
  eval/shapes/coop/seed2/base
  eval/shapes/coop/seed2/novel
  eval/shapes/maple/seed2/base
  eval/shapes/maple/seed2/novel
shots (1 node, [SIZE])
  shots/shapes/seed2
table (1 node, [SIZE])
  table
train (2 nodes, [SIZE])
  train/shapes/coop/seed2
  train/shapes/maple/seed2
logs of nodes that are gone (6, [SIZE])
event files of results that are gone (6, [SIZE])
records of runs (1, [SIZE])
<stderr>
would free [SIZE]: 8 results of 8 nodes; 13 results kept
<exit code 0>

"#]],
    );
    assert_eq!(walkdir::WalkDir::new(project.file(".maple")).into_iter().count(), files);
    project.prints(
        &["gc", "--keep-runs", "1", "--all"],
        str![[r#"
<stdout>
eval (4 nodes, [SIZE])
  eval/shapes/coop/seed2/base
  eval/shapes/coop/seed2/novel
  eval/shapes/maple/seed2/base
  eval/shapes/maple/seed2/novel
shots (1 node, [SIZE])
  shots/shapes/seed2
table (1 node, [SIZE])
  table
train (2 nodes, [SIZE])
  train/shapes/coop/seed2
  train/shapes/maple/seed2
logs of nodes that are gone (6, [SIZE])
event files of results that are gone (6, [SIZE])
records of runs (1, [SIZE])
<stderr>
freed [SIZE]: 8 results of 8 nodes; 13 results kept
<exit code 0>

"#]],
    );
    project.prints(
        &["gc"],
        str![[r#"
<stderr>
freed [SIZE]: 0 results of 0 nodes; 13 results kept
<exit code 0>

"#]],
    );
    assert_eq!(project.run(&["verify"]).code, Some(0));
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    let kept: Vec<_> = project.digests().into_iter().filter(|(name, _)| !name.contains("seed2")).collect();
    assert!(kept.iter().all(|(name, digest)| needed[name] == *digest));
    // The run that is left still says which pipeline this store is for.
    assert_eq!(project.json(&["gc", "--keep-runs", "0", "--json"])["kept"], 13);
    assert_eq!(project.run(&["runs"]).stdout.lines().count(), 1);
}

#[test]
fn what_stale_nodes_left_stays_as_it_may_be_needed_again() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    // The index comes out the same in the end, so everything behind it is as good as before.
    let image = project.file("data/shapes/images/unused.png");
    fs::write(&image, "another picture").unwrap();
    project.run(&["gc", "--keep-runs", "0"]);
    assert_eq!(project.ran(&["run", PIPELINE]), names(&["data/shapes"]));
}

#[test]
fn leftovers_go() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE, "--only", "shots/*"]);
    let key = project.records()["clip"]["key"].as_str().unwrap().to_owned();
    for path in [
        "artifacts/ab/abcd",
        "artifacts/ab/.new-1",
        "folders/ab/abcd/file",
        "records/ab/abcd.json",
        "records/ab/.new-2",
        "work/run-1-2/3/file",
        "logs/tiny/train/gone.log",
        "logs/other/clip.log",
        "tensorboard/tiny/train/gone/events.out.tfevents.1",
        "tensorboard/other/clip/events.out.tfevents.1",
        &format!("partial/{key}/state"),
        "differs/clip/weights",
        "runs/damaged.jsonl",
    ] {
        project.write(&format!(".maple/{path}"), "left");
    }
    project.prints(
        &["gc"],
        str![[r#"
<stdout>
what unfinished nodes would resume from (1, [SIZE])
logs of nodes that are gone (2, [SIZE])
event files of results that are gone (2, [SIZE])
records of runs (1, [SIZE])
what killed commands left (6, [SIZE])
outputs that `verify --rerun` kept (1, [SIZE])
<stderr>
freed [SIZE]: 0 results of 0 nodes; 20 results kept
<exit code 0>

"#]],
    );
    let left = walkdir::WalkDir::new(project.file(".maple")).into_iter().flatten();
    let left = left.filter(|entry| entry.file_type().is_file());
    assert!(left.into_iter().all(|entry| fs::read(entry.path()).unwrap() != b"left"));
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
}

#[test]
fn an_unfinished_node_keeps_what_it_resumes_from() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    let key = project.records()["clip"]["key"].as_str().unwrap().to_owned();
    let partial = format!(".maple/partial/{key}/state");
    project.write(&partial, "epoch 3");
    fs::remove_file(project.record_file(&key)).unwrap();
    project.run(&["gc", "--keep-runs", "0"]);
    assert_eq!(project.read(&partial), "epoch 3");
}

#[test]
fn nothing_goes_while_it_is_unclear_what_is_needed() {
    let project = Project::after_a_run();
    project.prints(
        &["gc"],
        str![[r#"
<stderr>
error: no run of a pipeline that is still there is recorded, so everything would go
hint: name the pipelines whose results should stay: `maple-pipe gc PIPELINE`
<exit code 2>

"#]],
    );
    project.ran(&["run", PIPELINE]);
    project.replace(PIPELINE, "shots = 2", "shotz = 2");
    let digests = project.digests();
    project.prints(
        &["gc", "--keep-runs", "0"],
        str![[r#"
<stderr>
nothing is removed, because it is not clear what `pipelines/tiny.toml` needs:
error: unknown key `shotz`
  --> [PROJECT]/pipelines/tiny.toml:39:1
   |
39 | shotz = 2
   | ^^^^^
   |
   = hint: did you mean `shots`?
<exit code 2>

"#]],
    );
    assert_eq!(project.digests(), digests);
    project.replace(PIPELINE, "shotz = 2", "shots = 2");
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    fs::rename(project.file(PIPELINE), project.file("pipelines/renamed.toml")).unwrap();
    project.prints(
        &["gc", "--keep-runs", "0"],
        str![[r#"
<stderr>
error: no run of a pipeline that is still there is recorded, so everything would go
hint: name the pipelines whose results should stay: `maple-pipe gc PIPELINE`
<exit code 2>

"#]],
    );
    project.prints(
        &["gc", "pipelines/renamed.toml", "--keep-runs", "0"],
        str![[r#"
<stdout>
records of runs (2, [SIZE])
<stderr>
freed [SIZE]: 0 results of 0 nodes; 20 results kept
<exit code 0>

"#]],
    );
    project.prints(
        &["gc", "pipelines/gone.toml"],
        str![[r#"
<stderr>
nothing is removed, because it is not clear what `pipelines/gone.toml` needs:
error: could not read `pipelines/gone.toml`: No such file or directory (os error 2)
hint: the argument is the path of a pipeline, e.g. `pipelines/quickstart.toml`
<exit code 2>

"#]],
    );
}

#[test]
fn gc_waits_for_runs_and_runs_wait_for_gc() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    let store = Store::open(&project.file(".maple")).unwrap();
    let start =
        |arguments: &[&str]| project.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let first_line = |child: &mut Child| {
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        // Kept open, so that the program can say more.
        (line, stderr)
    };
    let waiting = "another command is using the store, waiting for it to end\n";
    let lock = store.share(|| panic!()).unwrap();
    let mut gc = start(&["gc"]);
    let (line, _stderr) = first_line(&mut gc);
    assert_eq!((line.as_str(), gc.try_wait().unwrap()), (waiting, None));
    drop(lock);
    assert!(gc.wait().unwrap().success());
    let lock = store.have_alone(|| panic!()).unwrap();
    let mut run = start(&["run", PIPELINE]);
    let (line, _stderr) = first_line(&mut run);
    assert_eq!((line.as_str(), run.try_wait().unwrap()), (waiting, None));
    drop(lock);
    assert!(run.wait().unwrap().success());
}

/// Whoever reads results waits for `gc`, which might remove them, and `gc` for whoever reads.
#[test]
fn what_reads_the_store_holds_it() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    project.write(PIPELINE, &format!("{}\n# the same\n", project.read(PIPELINE)));
    project.ran(&["run", PIPELINE]);
    let store = Store::open(&project.file(".maple")).unwrap();
    let clip = "clip";
    for arguments in [
        &["status", PIPELINE][..],
        &["explain", PIPELINE, clip],
        &["graph", PIPELINE, "--format", "dot"],
        &["table", PIPELINE],
        &["report", PIPELINE, "-o", "report.html"],
        &["logs", PIPELINE, clip],
        &["run", PIPELINE, "--dry-run"],
        &["doctor", PIPELINE],
        &["verify", PIPELINE],
        &["verify", PIPELINE, "--rerun", "shots/*/seed1"],
        &["verify"],
        &["runs"],
        &["runs", "last"],
        &["diff", "last~1"],
    ] {
        let lock = store.have_alone(|| panic!()).unwrap();
        let mut command = project.command(arguments);
        let mut reader = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(reader.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        assert_eq!(line, "another command is using the store, waiting for it to end\n", "{arguments:?}");
        assert_eq!(reader.try_wait().unwrap(), None, "{arguments:?}");
        drop(lock);
        std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
        // What a machine lacks is no matter here.
        assert!(reader.wait().unwrap().success() || arguments[0] == "doctor", "{arguments:?}");
    }
}

/// A process that could not hold the store, as there was none yet, still has its scratch folder.
#[test]
fn scratch_of_the_living_stays() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    let store = Store::open(&project.file(".maple")).unwrap();
    let living = store.scratch().unwrap().node().unwrap();
    let claim = format!(".maple/claims/{}", "ab".repeat(32));
    project.write(&claim, "process 1 on another host");
    project.write(".maple/work/run-1-2/3/file", "left");
    project.prints(
        &["gc"],
        str![[r#"
<stdout>
what killed commands left (1, [SIZE])
<stderr>
freed [SIZE]: 0 results of 0 nodes; 20 results kept
<exit code 0>

"#]],
    );
    assert!(living.is_dir());
    assert!(!project.file(&claim).exists() && !project.file(".maple/work/run-1-2").exists());
    drop(store);
    assert!(!living.exists());
}

#[test]
fn gc_killed_at_any_moment_leaves_a_valid_store() {
    let prepared = changed();
    let expected = prepared.digests();
    let undisturbed = prepared.copy();
    let start = Instant::now();
    assert_eq!(undisturbed.run(&["gc", PIPELINE, "--keep-runs", "0"]).code, Some(0));
    let duration = start.elapsed();
    let mut random = random::generator(1, "kill gc", 0, 0);
    for _ in 0..20 {
        let project = prepared.copy();
        let mut command = project.command(&["gc", PIPELINE, "--keep-runs", "0"]);
        let mut gc = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(duration.mul_f64(random::uniform(&mut random)));
        kill(&gc.id().to_string());
        gc.wait().unwrap();
        let verified = project.run(&["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
        let kept = project.digests();
        assert!(kept.iter().all(|(name, digest)| expected[name] == *digest));
        assert_eq!(project.run(&["gc", PIPELINE, "--keep-runs", "0"]).code, Some(0));
        assert_eq!(fs::read_dir(project.file(".maple/work")).unwrap().count(), 0);
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    }
}
