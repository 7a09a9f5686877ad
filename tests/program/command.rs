//! `command` stages: any program as a node.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use snapbox::{IntoData, str};

use crate::support::{Project, names};

const COMMANDS: &str = "pipelines/commands.toml";

/// Two trained "models" a seed, scores that are read from them, and one report of all.
const TEXT: &str = r#"
results = ["@score.metrics", "@report"]

[axes]
method = ["a", "b"]
seed = [1, 2]

[stage.words]
kind = "command"
run = "sort inputs/raw > words.txt; wc -l < words.txt > count"
inputs = { raw = "../raw.txt" }
outputs = { words = "words.txt", count = "count" }

[stage.train]
kind = "command"
axes = ["method", "seed"]
run = ["sh", "inputs/code/train.sh", "{method}", "{seed}"]
inputs = { code = "../code", words = "@words.words" }
outputs = { model = "out/model/", log = "log.txt" }
environment = { STEPS = 3 }
parameters = { rate = 0.5, options = { deep = true, layers = [1, 2] } }

[stage.score]
kind = "command"
axes = ["method", "seed"]
run = "wc -c < inputs/model/weights > score.json; echo '{seed} points'; cp score.json extra.json"
inputs = { model = "@train.model" }
outputs = { metrics = "score.json", extra = "extra.json" }

[stage.report]
kind = "command"
axes = ["method"]
run = "cd inputs; find . | sort > ../report.txt; cat scores/*/*/* notes/raw.txt >> ../report.txt"
inputs = { scores = "@score.metrics", notes = ["@words.count", "../raw.txt"] }
outputs = { text = "report.txt" }
"#;

const TRAIN: &str = r#"
echo "training $1 with seed $2 for $STEPS steps"
echo "a warning" >&2
ls > listing
mkdir out/model
cat inputs/words parameters.json listing > out/model/weights
echo "$1 $2" >> out/model/weights
echo done > log.txt
"#;

fn project() -> Project {
    let project = Project::new();
    project.write(COMMANDS, TEXT);
    project.write("raw.txt", "pear\napple\n");
    project.write("code/train.sh", TRAIN);
    project
}

/// A project whose only stage is a command with these lines.
fn one(lines: &str) -> Project {
    let project = Project::new();
    project.write(COMMANDS, &format!("[stage.one]\nkind = \"command\"\n{lines}\n"));
    project
}

#[test]
fn commands_read_their_inputs_and_leave_their_outputs() {
    let project = project();
    let arguments = ["run", COMMANDS, "-j", "1"];
    project.prints(
        &arguments,
        str![[r#"
<stderr>
        DONE [TIME] ( 1/11) words
        DONE [TIME] ( 2/11) train/a/seed1
        DONE [TIME] ( 3/11) train/a/seed2
        DONE [TIME] ( 4/11) train/b/seed1
        DONE [TIME] ( 5/11) train/b/seed2
        DONE [TIME] ( 6/11) score/a/seed1
        DONE [TIME] ( 7/11) score/a/seed2
        DONE [TIME] ( 8/11) score/b/seed1
        DONE [TIME] ( 9/11) score/b/seed2
        DONE [TIME] (10/11) report/a
        DONE [TIME] (11/11) report/b
11 nodes: 11 ran, 0 cached, 0 failed in [TIME]
wrote results/commands
<exit code 0>

"#]],
    );
    let read = |file: &str| project.read(&format!("results/commands/{file}"));
    str_is(
        &read("report/a.txt"),
        str![[r#"
.
./notes
./notes/raw.txt
./notes/words
./scores
./scores/score
./scores/score/a
./scores/score/a/seed1.metrics.json
./scores/score/a/seed2.metrics.json
102
102
pear
apple

"#]],
    );
    assert_eq!(read("score/a/seed1.metrics.json"), read("score/b/seed2.metrics.json"));
    assert!(!project.file("results/commands/score/a/seed1.extra.json").exists());
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
11 nodes: 0 ran, 11 cached, 0 failed in [TIME]: nothing had to run
wrote results/commands
<exit code 0>

"#]],
    );
    assert_eq!(
        project.read(".maple/logs/commands/train/a/seed1.log"),
        "training a with seed 1 for 3 steps\na warning\n"
    );
    for folder in ["work", "partial"] {
        assert_eq!(fs::read_dir(project.file(&format!(".maple/{folder}"))).unwrap().count(), 0);
    }
}

#[track_caller]
fn str_is(text: &str, expected: impl IntoData) {
    let assert = snapbox::Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).normalize_paths(false);
    assert.eq(text, expected.into_data().raw());
}

#[test]
fn what_a_command_reads_decides_whether_it_runs() {
    let project = project();
    assert_eq!(project.ran(&["run", COMMANDS]).len(), 11);
    let trains = ["train/a/seed1", "train/a/seed2", "train/b/seed1", "train/b/seed2"];
    // The sorted words are the same.
    project.write("raw.txt", "apple\npear\n");
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["words", "report/a", "report/b"]));
    // The scores count the bytes of the weights, of which there are as many as before.
    project.replace("code/train.sh", "for $STEPS", "in $STEPS");
    let expected: Vec<&str> = trains.into();
    assert_eq!(project.ran(&["run", COMMANDS]), names(&expected));
    for (path, value) in [("environment.STEPS", "4"), ("parameters.rate", "0.25"), ("outputs.log", "'listing'")] {
        let set = format!("stage.train.{path}={value}");
        let ran = project.ran(&["run", COMMANDS, "--set", &set]);
        assert!(names(&trains).is_subset(&ran), "{set}: {ran:?}");
        assert_eq!(project.ran(&["run", COMMANDS, "--set", &set]), names(&[]), "{set}");
    }
    assert_eq!(project.ran(&["run", COMMANDS]), names(&[]));
    // Not declared, not seen.
    let mut command = project.command(&["run", COMMANDS]);
    let printed = project.printed(command.env("STEPS", "5").output().unwrap());
    assert_eq!(printed.done(), names(&[]));
}

#[test]
fn explain_says_what_changed_for_a_command() {
    let project = project();
    project.ran(&["run", COMMANDS]);
    project.write("raw.txt", "apple\nquince\n");
    project.replace(COMMANDS, "rate = 0.5", "rate = 0.25");
    project.prints(
        &["explain", COMMANDS, "words"],
        str![[r#"
<stdout>
words is stale: changed since it last ran
  inputs
    raw  [DIGEST] -> [DIGEST]
<exit code 0>

"#]],
    );
    project.ran(&["run", COMMANDS, "--only", "words"]);
    project.prints(
        &["explain", COMMANDS, "train/b/seed1"],
        str![[r#"
<stdout>
train/b/seed1 is stale: changed since it last ran
  inputs
    words  [DIGEST] -> [DIGEST]
  parameters
    parameters.rate  0.5 -> 0.25
  because these ran again
    words   changed: inputs.raw
<exit code 0>

"#]],
    );
    project.prints(
        &["explain", COMMANDS, "report/a"],
        str![[r#"
<stdout>
report/a is waiting for nodes that are stale; whether it must run shows when they have run
  train/a/seed1, train/a/seed2   changed: inputs.words, parameters.parameters.rate 0.5 -> 0.25
<exit code 0>

"#]],
    );
    project.ran(&["run", COMMANDS, "--only", "score/a/seed1"]);
    project.prints(
        &["status", COMMANDS],
        str![[r#"
<stdout>
changed: inputs.words, parameters.parameters.rate 0.5 -> 0.25 (3)
  train/a/seed2
  train/b/seed1
  train/b/seed2
waiting for stale nodes (5)
  score/a/seed2
  score/b/seed1
  score/b/seed2
  report/a
  report/b
<stderr>
11 nodes: 3 up to date, 3 stale, 5 waiting for them
<exit code 0>

"#]],
    );
}

#[test]
fn artifacts_are_protected_from_commands() {
    let project = project();
    project.ran(&["run", COMMANDS]);
    for entry in walkdir::WalkDir::new(project.file(".maple/folders")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o222, 0);
        }
    }
}

const TOOLS: &str = r#"
results = ["@build"]

[stage.build]
kind = "command"
run = "cp -r inputs/source/. tools; mkdir -p tools/empty/inner; cp tools/tool tools/empty/../plain; chmod -x tools/plain"
inputs = { source = "../source" }
outputs = { tools = "tools/" }

[stage.use]
kind = "command"
run = "inputs/tools/tool > out; ls inputs/tools/empty >> out"
inputs = { tools = "@build" }
outputs = { out = "out" }
"#;

/// A stage that builds a tool, and one that uses it.
fn tools() -> Project {
    let project = Project::new();
    project.write(COMMANDS, TOOLS);
    project.write("source/tool", "#!/bin/sh\necho used\n");
    set_mode(&project, "source/tool", 0o755);
    project
}

fn set_mode(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.file(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(project: &Project, path: &str) -> u32 {
    fs::metadata(project.file(path)).unwrap().permissions().mode() & 0o700
}

#[test]
fn executable_files_and_empty_folders_stay_what_they_are() {
    let project = tools();
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["build", "use"]));
    assert_eq!(fs::read_to_string(project.artifact("use", "out")).unwrap(), "used\ninner\n");
    let digest = &project.digests()["build:tools"];
    let artifact = format!(".maple/folders/{}/{digest}", &digest[..2]);
    let result = "results/commands/build";
    let shown = |path: &str, tool: u32, plain: u32| {
        assert_eq!(mode(&project, &format!("{path}/tool")), tool);
        assert_eq!(mode(&project, &format!("{path}/plain")), plain);
        assert!(project.file(&format!("{path}/empty/inner")).is_dir());
    };
    shown(&artifact, 0o500, 0o400);
    shown(result, 0o700, 0o600);
    assert_eq!(project.run(&["verify"]).code, Some(0));
    // What a result has lost comes back, and what the store has lost is noticed.
    set_mode(&project, &format!("{result}/tool"), 0o644);
    fs::remove_dir_all(project.file(&format!("{result}/empty"))).unwrap();
    assert_eq!(project.ran(&["run", COMMANDS]), names(&[]));
    shown(result, 0o700, 0o600);
    set_mode(&project, &format!("{artifact}/tool"), 0o444);
    assert_eq!(project.run(&["verify"]).code, Some(1));
    set_mode(&project, &format!("{artifact}/tool"), 0o555);
    assert_eq!(project.run(&["verify"]).code, Some(0));
    fs::remove_dir(project.file(&format!("{artifact}/empty/inner"))).unwrap();
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["build"]));
    shown(&artifact, 0o500, 0o400);
}

#[test]
fn modes_and_empty_folders_of_inputs_decide_whether_a_command_runs() {
    let project = tools();
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["build", "use"]));
    let again = |expected: &[&str]| {
        let printed = project.run(&["run", COMMANDS]);
        assert_eq!(printed.done_so_far(), names(expected), "{}", printed.stderr);
    };
    // Only whether the owner may execute it counts.
    set_mode(&project, "source/tool", 0o711);
    again(&[]);
    set_mode(&project, "source/tool", 0o644);
    again(&["build"]);
    set_mode(&project, "source/tool", 0o755);
    again(&[]);
    fs::create_dir_all(project.file("source/more")).unwrap();
    again(&["build", "use"]);
    // A folder with something in it is told by that.
    project.write("source/more/file", "");
    again(&["build", "use"]);
    fs::remove_dir_all(project.file("source/more")).unwrap();
    again(&[]);
}

/// One command after another starts in the same folder, which is empty each time.
#[test]
fn a_folder_is_handed_on_empty() {
    let project = chain(
        "pwd > out; touch left .hidden; mkdir -p more/deep inputs/deep; ln -s more link; touch inputs/extra",
        "pwd > out; find . | sort >> out; ls \"$MAPLE_PARTIAL\" >> out; touch \"$MAPLE_PARTIAL/left\"",
    );
    assert_eq!(project.ran(&["run", CHAIN, "-j", "1"]), names(&["first", "second", "third"]));
    let [first, second, third] = outputs(&project);
    assert_eq!(second.lines().next(), first.lines().next(), "it is the same folder");
    assert_eq!(second.lines().skip(1).collect::<Vec<_>>(), [".", "./inputs", "./inputs/first", "./out"]);
    assert_eq!(third.lines().skip(1).collect::<Vec<_>>(), [".", "./out"], "what reads nothing has no folder for it");
    assert!(project.is_clean());
}

/// Parameters are written over longer ones, and links to inputs are moved from folder to folder.
#[test]
fn nothing_shows_of_what_an_earlier_command_found() {
    let project = Project::new();
    let stages = [
        ("first", "cat parameters.json > out", "{}", "parameters = { text = 'a long one' }"),
        ("second", "cat parameters.json inputs/x > out", "{ x = '@first' }", "parameters = { n = 1 }"),
        ("third", "cat inputs/x > out; ls >> out", "{ x = '@second' }", ""),
        ("fourth", "cat inputs/x inputs/y > out; ls inputs >> out", "{ x = '@first', y = '@third' }", ""),
    ];
    let stage = |(name, run, inputs, more)| {
        format!(
            "[stage.{name}]\nkind = 'command'\nrun = '{run}'\ninputs = {inputs}\noutputs = {{ out = 'out' }}\n{more}\n"
        )
    };
    project.write(CHAIN, &stages.map(stage).concat());
    project.ran(&["run", CHAIN, "-j", "1"]);
    let out = |node: &str| fs::read_to_string(project.artifact(node, "out")).unwrap();
    let (long, short) = ("{\"text\":\"a long one\"}\n", "{\"n\":1}\n");
    assert_eq!(out("second"), format!("{short}{long}"));
    assert_eq!(out("third"), format!("{short}{long}inputs\nout\n"));
    assert_eq!(out("fourth"), format!("{long}{short}{long}inputs\nout\nx\ny\n"));
    assert!(project.is_clean());
}

/// What a command leaves behind in a session of its own goes on writing where the command ran, and nobody else is there.
#[test]
fn a_folder_in_which_something_still_runs_is_not_handed_on() {
    let stray = "for i in 1 2 3 4 5 6 7 8 9 10; do touch stray; sleep 0.1; done";
    let project = chain(
        &format!("setsid sh -c '{stray}' > /dev/null 2>&1 & while ! test -e stray; do sleep 0.01; done; pwd > out"),
        "sleep 0.3; pwd > out; find . | sort >> out",
    );
    assert_eq!(project.ran(&["run", CHAIN, "-j", "1"]), names(&["first", "second", "third"]));
    let [first, second, third] = outputs(&project);
    for other in [&second, &third] {
        assert_ne!(other.lines().next(), first.lines().next());
    }
    assert_eq!(second.lines().skip(1).collect::<Vec<_>>(), [".", "./inputs", "./inputs/first", "./out"]);
    assert!(project.is_clean());
}

const CHAIN: &str = "pipelines/chain.toml";

/// Three commands: the second reads what the first leaves, the third does the same as the second and reads nothing.
fn chain(first: &str, second: &str) -> Project {
    let project = Project::new();
    let stage = |name: &str, run: &str, inputs: &str| {
        format!(
            "[stage.{name}]\nkind = \"command\"\nrun = '''{run}'''\ninputs = {inputs}\noutputs = {{ out = \"out\" }}\n"
        )
    };
    let stages = [
        stage("first", first, "{}"),
        stage("second", second, "{ first = \"@first.out\" }"),
        stage("third", second, "{}"),
    ];
    project.write(CHAIN, &stages.concat());
    project
}

fn outputs(project: &Project) -> [String; 3] {
    ["first", "second", "third"].map(|node| fs::read_to_string(project.artifact(node, "out")).unwrap())
}

/// A file that has another name elsewhere is somebody else's, too: changing it there changes no artifact.
#[test]
fn hard_links_in_outputs_are_copied() {
    let project = Project::new();
    project.write("kept/file", "one");
    project.write("kept/folder/tool", "one");
    set_mode(&project, "kept/folder/tool", 0o755);
    let kept = project.file("kept").display().to_string();
    project.write(
        COMMANDS,
        &format!(
            "[stage.one]\nkind = 'command'\noutputs = {{ file = 'file', folder = 'folder/' }}\n\
             run = 'ln {kept}/file file; cp -rl {kept}/folder folder; ln folder/tool folder/twin'\n"
        ),
    );
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["one"]));
    let expected = project.digests();
    for (path, before) in [("kept/file", 0o600), ("kept/folder/tool", 0o700)] {
        assert_eq!(mode(&project, path), before, "`{path}` stays its owner's");
        project.write(path, "two");
    }
    assert_eq!(project.run(&["verify"]).code, Some(0));
    assert_eq!(project.ran(&["run", COMMANDS]), names(&[]));
    assert_eq!(project.digests(), expected);
    let links = walkdir::WalkDir::new(project.file(".maple")).into_iter().flatten();
    let links = links.filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().nlink() > 1);
    assert_eq!(links.count(), 0);
}

#[test]
fn a_command_that_changes_its_input_fails() {
    let project = one(
        "run = 'cp inputs/raw out; echo more >> inputs/raw'\ninputs = { raw = '../raw.txt' }\noutputs = { out = 'out' }",
    );
    project.write("raw.txt", "one\n");
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: `pipelines/../raw.txt` changed while the node read it
hint: run again when it no longer changes
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn a_command_that_fails_shows_the_end_of_its_log() {
    let project = one(
        "run = 'for n in 1 2 3 4 5 6 7 8 9 10 11; do echo line $n; done; false; echo never'\noutputs = { out = 'out' }",
    );
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its command ended with exit status: 1
  | line 2
  | line 3
  | line 4
  | line 5
  | line 6
  | line 7
  | line 8
  | line 9
  | line 10
  | line 11
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    let project = one("run = ['sh', '-c', 'exit 3']\noutputs = { out = 'out' }");
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its command ended with exit status: 3
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    let project = one("run = 'kill -9 $$'\noutputs = { out = 'out' }");
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its command ended with signal: 9 (SIGKILL)
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

/// Half a result is no result: what fails anywhere in a pipeline fails the node, and so does what fails in a substitution.
#[test]
fn a_pipeline_fails_with_any_of_its_programs() {
    for run in [
        "cat does-not-exist | sort > out",
        "echo a | false | cat > out",
        "(cat does-not-exist | sort) > out",
        "out=$(false; echo never); echo $out > out",
        "sort does-not-exist | head -1 | cat > out; true",
    ] {
        let project = one(&format!("run = '{run}'\noutputs = {{ out = 'out' }}"));
        let printed = project.run(&["run", COMMANDS]);
        assert_eq!(printed.code, Some(1), "{run}: {}", printed.stderr);
        assert!(printed.stderr.contains("error: its command ended with exit status: "), "{run}: {}", printed.stderr);
    }
    for run in ["echo a | sort > out", "false || true; echo a > out", "if false | true; then false; fi; touch out"] {
        let project = one(&format!("run = '{run}'\noutputs = {{ out = 'out' }}"));
        assert_eq!(project.ran(&["run", COMMANDS]), names(&["one"]), "{run}");
    }
}

/// A project with a program of its own in `bin`, which a command names in `programs`; and the `PATH` to find it.
fn with_program() -> (Project, String) {
    let project = one(
        "run = 'greet > out; ls inputs/programs > list'\nprograms = ['greet', 'sort']\noutputs = { out = 'out', list = 'list' }",
    );
    project.write_program("bin/greet", "echo hello");
    let path = project.path_of_programs();
    (project, path)
}

#[test]
fn a_changed_program_runs_its_command_again() {
    let (project, path) = with_program();
    let run = |arguments: &[&str]| project.printed(project.command(arguments).env("PATH", &path).output().unwrap());
    assert_eq!(run(&["run", COMMANDS]).done(), names(&["one"]));
    assert_eq!(fs::read_to_string(project.artifact("one", "list")).unwrap(), "greet\nsort\n");
    assert_eq!(run(&["run", COMMANDS]).done(), names(&[]));
    project.write_program("bin/greet", "echo good day");
    run(&["explain", COMMANDS, "one"]).is(str![[r#"
<stdout>
one is stale: changed since it last ran
  inputs
    programs/greet  [DIGEST] -> [DIGEST]
<exit code 0>

"#]]);
    assert_eq!(run(&["run", COMMANDS]).done(), names(&["one"]));
    assert_eq!(fs::read_to_string(project.artifact("one", "out")).unwrap(), "good day\n");
    // Another folder is no other program.
    fs::rename(project.file("bin"), project.file("tools")).unwrap();
    let path = path.replacen("/bin:", "/tools:", 1);
    let moved = project.printed(project.command(&["run", COMMANDS]).env("PATH", &path).output().unwrap());
    assert_eq!(moved.done(), names(&[]));
    // The command's own `PATH` is where it is looked for.
    project.write_program("bin/greet", "echo mine");
    let mine = format!("stage.one.environment.PATH={:?}", format!("{}:{path}", project.file("bin").display()));
    assert_eq!(project.ran(&["run", COMMANDS, "--set", &mine]), names(&["one"]));
    assert_eq!(fs::read_to_string(project.artifact("one", "out")).unwrap(), "mine\n");
}

#[test]
fn programs_that_cannot_be_found() {
    refused(
        "run = 'true'\nprograms = ['no-such-program']\noutputs = {}",
        str![[r#"
<stderr>
error: `programs` names `no-such-program`, which is in no folder of `PATH`
 --> pipelines/commands.toml:4:12
  |
4 | programs = ['no-such-program']
  |            ^^^^^^^^^^^^^^^^^^^
  |
  = hint: install it, or take it out of `programs`
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\nprograms = ['../bin/tool']\noutputs = {}",
        str![[r#"
<stderr>
error: `programs` names `../bin/tool`, which is no name of a program
 --> pipelines/commands.toml:4:12
  |
4 | programs = ['../bin/tool']
  |            ^^^^^^^^^^^^^^^
  |
  = hint: a program of your own is an input: its path
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\nprograms = ['sort']\noutputs = {}\ninputs = { programs = 'commands.toml' }",
        str![[r#"
<stderr>
error: `programs` cannot be an input's name, too
 --> pipelines/commands.toml:4:12
  |
4 | programs = ['sort']
  |            ^^^^^^^^
  |
  = hint: the command finds its programs as `inputs/programs/NAME`: give the input another name
<exit code 2>

"#]],
    );
    // What nobody may execute is no program.
    let (project, path) = with_program();
    fs::set_permissions(project.file("bin/greet"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = project.command(&["run", COMMANDS]).env("PATH", path).output().unwrap();
    let printed = project.printed(output);
    assert!(printed.stderr.starts_with("error: `programs` names `greet`, which is in no folder"), "{}", printed.stderr);
}

#[test]
fn programs_that_cannot_be_started() {
    let project = one("run = ['no-such-program', 'x']\noutputs = { out = 'out' }");
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: there is no program `no-such-program`
hint: it is looked for in PATH; one that is an input of the node is `inputs/NAME`
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    let project = one("run = ['./inputs/tool']\ninputs = { tool = 'commands.toml' }\noutputs = { out = 'out' }");
    project.prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: the program `./inputs/tool` may not be executed
hint: a stage's output keeps that right in a folder alone: leave `tools/` in place of `tools/run`; or name what runs it, e.g. `run = ["sh", "inputs/tool"]`
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    // In a list, and in a text that needs no shell.
    for (run, program) in [("['inputs/bin/tool']", "inputs/bin/tool"), ("'tool'", "[PROJECT]/bin/tool")] {
        let lines = format!("run = {run}\ninputs = {{ bin = '../bin' }}\noutputs = {{ out = 'out' }}");
        let project = one(&lines);
        project.write("bin/tool", "#!/no/such/interpreter\n");
        set_mode(&project, "bin/tool", 0o755);
        let run = project.command(&["run", COMMANDS]).env("PATH", project.path_of_programs()).output().unwrap();
        let message = format!("error: the program `{program}` is there, but not what it is started with\n");
        let printed = project.printed(run).stderr;
        assert!(printed.contains(&message), "{printed}");
    }
}

#[test]
fn outputs_that_are_not_as_declared() {
    let declared = |run: &str| {
        one(&format!(
            "run = '{run}'\ninputs = {{ raw = 'commands.toml' }}\noutputs = {{ model = 'out/model/', log = 'log' }}"
        ))
    };
    declared("touch log; mkdir out/models").prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its command left no `out/model`, its output `model`
hint: paths of outputs start from the folder that the command starts in
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    declared("touch log; touch out/model").prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its output `model` should be a folder, but `out/model` is a file
hint: a path in `outputs` that ends in `/` is a folder's, any other a file's
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    declared("mkdir log; mkdir out/model").prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its output `log` should be a file, but `log` is a folder
hint: a path in `outputs` that ends in `/` is a folder's, any other a file's
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    declared("cp -P inputs/raw log; mkdir out/model").prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its output `log` has a link, `log`
hint: copy what the link leads to, e.g. with `cp -L`
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
    declared("touch log; mkdir out/model; ln -s /etc out/model/etc").prints(
        &["run", COMMANDS],
        str![[r#"
<stderr>
      FAILED [TIME] (1/1) one
error: its output `model` has a link, `out/model/etc`
hint: copy what the link leads to, e.g. with `cp -L`
log: [PROJECT]/.maple/logs/commands/one.log
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]],
    );
}

#[test]
fn a_failed_attempt_may_be_gone_on_from() {
    let project = one(
        "run = '''\nif test -e \"$MAPLE_PARTIAL/half\"; then cp \"$MAPLE_PARTIAL/half\" whole; else echo 1 > \"$MAPLE_PARTIAL/half\"; exit 1; fi\n'''\noutputs = { whole = 'whole' }",
    );
    assert_eq!(project.run(&["run", COMMANDS]).code, Some(1));
    assert_eq!(project.ran(&["run", COMMANDS]), names(&["one"]));
    assert_eq!(fs::read_dir(project.file(".maple/partial")).unwrap().count(), 0);
}

/// A run of one command with these lines is refused.
#[track_caller]
fn refused(lines: &str, expected: impl IntoData) {
    let project = one(lines);
    project.prints(&["run", COMMANDS], expected);
    assert!(!project.file(".maple").exists());
}

#[test]
fn declarations_that_mean_nothing() {
    refused(
        "run = 3\noutputs = {}",
        str![[r#"
<stderr>
error: invalid type: integer `3`, expected a list of words, or a string for the shell
 --> pipelines/commands.toml:3:7
  |
3 | run = 3
  |       ^
<exit code 2>

"#]],
    );
    refused(
        "run = []\noutputs = {}",
        str![[r#"
<stderr>
error: `run` names no program
 --> pipelines/commands.toml:3:7
  |
3 | run = []
  |       ^^
  |
  = hint: for example `run = ["python", "inputs/script"]`
<exit code 2>

"#]],
    );
    refused(
        "run = ['a', ['b']]\noutputs = {}",
        str![[r#"
<stderr>
error: invalid type: sequence, expected a string, a number or a boolean
 --> pipelines/commands.toml:3:7
  |
3 | run = ['a', ['b']]
  |       ^^^^^^^^^^^^
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'",
        str![[r#"
<stderr>
error: missing key `outputs`
 --> pipelines/commands.toml:1:8
  |
1 | [stage.one]
  |        ^^^
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = { a = '../a' }",
        str![[r#"
<stderr>
error: `outputs.a` must be a path below the folder that the command starts in
 --> pipelines/commands.toml:4:17
  |
4 | outputs = { a = '../a' }
  |                 ^^^^^^
  |
  = hint: for example `metrics.json`, or `model/` for a folder
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = { a = 'inputs/a' }",
        str![[r#"
<stderr>
error: `outputs.a` lies where the command finds its inputs and parameters
 --> pipelines/commands.toml:4:17
  |
4 | outputs = { a = 'inputs/a' }
  |                 ^^^^^^^^^^
  |
  = hint: `inputs` and `parameters.json` are taken: choose another path
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = { a = 'model/', b = 'model/b' }",
        str![[r#"
<stderr>
error: `outputs.b` lies in `model`, which is the output `a`
 --> pipelines/commands.toml:4:31
  |
4 | outputs = { a = 'model/', b = 'model/b' }
  |                               ^^^^^^^^^
  |
  = hint: give every output a path of its own
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = { a = 'x', b = 'x' }",
        str![[r#"
<stderr>
error: `outputs.a` lies in `x`, which is the output `b`
 --> pipelines/commands.toml:4:17
  |
4 | outputs = { a = 'x', b = 'x' }
  |                 ^^^
  |
  = hint: give every output a path of its own
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\ninputs = ['a']",
        str![[r#"
<stderr>
error: `inputs` must be a table, not an array
 --> pipelines/commands.toml:5:10
  |
5 | inputs = ['a']
  |          ^^^^^
  |
  = hint: for example `inputs = { script = "train.py", data = "@data.train" }`
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\ninputs = { 'a/b' = 'commands.toml' }",
        str![[r#"
<stderr>
error: `a/b` cannot be the name of an input
 --> pipelines/commands.toml:5:12
  |
5 | inputs = { 'a/b' = 'commands.toml' }
  |            ^^^^^
  |
  = hint: the command finds it as `inputs/NAME`
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\ninputs = { a = 'nothing.txt' }",
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/nothing.txt`
 --> pipelines/commands.toml:5:16
  |
5 | inputs = { a = 'nothing.txt' }
  |                ^^^^^^^^^^^^^
  |
  = hint: paths start from the folder of the file they stand in
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\ninputs = { a = 1 }",
        str![[r#"
<stderr>
error: `a` must be a string, not an integer
 --> pipelines/commands.toml:5:16
  |
5 | inputs = { a = 1 }
  |                ^
  |
  = hint: `"@stage.output"` names an output, anything else is a path
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\ninputs = { a = ['commands.toml', '../pipelines/commands.toml'] }",
        str![[r#"
<stderr>
error: `a` would have two inputs at `inputs/a/commands.toml`
 --> pipelines/commands.toml:5:16
  |
5 | inputs = { a = ['commands.toml', '../pipelines/commands.toml'] }
  |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = hint: give one of them a name of its own
<exit code 2>

"#]],
    );
    refused(
        "run = 'true'\noutputs = {}\nenvironments = {}",
        str![[r#"
<stderr>
error: unknown key `environments`
 --> pipelines/commands.toml:5:1
  |
5 | environments = {}
  | ^^^^^^^^^^^^
  |
  = hint: did you mean `environment`?
<exit code 2>

"#]],
    );
}

/// Of the two stages of `TEXT` with several outputs, one reference is replaced.
#[track_caller]
fn misnamed(from: &str, to: &str, expected: impl IntoData) {
    let project = project();
    project.replace(COMMANDS, from, to);
    project.prints(&["run", COMMANDS], expected);
}

#[test]
fn references_to_outputs() {
    misnamed(
        "words = \"@words.words\"",
        "words = \"@words\"",
        str![[r#"
<stderr>
error: stage `words` has several outputs
  --> pipelines/commands.toml:18:38
   |
18 | inputs = { code = "../code", words = "@words" }
   |                                      ^^^^^^^^
   |
   = hint: name one: `@words.count`, `@words.words`
<exit code 2>

"#]],
    );
    misnamed(
        "words = \"@words.words\"",
        "words = \"@words.word\"",
        str![[r#"
<stderr>
error: stage `words` has no output `word`
  --> pipelines/commands.toml:18:38
   |
18 | inputs = { code = "../code", words = "@words.word" }
   |                                      ^^^^^^^^^^^^^
   |
   = hint: did you mean `@words.words`?
<exit code 2>

"#]],
    );
    misnamed(
        "words = \"@words.words\"",
        "words = \"@word.words\"",
        str![[r#"
<stderr>
error: `@word` refers to no stage of this pipeline
  --> pipelines/commands.toml:18:38
   |
18 | inputs = { code = "../code", words = "@word.words" }
   |                                      ^^^^^^^^^^^^^
   |
   = hint: did you mean `@words`?
<exit code 2>

"#]],
    );
    misnamed(
        "results = [\"@score.metrics\"",
        "results = [\"@score.metric\"",
        str![[r#"
<stderr>
error: stage `score` has no output `metric`
 --> pipelines/commands.toml:2:12
  |
2 | results = ["@score.metric", "@report"]
  |            ^^^^^^^^^^^^^^^
  |
  = hint: did you mean `@score.metrics`?
<exit code 2>

"#]],
    );
    misnamed(
        "results = [\"@score.metrics\"",
        "results = [\"@scores.metrics\"",
        str![[r#"
<stderr>
error: `@scores.metrics` is not a stage of this pipeline
 --> pipelines/commands.toml:2:12
  |
2 | results = ["@scores.metrics", "@report"]
  |            ^^^^^^^^^^^^^^^^^
  |
  = hint: known here: `@words`, `@train`, `@score`, `@report`
<exit code 2>

"#]],
    );
}

#[test]
fn outputs_of_commands_stand_in_for_those_of_other_stages() {
    let project = Project::new();
    project.replace("pipelines/tiny.toml", "[stage.captioned]", "[stage.copy]\nkind = \"command\"\naxes = [\"dataset\"]\nrun = \"cp -r inputs/folder/ files\"\ninputs = { folder = \"../data/shapes\" }\noutputs = { files = \"files/\", list = \"list\" }\n\n[stage.captioned]");
    project.replace("pipelines/tiny.toml", "../data/{dataset}", "@copy.list");
    project.prints(
        &["run", "pipelines/tiny.toml"],
        str![[r#"
<stderr>
error: `root` takes a folder, but `list` is a file
  --> pipelines/tiny.toml:40:8
   |
40 | root = "@copy.list"
   |        ^^^^^^^^^^^^
<exit code 2>

"#]],
    );
    project.replace("pipelines/tiny.toml", "@copy.list", "@copy.files");
    project.replace("pipelines/tiny.toml", ", list = \"list\"", "");
    let ran = project.ran(&["run", "pipelines/tiny.toml", "--only", "shots/*"]);
    assert_eq!(ran, names(&["copy/shapes", "data/shapes", "shots/shapes/seed1", "shots/shapes/seed2"]));
}

#[test]
fn tables_of_what_commands_measure() {
    let project = Project::new();
    project.write(
        COMMANDS,
        r#"
[axes]
dataset = ["x", "y"]
method = ["mine"]
seed = [1, 2]
classes = ["base", "novel"]

[stage.evaluate]
kind = "command"
axes = ["dataset", "method", "seed", "classes"]
run = """echo '{{"classes": "{classes}", "accuracy": 2{seed}, "correct": 1, "total": 4}}' > m.json"""
outputs = { metrics = "m.json", log = "log" }

[stage.table]
kind = "table"
evals = "@evaluate.metrics"
caption = "Measured elsewhere."
"#,
    );
    project.replace(COMMANDS, "> m.json", "> m.json; touch log");
    project.run(&["run", COMMANDS, "-j", "1"]).is(str![[r#"
<stdout>

Measured elsewhere.

| Data set | Method |         Base |        Novel |    HM |
|:---------|:-------|-------------:|-------------:|------:|
| x        | mine   | 21.50 ± 0.50 | 21.50 ± 0.50 | 21.50 |
| y        | mine   | 21.50 ± 0.50 | 21.50 ± 0.50 | 21.50 |
| Average  | mine   |        21.50 |        21.50 | 21.50 |

<stderr>
        DONE [TIME] (1/9) evaluate/x/mine/seed1/base
        DONE [TIME] (3/9) evaluate/x/mine/seed1/novel
        DONE [TIME] (5/9) evaluate/x/mine/seed2/base
        DONE [TIME] (7/9) evaluate/x/mine/seed2/novel
        DONE [TIME] (9/9) table   8 evaluations
9 nodes: 5 ran, 4 cached, 0 failed in [TIME]
wrote results/commands
<exit code 0>

"#]]);
}

#[test]
fn a_command_that_computes_on_a_device_sees_that_card_alone() {
    let project = Project::new();
    let run = "run = \"echo cards: $CUDA_VISIBLE_DEVICES > out.txt\"\noutputs = { out = \"out.txt\" }\ndevice = true\n";
    project.write(COMMANDS, &format!("results = [\"@one\"]\n[stage.one]\nkind = \"command\"\n{run}"));
    let seen = |devices: &str| {
        let printed = project.run(&["run", COMMANDS, "--devices", devices]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        let _ = fs::remove_dir_all(project.file(".maple/records"));
        project.read("results/commands/one.txt")
    };
    assert_eq!(seen("cpu"), "cards:\n");
    assert_eq!(seen("cuda:3"), "cards: 3\n");
    // Where it computes is no part of its key.
    project.run(&["run", COMMANDS, "--devices", "cpu"]);
    project.replace(COMMANDS, "device = true\n", "");
    assert_eq!(project.ran(&["run", COMMANDS]), names(&[]));
}

/// A command may have the folder of a data set's images, with a list of those on which its result depends.
#[test]
fn commands_find_the_images_of_a_data_set() {
    let project = Project::new();
    let tiny = project.read("pipelines/tiny.toml");
    let (_, data) = tiny.split_once("[stage.data]").unwrap();
    let (data, _) = data.split_once("[stage.zeroshot]").unwrap();
    let (data, _) = data.split_once("[stage.train]").unwrap();
    let pipeline = |inputs: &str| {
        let count = "[stage.count]\nkind = \"command\"\naxes = [\"dataset\"]\n\
                     run = \"ls inputs/images/images | wc -l > count.txt\"\noutputs = { count = \"count.txt\" }\n";
        let text = format!(
            "results = [\"@count\"]\n[axes]\ndataset = [\"shapes\"]\nseed = [1]\n[stage.data]{data}\n{count}inputs = {{ {inputs} }}\n"
        );
        project.write(COMMANDS, &text);
    };
    pipeline("images = \"@data.location\", list = \"@data.test-novel\"");
    let printed = project.run(&["run", COMMANDS]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let folders = fs::read_dir(project.file("data/shapes/images")).unwrap().count();
    assert_eq!(project.read("results/commands/count/shapes.txt").trim(), folders.to_string());
    // Where they lie decides nothing, and neither does an image that is not in the list.
    fs::rename(project.file("data/shapes"), project.file("data/moved")).unwrap();
    project.replace(COMMANDS, "../data/{dataset}", "../data/moved");
    assert_eq!(project.ran(&["run", COMMANDS]), names(&[]));

    pipeline("images = \"@data.location\"");
    project.replace(COMMANDS, "../data/{dataset}", "../data/moved");
    str_is(
        &project.run(&["run", COMMANDS]).stderr,
        str![[r#"
error: stage `count` gets the folder of images `images` and no list of them
  --> pipelines/commands.toml:20:8
   |
20 | [stage.count]
   |        ^^^^^
   |
   = hint: the list says which images a result depends on: name it, too, e.g. `images = "@data.test-all"`

"#]],
    );
}
