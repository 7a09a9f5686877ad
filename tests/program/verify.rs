//! `verify` finds damage and names nodes, and makes nodes again for comparison.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use snapbox::str;

use crate::support::{PIPELINE, Project, damage, names};

/// A file of the drawn pictures that `captioned` left as a folder.
fn picture(project: &Project) -> std::path::PathBuf {
    let digest = &project.digests()["captioned:files"];
    let folder = project.file(&format!(".maple/folders/{}/{digest}", &digest[..2]));
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).last().unwrap().into_path()
}

#[test]
fn a_whole_store_is_found_whole() {
    let project = Project::after_a_run();
    project.prints(
        &["verify"],
        str![[r#"
<stderr>
[COUNT] artifacts, [SIZE]: all as they were made
<exit code 0>

"#]],
    );
    project.prints(
        &["verify", PIPELINE],
        str![[r#"
<stderr>
[COUNT] artifacts, [SIZE]: all as they were made
<exit code 0>

"#]],
    );
    project.prints(
        &["verify", PIPELINE, "--only", "shots/*1"],
        str![[r#"
<stderr>
[COUNT] artifacts, [SIZE]: all as they were made
<exit code 0>

"#]],
    );
    project.prints(
        &["verify", "--only", "shots/*1"],
        str![[r#"
<stderr>
error: `--only` needs a pipeline
hint: `maple-pipe verify PIPELINE --only GLOB`
<exit code 2>

"#]],
    );
    let json = project.json(&["verify", "--json"]);
    let count =
        |folder: &str| walkdir::WalkDir::new(project.file(folder)).min_depth(2).max_depth(2).into_iter().count() as u64;
    let artifacts = count(".maple/artifacts") + count(".maple/folders");
    assert_eq!((json["artifacts"].as_u64(), json["faults"].to_string()), (Some(artifacts), "[]".to_owned()));
}

#[test]
fn damage_is_named_and_mended() {
    let project = Project::after_a_run();
    let expected = project.digests();
    damage(&project.artifact("shots/shapes/seed1", "train"));
    damage(&picture(&project));
    fs::remove_file(project.artifact("table", "latex")).unwrap();
    let key = project.records()["train/shapes/coop/seed1"]["key"].as_str().unwrap().to_owned();
    fs::write(project.record_file(&key), "{").unwrap();
    project.prints(
        &["verify"],
        str![[r#"
<stdout>
damaged   .maple/records/[DIGEST].json
damaged   captioned:files (key [DIGEST])   .maple/folders/[DIGEST]
damaged   shots/shapes/seed1:train (key [DIGEST])   .maple/artifacts/[DIGEST]
missing   table:latex (key [DIGEST])   .maple/artifacts/[DIGEST]
doubtful  clip (key [DIGEST])   made from what is damaged
doubtful  train/shapes/maple/seed1 (key [DIGEST])   made from what is damaged
<stderr>
error: [COUNT] artifacts, [SIZE]: 4 are damaged or lost
hint: `maple-pipe verify --remove` removes what is damaged, and the results that were made from it, because they may have read the damaged bytes; then `maple-pipe run` makes them again
<exit code 1>

"#]],
    );
    // The node whose record is damaged counts as one that must run.
    project.prints(
        &["verify", PIPELINE, "--only", "train/*/coop/seed1"],
        str![[r#"
<stdout>
damaged   .maple/records/[DIGEST].json
damaged   captioned:files (key [DIGEST])   .maple/folders/[DIGEST]
damaged   shots/shapes/seed1:train (key [DIGEST])   .maple/artifacts/[DIGEST]
doubtful  clip (key [DIGEST])   made from what is damaged
doubtful  train/shapes/maple/seed1 (key [DIGEST])   made from what is damaged
<stderr>
error: [COUNT] artifacts, [SIZE]: 3 are damaged or lost
hint: `maple-pipe verify --remove` removes what is damaged, and the results that were made from it, because they may have read the damaged bytes; then `maple-pipe run` makes them again
<exit code 1>

"#]],
    );
    project.prints(
        &["verify", PIPELINE, "--only", "shots/*2"],
        str![[r#"
<stderr>
[COUNT] artifacts, [SIZE]: all as they were made
<exit code 0>

"#]],
    );
    project.prints(
        &["verify", "--remove"],
        str![[r#"
<stdout>
damaged   .maple/records/[DIGEST].json
damaged   captioned:files (key [DIGEST])   .maple/folders/[DIGEST]
damaged   shots/shapes/seed1:train (key [DIGEST])   .maple/artifacts/[DIGEST]
missing   table:latex (key [DIGEST])   .maple/artifacts/[DIGEST]
doubtful  clip (key [DIGEST])   made from what is damaged
doubtful  train/shapes/maple/seed1 (key [DIGEST])   made from what is damaged
<stderr>
error: [COUNT] artifacts, [SIZE]: 4 are damaged or lost
hint: they were removed, and so were the results that were made from them: the next `maple-pipe run` makes again what it needs
<exit code 1>

"#]],
    );
    let damaged = ["captioned", "shots/shapes/seed1", "train/shapes/coop/seed1", "table"];
    let doubtful = ["clip", "train/shapes/maple/seed1"];
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[&damaged[..], &doubtful].concat()));
    assert_eq!(project.digests(), expected);
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

#[test]
fn damage_is_told_as_json() {
    let project = Project::after_a_run();
    let file = project.artifact("shots/shapes/seed1", "train");
    damage(&file);
    let output = project.command(&["verify", PIPELINE, "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fault = &json["faults"][0];
    assert_eq!(fault["outputs"].to_string(), r#"["shots/shapes/seed1:train"]"#);
    assert_eq!(fault["path"].as_str().unwrap(), file.to_str().unwrap());
    assert_eq!((fault["missing"].as_bool(), fault["removed"].as_bool()), (Some(false), Some(false)));
    assert_eq!(json["faults"].as_array().unwrap().len(), 1);
}

#[test]
fn nodes_made_again_are_the_same() {
    let project = Project::after_a_run();
    let before = project.digests();
    project.prints(
        &["verify", PIPELINE, "--rerun", "{shots/*1,train/*/coop/seed1,table}", "-j", "1"],
        str![[r#"
<stdout>
same     shots/shapes/seed1
same     train/shapes/coop/seed1
same     table
<stderr>
3 nodes made again: 3 same, 0 differ, 0 failed
<exit code 0>

"#]],
    );
    let json = project.json(&["verify", PIPELINE, "--rerun", "shots/*1", "--json"]);
    assert_eq!(json.to_string(), r#"[{"node":"shots/shapes/seed1","result":"same"}]"#);
    assert_eq!(project.digests(), before);
    assert_eq!(fs::read_dir(project.file(".maple/work")).unwrap().count(), 0);
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
}

#[test]
fn what_comes_out_otherwise_is_kept_for_comparison() {
    let project = Project::new();
    let command = "cat /proc/sys/kernel/random/uuid > out.txt";
    let stage = format!(
        "[stage.s]\nkind = \"command\"\naxes = [\"n\"]\nrun = \"{command}\"\noutputs = {{ out = \"out.txt\" }}\n"
    );
    project.write("dice.toml", &format!("[axes]\nn = [1, 2]\n{stage}parameters = {{ n = \"{{n}}\" }}\n"));
    project.ran(&["run", "dice.toml"]);
    let expected = project.digests();
    let arguments = ["verify", "dice.toml", "--rerun", "s/*", "-j", "1"];
    project.prints(
        &arguments,
        str![[r#"
<stdout>
differs  s/n1
  `out` is now .maple/differs/s/n1/out.txt
  made by the same build
differs  s/n2
  `out` is now .maple/differs/s/n2/out.txt
  made by the same build
<stderr>
error: 2 nodes made again: 0 same, 2 differ, 0 failed
hint: `maple-pipe gc` removes the outputs that were kept for comparison
<exit code 1>

"#]],
    );
    let kept = project.file(".maple/differs/s/n1/out.txt");
    assert_ne!(fs::read(kept).unwrap(), fs::read(project.artifact("s/n1", "out")).unwrap());
    // Again in the place of what was kept before.
    assert_eq!(project.run(&arguments).code, Some(1));
    assert_eq!(project.digests(), expected);
    assert_eq!(project.ran(&["run", "dice.toml"]), names(&[]));
    project.run(&["gc", "dice.toml"]);
    assert!(!project.file(".maple/differs").exists());
}

#[test]
fn a_node_that_fails_when_it_is_made_again_is_no_success() {
    let project = Project::after_a_run();
    let index = project.artifact("data/shapes", "train");
    let length = fs::metadata(&index).unwrap().len() as usize;
    fs::set_permissions(&index, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&index, " ".repeat(length)).unwrap();
    project.prints(
        &["verify", PIPELINE, "--rerun", "shots/*1"],
        str![[r#"
<stdout>
failed   shots/shapes/seed1
  the store has a damaged copy of the artifact `[PROJECT]/.maple/artifacts/[DIGEST]`
<stderr>
error: 1 node made again: 0 same, 0 differ, 1 failed
<exit code 1>

"#]],
    );
}

#[test]
fn only_what_is_up_to_date_is_made_again() {
    let project = Project::after_a_run();
    project.prints(
        &["verify", PIPELINE, "--rerun", "shots/*", "--set", "stage.shots.shots=1"],
        str![[r#"
<stderr>
error: `shots/shapes/seed1` is not up to date: there is nothing to compare with
hint: `maple-pipe run` it first
<exit code 2>

"#]],
    );
    project.prints(
        &["verify", PIPELINE, "--rerun", "shot"],
        str![[r#"
<stderr>
error: `--rerun shot` matches no node
hint: `maple-pipe status --all` lists the nodes; `*` matches any text, e.g. `--rerun 'train/*/seed1'`
<exit code 2>

"#]],
    );
    project.prints(
        &["verify", "--rerun", "shot"],
        str![[r#"
<stderr>
error: the following required arguments were not provided:
  <PIPELINE>

Usage: maple-pipe verify --rerun <GLOB> <PIPELINE>

For more information, try '--help'.
<exit code 2>

"#]],
    );
}
