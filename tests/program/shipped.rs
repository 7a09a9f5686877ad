//! `init` and `quickstart` write what ships.

use std::fs;
use std::path::Path;

use snapbox::str;

use crate::support::{Printed, Project};

/// The files that ship, by their paths in the repository.
fn files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["data-manifests", "pipelines", "results/published"].into_iter();
    let entries = folders.flat_map(|folder| walkdir::WalkDir::new(root.join(folder))).map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
}

/// What the program prints, with a name for how many files there are.
fn printed(project: &Project, arguments: &[&str]) -> Printed {
    let mut printed = project.run(arguments);
    for (count, name) in
        [(files().len(), "[ALL]"), (files().len() - 1, "[ALL BUT ONE]"), (files().len() - 2, "[OTHERS]")]
    {
        printed.stderr = printed.stderr.replace(&format!("{count} files"), &format!("{name} files"));
    }
    printed
}

#[test]
fn init_writes_what_ships_and_replaces_nothing() {
    let project = Project::new();
    printed(&project, &["init", "my papers"]).is(str![[r#"
<stderr>
wrote [ALL] files to my papers: data-manifests, pipelines, results/published

Next:
  cd 'my papers'
  maple-pipe run pipelines/quickstart.toml      # a first table, without data
  maple-pipe data list                          # the papers' data sets: which are there
  maple-pipe doctor pipelines/base2novel.toml   # what this computer lacks for the papers' tables
<exit code 0>

"#]]);
    for file in files() {
        let written = fs::read(project.file(&format!("my papers/{file}"))).unwrap();
        assert!(written == fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).unwrap(), "{file}");
    }
    // The folder is a project of its own, also inside another one.
    assert!(project.file(".git").exists());
    project.ran(&["run", "my papers/pipelines/quickstart.toml", "--only", "world/shapes"]);
    assert!(project.file("my papers/.maple/records").is_dir() && !project.file(".maple").exists());

    project.write("my papers/pipelines/quickstart.toml", "name = 'mine'\n");
    fs::remove_file(project.file("my papers/pipelines/base2novel.toml")).unwrap();
    printed(&project, &["init", "my papers"]).is(str![[r#"
<stderr>
wrote 1 file to my papers: data-manifests, pipelines, results/published
[OTHERS] files that ship are there already
kept 1 file that differs from what ships:
  pipelines/quickstart.toml

Next:
  cd 'my papers'
  maple-pipe run pipelines/quickstart.toml      # a first table, without data
  maple-pipe data list                          # the papers' data sets: which are there
  maple-pipe doctor pipelines/base2novel.toml   # what this computer lacks for the papers' tables
<exit code 0>

"#]]);
    assert_eq!(project.read("my papers/pipelines/quickstart.toml"), "name = 'mine'\n");
    assert!(project.file("my papers/pipelines/base2novel.toml").exists());

    project.write("file", "");
    printed(&project, &["init", "file"]).is(str![[r#"
<stderr>
error: could not read `file/data-manifests/caltech101-20.toml`: Not a directory (os error 20)
<exit code 2>

"#]]);
}

#[test]
fn quickstart_runs_its_pipeline_and_says_what_is_next() {
    let project = Project::new();
    // A person's own, which runs in a moment.
    project.write(
        "papers/pipelines/quickstart.toml",
        "results = ['@hello']\n[stage.hello]\nkind = 'command'\nrun = 'echo hello > hello'\noutputs = { hello = 'hello' }\n",
    );
    printed(&project, &["quickstart", "papers"]).is(str![[r#"
<stderr>
wrote [ALL BUT ONE] files to papers: data-manifests, pipelines, results/published
kept 1 file that differs from what ships:
  pipelines/quickstart.toml
        DONE [TIME] (1/1) hello
1 node: 1 ran, 0 cached, 0 failed in [TIME]
wrote papers/results/quickstart

Next:
  cd papers
  maple-pipe report pipelines/quickstart.toml -o report.html                     # a page with curves and mistakes
  maple-pipe run pipelines/quickstart.toml --set stage.shots.shots=8 --dry-run   # what 8 shots make stale
  maple-pipe doctor pipelines/base2novel.toml                                    # what this computer lacks for the papers' tables
<exit code 0>

"#]]);
    assert_eq!(project.read("papers/results/quickstart/hello"), "hello\n");
    let again = project.command(&["quickstart", "."]).current_dir(project.file("papers")).output().unwrap();
    let again = project.printed(again);
    assert!(again.stderr.contains("nothing had to run") && !again.stderr.contains("  cd "), "{}", again.stderr);
}
