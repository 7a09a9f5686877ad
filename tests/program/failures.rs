//! Whichever of its system calls fails, a run ends by itself, and the next one ends as if nothing had happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Project;

const MEASURE: &str = "pipelines/measure.toml";
/// Files, a folder with an executable file and an empty folder, a table of two evaluations; inputs from outside, results.
const TEXT: &str = r#"
results = ["@table", "@source.tools"]

[axes]
dataset = ["d"]
method = ["a", "b"]

[stage.source]
kind = "command"
run = "mkdir tools tools/empty; cp inputs/raw tools/run; chmod +x tools/run; cp inputs/raw text"
inputs = { raw = "../raw.txt" }
outputs = { text = "text", tools = "tools/" }

[stage.evaluate]
kind = "command"
axes = ["dataset", "method"]
run = """echo '{{"classes": "all", "accuracy": '"$(inputs/tools/run {method})"'}}' > m.json"""
inputs = { text = "@source.text", tools = "@source.tools" }
outputs = { metrics = "m.json" }

[stage.table]
kind = "table"
evals = "@evaluate"
caption = "Measured elsewhere."
"#;

fn project() -> Project {
    let project = Project::new();
    project.write(MEASURE, TEXT);
    project.write("raw.txt", "#!/bin/sh\necho 5${#1}\n");
    project
}

/// The program that lets a call of another one fail.
fn injector(project: &Project) -> PathBuf {
    let program = project.file("inject");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults/inject.c");
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(source).status();
    assert!(compiled.expect("a C compiler built this program").success());
    program
}

/// Runs the program, whose so many-th call that changes a file fails. Says which call that was; nothing, if there are fewer.
fn with_failing_call(project: &Project, injector: &Path, number: usize, arguments: &[&str]) -> (String, Output) {
    let report = project.file("report");
    let command = project.command(arguments);
    let mut failing = Command::new(injector);
    failing.arg(number.to_string()).arg(project.path()).arg(&report).arg(command.get_program());
    failing.args(arguments).current_dir(project.path());
    failing.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = failing.output().unwrap();
    (fs::read_to_string(report).unwrap(), output)
}

/// The results by their names.
fn results(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(project.file("results/measure")).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files.map(|path| (path.strip_prefix(project.path()).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// Lets one call after another fail of a command, for which `prepare` makes the store. Whatever that was, the next run ends
/// with the same artifacts and results, everything verifies, and nothing is left. Returns how many calls there are.
fn whichever_call_fails(prepare: impl Fn(&Project), arguments: &[&str]) -> usize {
    let project = project();
    let injector = injector(&project);
    project.ran(&["run", MEASURE]);
    let (digests, expected) = (project.digests(), results(&project));
    assert_eq!((digests.len(), expected.len()), (8, 5), "{digests:?} {:?}", expected.keys());
    for number in 1.. {
        let _ = fs::remove_dir_all(project.file(".maple"));
        let _ = fs::remove_dir_all(project.file("results"));
        prepare(&project);
        let (failed, output) = with_failing_call(&project, &injector, number, arguments);
        let told = format!("call {number}, {failed}{}", String::from_utf8_lossy(&output.stderr));
        assert!(matches!(output.status.code(), Some(0..=2)), "{:?} {told}", output.status);
        assert!(!told.contains("mistake of maple-pipe") && !told.contains("panicked"), "{told}");
        let again = project.run(&["run", MEASURE]);
        assert_eq!(again.code, Some(0), "{told}\nthen:\n{}", again.stderr);
        assert_eq!(project.digests(), digests, "{told}");
        assert_eq!(results(&project), expected, "{told}");
        let verified = project.run(&["verify"]);
        assert_eq!(verified.code, Some(0), "{told}\nthen:\n{}{}", verified.stdout, verified.stderr);
        assert!(project.is_clean(), "{told}");
        if failed.is_empty() {
            return number - 1;
        }
    }
    unreachable!("some number is the last");
}

#[test]
fn whichever_call_of_a_run_fails_the_next_run_ends_as_ever() {
    let calls = whichever_call_fails(|_| {}, &["run", MEASURE]);
    assert!(calls > 60, "{calls} calls were tried");
}

/// What an earlier value left goes, or stays; what is needed stays.
#[test]
fn whichever_call_of_gc_fails_the_store_is_whole() {
    let prepare = |project: &Project| {
        project.ran(&["run", MEASURE, "--set", "stage.source.environment.EARLIER=1", "--set", "stage.table.caption=x"]);
        project.ran(&["run", MEASURE]);
    };
    let calls = whichever_call_fails(prepare, &["gc", MEASURE, "--keep-runs", "0"]);
    assert!(calls > 15, "{calls} calls were tried");
}
