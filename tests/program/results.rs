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
            std::os::unix::fs::symlink("nowhere", &result).unwrap();
        },
        &|| fs::remove_dir_all(project.file("results")).unwrap(),
    ];
    for change in changes {
        change();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
        assert_eq!(fs::read(&result).unwrap(), expected);
        assert!(fs::symlink_metadata(&result).unwrap().is_file());
        assert_eq!(fs::read(&artifact).unwrap(), expected);
    }
    // What is as it should be is left alone.
    let inode = fs::metadata(&result).unwrap().ino();
    project.ran(&["run", PIPELINE]);
    assert_eq!(fs::metadata(&result).unwrap().ino(), inode);
}
