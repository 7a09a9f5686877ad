//! Files and folders that may not be read, written, removed or executed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use snapbox::str;

use crate::support::{PIPELINE, Printed, Project, bound_by_permissions, names};

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Of all folders below one.
fn set_modes(project: &Project, path: &str, mode: u32) {
    let folders = walkdir::WalkDir::new(project.file(path)).into_iter().flatten();
    folders.filter(|entry| entry.file_type().is_dir()).for_each(|folder| set_mode(folder.path(), mode));
}

fn mode(project: &Project, path: &str) -> u32 {
    fs::metadata(project.file(path)).unwrap().permissions().mode() & 0o777
}

fn bound(project: &Project, arguments: &[&str]) -> Printed {
    project.printed(bound_by_permissions(project.command(arguments)).output().unwrap())
}

/// A project whose only stage is a command.
fn one(run: &str, outputs: &str) -> Project {
    let project = Project::new();
    project.write(PIPELINE, &format!("[stage.one]\nkind = 'command'\nrun = '{run}'\noutputs = {outputs}\n"));
    project
}

/// Programs leave read-only folders, such as Go's module cache, in their scratch and as outputs.
#[test]
fn read_only_folders_of_commands_are_taken_and_go() {
    for (run, outputs, code) in [
        ("mkdir cache; echo x > cache/f; chmod 555 cache; echo y > out", "{ out = 'out' }", 0),
        ("mkdir d d/e; echo x > d/f; chmod 000 d/e; chmod 555 d", "{ out = 'd/' }", 0),
        ("mkdir -p d/e; echo x > d/e/f; chmod 555 d/e d .", "{ out = 'd/e/f' }", 0),
        ("mkdir cache; echo x > cache/f; chmod 000 cache; exit 1", "{ out = 'out' }", 1),
    ] {
        let project = one(run, outputs);
        let printed = bound(&project, &["run", PIPELINE]);
        assert_eq!(printed.code, Some(code), "{run}: {}", printed.stderr);
        assert!(project.is_clean(), "{run}");
        assert_eq!(bound(&project, &["verify"]).code, Some(0), "{run}");
        // What a killed run leaves goes, too.
        for closed in ["work/run-1-1/cache", &format!("partial/{}", "0".repeat(64)), "differs/one/out"] {
            project.write(&format!(".maple/{closed}/f"), "x");
            set_mode(project.file(&format!(".maple/{closed}")), 0o000);
        }
        let printed = bound(&project, &["gc", PIPELINE, "--dry-run"]);
        assert_eq!(printed.code, Some(0), "{run}: {}", printed.stderr);
        let printed = bound(&project, &["gc", PIPELINE]);
        assert_eq!(printed.code, Some(0), "{run}: {}", printed.stderr);
        assert!(project.is_clean() && !project.file(".maple/differs").exists(), "{run}");
    }
}

/// What cannot be removed is told, and all else goes.
#[test]
fn what_cannot_be_removed_stops_nothing_else() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE, "--only", "shots/*"]);
    for left in ["differs/clip/weights", "logs/gone/node.log", "runs/damaged.jsonl"] {
        project.write(&format!(".maple/{left}"), "left");
    }
    set_mode(project.file(".maple/logs/gone"), 0o555);
    let printed = bound(&project, &["gc"]);
    set_mode(project.file(".maple/logs/gone"), 0o755);
    printed.is(str![[r#"
<stdout>
logs of nodes that are gone (1, [SIZE])
records of runs (1, [SIZE])
outputs that `verify --rerun` kept (1, [SIZE])
<stderr>
could not remove `[PROJECT]/.maple/logs/gone/node.log`: Permission denied (os error 13)
freed [SIZE]: 0 results of 0 nodes; 20 results kept
error: 1 leftover could not be removed, all else is gone
hint: remove it as its owner, then run `gc` again
<exit code 1>

"#]]);
    assert!(!project.file(".maple/differs").exists() && !project.file(".maple/runs/damaged.jsonl").exists());
    assert!(project.file(".maple/logs/gone/node.log").exists());
    assert_eq!(project.run(&["gc"]).code, Some(0));
    assert!(!project.file(".maple/logs/gone").exists());
}

/// What may not be read is not what is not there.
#[test]
fn a_store_that_may_not_be_read_is_not_empty() {
    let project = Project::after_a_run();
    let key = project.records()["data/shapes"]["key"].as_str().unwrap().to_owned();
    let (record, artifact) = (project.record_file(&key), project.artifact("data/shapes", "test-base"));
    for (closed, what) in [
        (project.file(".maple").as_path(), "the store `"),
        (record.parent().unwrap(), "the record `"),
        (&record, "the record `"),
        (artifact.parent().unwrap(), "the artifact `"),
    ] {
        let before = fs::metadata(closed).unwrap().permissions();
        set_mode(closed, 0o000);
        for arguments in [&["status", PIPELINE][..], &["run", PIPELINE], &["gc", PIPELINE], &["table", PIPELINE]] {
            let printed = bound(&project, arguments);
            assert!(matches!(printed.code, Some(1 | 2)), "{what} {arguments:?}: {}", printed.stderr);
            let told = printed.stderr.contains(what) && printed.stderr.contains("may not be read");
            assert!(told, "{what} {arguments:?}: {}", printed.stderr);
        }
        fs::set_permissions(closed, before).unwrap();
    }
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// Results are made of a store that can only be read.
#[test]
fn results_are_written_from_a_store_that_cannot_be() {
    let project = Project::after_a_run();
    let expected = project.read("results/tiny/table.csv");
    fs::remove_dir_all(project.file("results")).unwrap();
    set_modes(&project, ".maple", 0o555);
    let printed = bound(&project, &["run", PIPELINE]);
    set_modes(&project, ".maple", 0o755);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(printed.done(), names(&[]));
    assert_eq!(project.read("results/tiny/table.csv"), expected);
    assert_eq!(fs::read_dir(project.file("results/tiny")).unwrap().count(), 4);
}

/// Results that cannot be written are no surprise after hours of work.
#[test]
fn what_cannot_be_written_is_said_before_the_work() {
    let project = Project::new();
    fs::create_dir(project.file("results")).unwrap();
    set_modes(&project, "results", 0o555);
    let run = |arguments: &[&str]| bound(&project, &[&["run", PIPELINE, "--store", "elsewhere"], arguments].concat());
    run(&[]).is(str![[r#"
<stderr>
error: the results cannot be written to `results/tiny`: Permission denied (os error 13)
hint: `--results FOLDER` writes them elsewhere
<exit code 2>

"#]]);
    assert_eq!(run(&["--only", "data/*"]).code, Some(0), "no result is asked for");
    assert_eq!(run(&["--results", "mine"]).code, Some(0));
    // Nothing is to be written where all is there.
    set_modes(&project, "results", 0o755);
    fs::rename(project.file("mine/tiny"), project.file("results/tiny")).unwrap();
    set_modes(&project, "results", 0o555);
    let printed = run(&[]);
    set_modes(&project, "results", 0o755);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(printed.done(), names(&[]));
}

/// Other people's data sets may be used by who knows the names in them.
#[test]
fn a_data_set_can_be_read_whose_folder_cannot_be_listed() {
    let project = Project::new();
    set_mode(project.file("data/shapes"), 0o311);
    let printed = bound(&project, &["run", PIPELINE, "--only", "data/*"]);
    set_mode(project.file("data/shapes"), 0o755);
    assert_eq!((printed.code, printed.done()), (Some(0), names(&["data/shapes"])), "{}", printed.stderr);
}

/// The same bytes may be executable in one folder and not in another, and as a file alone they never are.
#[test]
fn whether_a_file_can_be_executed_belongs_to_its_folder() {
    let project = Project::new();
    let text = r#"
results = ["@a", "@b", "@c"]

[stage.a]
kind = "command"
run = '''
mkdir tools
printf '#!/bin/sh\necho used\n' > tools/run
chmod +x tools/run
cp tools/run run
'''
outputs = { tools = "tools/", run = "run" }

[stage.b]
kind = "command"
run = "cp -rL inputs/tools tools; chmod -x tools/run"
inputs = { tools = "@a.tools" }
outputs = { tools = "tools/" }

[stage.c]
kind = "command"
run = "inputs/tool/run > out"
inputs = { tool = "@a.tools" }
outputs = { out = "out" }
"#;
    project.write(PIPELINE, text);
    assert_eq!(project.ran(&["run", PIPELINE]), names(&["a", "b", "c"]));
    assert_eq!(mode(&project, "results/tiny/a.tools/run") & 0o100, 0o100);
    assert_eq!(mode(&project, "results/tiny/b/run") & 0o100, 0);
    assert_eq!(fs::metadata(project.artifact("a", "run")).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(project.run(&["verify"]).code, Some(0));
    project.replace(PIPELINE, "run = \"inputs/tool/run > out\"", "run = [\"inputs/tool\"]");
    project.replace(PIPELINE, "{ tool = \"@a.tools\" }", "{ tool = \"@a.run\" }");
    project.prints(&["run", PIPELINE], str![[r#"
<stderr>
      FAILED [TIME] (3/3) c
error: the program `inputs/tool` may not be executed
hint: a stage's output keeps that right in a folder alone: leave `tools/` in place of `tools/run`; or name what runs it, e.g. `run = ["sh", "inputs/tool"]`
log: [PROJECT]/.maple/logs/tiny/c.log
3 nodes: 0 ran, 2 cached, 1 failed in [TIME]
wrote results/tiny
<exit code 1>

"#]]);
}
