//! Damage in the store does not spread: nothing is computed from bytes that are not what the key says.

use std::fs;
use std::path::PathBuf;

use snapbox::str;

use crate::support::{PIPELINE, Project, damage, names};

/// `b` puts together what `a` left as a file and as a folder.
fn two_commands() -> Project {
    let project = Project::new();
    project.write(
        "pair.toml",
        r#"
results = ["@b"]
[stage.a]
kind = "command"
run = "echo from-a > out; mkdir d; echo from-a-too > d/f"
outputs = { out = "out", d = "d/" }
[stage.b]
kind = "command"
inputs = { x = "@a.out", d = "@a.d" }
run = "cat inputs/x inputs/d/f > out"
outputs = { out = "out" }
"#,
    );
    assert_eq!(project.ran(&["run", "pair.toml"]), names(&["a", "b"]));
    project
}

/// The file with this content that the store keeps.
fn kept(project: &Project, folder: &str, content: &str) -> PathBuf {
    let files = walkdir::WalkDir::new(project.file(folder)).into_iter().flatten().map(walkdir::DirEntry::into_path);
    files.filter(|path| path.is_file()).find(|path| fs::read_to_string(path).is_ok_and(|text| text == content)).unwrap()
}

#[test]
fn a_damaged_input_is_made_again_before_it_is_read() {
    for (folder, content) in [(".maple/artifacts", "from-a\n"), (".maple/folders", "from-a-too\n")] {
        let project = two_commands();
        damage(&kept(&project, folder, content));
        project.replace("pair.toml", "cat inputs/x", "cat -- inputs/x");
        let printed = project.run(&["run", "pair.toml"]);
        assert_eq!((printed.code, printed.done()), (Some(0), names(&["a", "b"])), "{}", printed.stderr);
        assert!(
            printed.stderr.contains(" DAMAGED a   it runs again: the store has a damaged copy"),
            "{}",
            printed.stderr
        );
        assert_eq!(project.read("results/pair/b"), "from-a\nfrom-a-too\n");
        assert_eq!(project.run(&["verify"]).code, Some(0));
    }
}

#[test]
fn a_damaged_result_is_made_again_before_it_is_written() {
    let project = two_commands();
    damage(&kept(&project, ".maple/artifacts", "from-a\nfrom-a-too\n"));
    fs::remove_dir_all(project.file("results")).unwrap();
    assert_eq!(project.ran(&["run", "pair.toml"]), names(&["b"]));
    assert_eq!(project.read("results/pair/b"), "from-a\nfrom-a-too\n");
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// What needs a damaged output waits while it is made, and nothing else does.
#[test]
fn many_nodes_wait_for_one_that_is_made_again() {
    let project = Project::new();
    project.write(
        "many.toml",
        r#"
results = ["@c"]
[axes]
n = [1, 2, 3, 4, 5, 6]
[stage.a]
kind = "command"
run = "echo from-a > out"
outputs = { out = "out" }
[stage.b]
kind = "command"
axes = ["n"]
inputs = { x = "@a" }
run = "cat inputs/x > out"
outputs = { out = "out" }
[stage.c]
kind = "command"
axes = ["n"]
inputs = { x = "@b" }
parameters = { n = "{n}" }
run = "cat inputs/x parameters.json > out"
outputs = { out = "out" }
"#,
    );
    project.ran(&["run", "many.toml"]);
    let expected = project.digests();
    damage(&kept(&project, ".maple/artifacts", "from-a\n"));
    project.replace("many.toml", "cat inputs/x > out", "cat -- inputs/x > out");
    // All of `b` have one key and one output, and what it left is what `a` left: damaged, too.
    assert_eq!(project.ran(&["run", "many.toml", "--jobs", "3"]), names(&["a", "b/n1"]));
    assert_eq!(project.digests(), expected);
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

#[test]
fn a_command_that_writes_to_its_inputs_leaves_no_result() {
    let project = two_commands();
    project.replace(
        "pair.toml",
        "cat inputs/x inputs/d/f > out",
        "cat inputs/x > out; chmod u+w inputs/x; echo other > inputs/x",
    );
    let printed = project.run(&["run", "pair.toml"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains("error: its input `x` changed while it ran: `"), "{}", printed.stderr);
    assert!(
        printed.stderr.contains("hint: a command must not write to its inputs, but to a copy"),
        "{}",
        printed.stderr
    );
    // Another command gets the input as it was made.
    project.replace("pair.toml", "cat inputs/x > out; chmod u+w inputs/x; echo other > inputs/x", "cat inputs/x > out");
    assert_eq!(project.ran(&["run", "pair.toml"]), names(&["a", "b"]));
    assert_eq!(project.read("results/pair/b"), "from-a\n");
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// A weight, a prompt, an accuracy: whatever a learner or a table would read.
#[test]
fn no_training_and_no_table_reads_damage() {
    let project = Project::after_a_run();
    let expected = project.digests();
    damage(&project.artifact("clip", "weights"));
    damage(&project.artifact("train/shapes/coop/seed1", "prompt"));
    damage(&project.artifact("eval/shapes/coop/seed1/base", "metrics"));
    for node in ["train/shapes/maple/seed1", "eval/shapes/coop/seed1/novel", "table"] {
        let key = project.records()[node]["key"].as_str().unwrap().to_owned();
        fs::remove_file(project.record_file(&key)).unwrap();
    }
    let again =
        ["clip", "train/shapes/coop/seed1", "train/shapes/maple/seed1", "eval/shapes/coop/seed1/novel", "table"];
    // Others may have left the same accuracy, which is one artifact: one of those that did runs again.
    assert!(project.ran(&["run", PIPELINE]).is_superset(&names(&again)));
    assert_eq!(project.digests(), expected);
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// A store in which damage has spread before: `b` holds it under a key that says otherwise.
#[test]
fn removing_damage_removes_what_was_made_from_it() {
    let project = two_commands();
    let input = kept(&project, ".maple/artifacts", "from-a\n");
    damage(&input);
    project.prints(
        &["verify"],
        str![[r#"
<stdout>
damaged   a:out (key [DIGEST])   .maple/artifacts/[DIGEST]
doubtful  b (key [DIGEST])   made from what is damaged
<stderr>
error: [COUNT] artifacts, [SIZE]: 1 is damaged or lost
hint: `maple-pipe verify --remove` removes what is damaged, and the results that were made from it, because they may have read the damaged bytes; then `maple-pipe run` makes them again
<exit code 1>

"#]],
    );
    project.prints(
        &["verify", "--remove"],
        str![[r#"
<stdout>
damaged   a:out (key [DIGEST])   .maple/artifacts/[DIGEST]
doubtful  b (key [DIGEST])   made from what is damaged
<stderr>
error: [COUNT] artifacts, [SIZE]: 1 is damaged or lost
hint: they were removed, and so were the results that were made from them: the next `maple-pipe run` makes again what it needs
<exit code 1>

"#]],
    );
    assert_eq!(project.run(&["verify"]).code, Some(0));
    assert_eq!(project.ran(&["run", "pair.toml"]), names(&["a", "b"]));
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// What an earlier version of a pipeline left is found damaged, removed, and not asked for again.
#[test]
fn damage_of_an_earlier_result_is_mended_for_good() {
    let project = two_commands();
    let earlier = kept(&project, ".maple/artifacts", "from-a\nfrom-a-too\n");
    project.replace("pair.toml", "cat inputs/x inputs/d/f > out", "cat inputs/x > out");
    project.ran(&["run", "pair.toml"]);
    damage(&earlier);
    let printed = project.run(&["verify", "--remove"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    assert!(project.ran(&["run", "pair.toml"]).is_empty());
    assert_eq!(project.run(&["verify"]).code, Some(0));
}

/// What only shows results reads no damage either.
#[test]
fn a_table_leaves_out_what_is_damaged() {
    let project = Project::after_a_run();
    damage(&project.artifact("eval/shapes/maple/seed2/novel", "metrics"));
    let printed = project.run(&["table", PIPELINE]);
    assert_eq!(printed.code, Some(0));
    let message = "counts as missing: `eval/shapes/maple/seed2/novel:metrics`: the store has a damaged copy";
    assert!(printed.stderr.contains(message), "{}", printed.stderr);
    assert!(printed.stdout.contains("missing"), "{}", printed.stdout);
    damage(&project.artifact("train/shapes/maple/seed2", "log"));
    let printed = project.run(&["report", PIPELINE]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains("hint: `maple-pipe verify --remove` removes it"), "{}", printed.stderr);
}
