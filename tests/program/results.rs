//! Results are files of the user's: they may be changed in any way, and the store does not notice.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{PIPELINE, Project, names};

const RESULTS: [(&str, &str); 4] =
    [("table.csv", "csv"), ("table.tex", "latex"), ("table.md", "markdown"), ("table.svg", "plot")];

#[test]
fn results_are_writable_copies() {
    let project = Project::after_a_run();
    fs::remove_dir_all(project.file("results")).unwrap();
    project.ran(&["run", PIPELINE]);
    for (file, output) in RESULTS {
        let (result, artifact) = (project.file(&format!("results/tiny/{file}")), project.artifact("table", output));
        assert_eq!(fs::read(&result).unwrap(), fs::read(&artifact).unwrap());
        assert_eq!(fs::metadata(&result).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::metadata(&artifact).unwrap().nlink(), 1);
    }
}

#[test]
fn whatever_happens_to_a_result_the_store_is_whole_and_the_next_run_restores_it() {
    let project = Project::after_a_run();
    let result = project.file("results/tiny/table.csv");
    let expected = fs::read(&result).unwrap();
    let artifact = project.artifact("table", "csv");
    let changes: [&dyn Fn(); 5] = [
        // In place, as some editors do.
        &|| fs::write(&result, "my own numbers\n").unwrap(),
        // The same size.
        &|| fs::write(&result, vec![b'0'; expected.len()]).unwrap(),
        &|| fs::remove_file(&result).unwrap(),
        &|| {
            fs::remove_file(&result).unwrap();
            // As of a paper that includes the table: the link stays, and leads to the table.
            std::os::unix::fs::symlink("elsewhere.csv", &result).unwrap();
        },
        &|| fs::remove_dir_all(project.file("results")).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
        assert_eq!(fs::read(&result).unwrap(), expected);
        assert!(fs::metadata(&result).unwrap().is_file());
        assert_eq!(fs::read(&artifact).unwrap(), expected);
    }
    // What is as it should be is left alone.
    let inode = fs::metadata(&result).unwrap().ino();
    project.ran(&["run", PIPELINE]);
    assert_eq!(fs::metadata(&result).unwrap().ino(), inode);
}

/// A table of other values or of fewer seeds never takes the place of the pipeline's own.
#[test]
fn what_was_set_has_results_of_its_own() {
    let project = Project::after_a_run();
    project.replace("pipelines/tiny.toml", "Two methods on drawn shapes.", "Two methods, {stage.shots.shots} shots.");
    project.ran(&["run", PIPELINE]);
    let whole = project.read("results/tiny/table.md");
    assert!(whole.starts_with("Two methods, 2 shots.\n"), "{whole}");
    let shots = ["--set", "stage.shots.shots=1"];
    let printed = project.run(&[&["run", PIPELINE], &shots[..]].concat());
    assert!(printed.stderr.contains("wrote results/tiny+stage.shots.shots=1\n"), "{}", printed.stderr);
    let set = project.read("results/tiny+stage.shots.shots=1/table.md");
    assert!(set.starts_with("Two methods, 1 shots.\n"), "{set}");
    project.ran(&["run", PIPELINE, "--set", "axes.seed=[1]", "--set", "stage.shots.shots=1"]);
    // In whatever order, and apart from a value that looks alike.
    project.ran(&["run", PIPELINE, "--set", "stage.shots.shots=1", "--set", "axes.seed=[1]"]);
    project.ran(&["run", PIPELINE, "--set", "axes.seed=[ 1 ]", "--set", "stage.shots.shots=1"]);
    let folders = fs::read_dir(project.file("results")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut folders: Vec<String> = folders.map(|name| name.into_string().unwrap()).collect();
    folders.sort();
    assert_eq!(folders.len(), 4, "{folders:?}");
    assert!(folders[1].starts_with("tiny+axes.seed=1,stage.shots.shots=1-"), "{folders:?}");
    assert_eq!(project.read("results/tiny/table.md"), whole);
    // The report says what was set, and which runs made its numbers.
    project.run(&[&["report", PIPELINE], &shots[..]].concat());
    let report = project.read("results/tiny+stage.shots.shots=1/report.html");
    assert!(report.contains("Two methods, 1 shots."));
    assert!(report.contains("Set for this report: stage.shots.shots=1."));
    assert!(report.contains("<td>stage.shots.shots=1</td>"));
}

#[test]
fn a_report_shows_the_runs_that_made_its_numbers() {
    let project = Project::after_a_run();
    let rerun = project.records()["eval/shapes/maple/seed2/novel"]["key"].as_str().unwrap().to_owned();
    fs::remove_file(project.record_file(&rerun)).unwrap();
    project.ran(&["run", PIPELINE]);
    let made = project.json(&["runs", "last", "--json"])["id"].as_str().unwrap().to_owned();
    // A run of something else does not show.
    project.ran(&["run", PIPELINE, "--set", "stage.shots.shots=1", "--only", "shots/*/seed1"]);
    let other = project.json(&["runs", "last", "--json"])["id"].as_str().unwrap().to_owned();
    project.run(&["report", PIPELINE]);
    let report = project.read("results/tiny/report.html");
    assert!(report.contains(&made) && !report.contains(&other));
    assert!(report.contains("19 results were made by runs that are not recorded any more."));
}

/// `-o` replaces regular files alone: it writes through links, and into pipes and devices.
#[test]
fn an_output_is_written_into_whatever_is_no_regular_file() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::os::unix::fs::FileTypeExt;
    let project = Project::after_a_run();
    let table = project.run(&["table", PIPELINE]).stdout;
    assert!(table.starts_with("[TABLE]"));
    let whole = project.read("results/tiny/table.md");
    project.write("kept/real.md", "old\n");
    std::os::unix::fs::symlink("kept/real.md", project.file("link.md")).unwrap();
    project.run(&["table", PIPELINE, "-o", "link.md"]);
    assert_eq!(project.read("kept/real.md"), whole);
    assert!(fs::symlink_metadata(project.file("link.md")).unwrap().is_symlink());
    // A pipe, as `>(program)` gives one.
    mkfifoat(CWD, project.file("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| fs::read_to_string(project.file("pipe")).unwrap());
        project.run(&["table", PIPELINE, "-o", "pipe"]);
        reader.join().unwrap()
    });
    assert_eq!(read, whole);
    assert!(fs::symlink_metadata(project.file("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(project.run(&["table", PIPELINE, "-o", "/dev/stdout"]).stdout, "[TABLE]\n");
    for arguments in [
        &["table", PIPELINE, "-o", "/dev/null"][..],
        &["report", PIPELINE, "-o", "/dev/null"],
        &["weights", "convert", "weights.safetensors", "/dev/null", "--activation", "quick_gelu"],
    ] {
        fs::copy(project.artifact("clip", "weights"), project.file("weights.safetensors")).unwrap();
        let printed = project.run(arguments);
        assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
    let full = project.run(&["report", PIPELINE, "-o", "/dev/full"]);
    assert_eq!(full.code, Some(1), "{}", full.stderr);
    assert!(full.stderr.contains("could not write `/dev/full`: No space left"), "{}", full.stderr);
}
