//! Stores that are full or cannot be written. Each is a file system of its own, which needs the right to mount one.

use std::process::{Command, Output};

use snapbox::str;

use crate::support::{PIPELINE, Project};

const COMMANDS: &str = "pipelines/commands.toml";

/// A file, a folder and a copy of both.
const TEXT: &str = r#"
results = ["@all"]

[axes]
number = [1, 2, 3]

[stage.make]
kind = "command"
axes = ["number"]
run = "head -c 30000 inputs/raw > text; mkdir folder; head -c 20000 text > folder/a; echo {number} >> folder/a"
inputs = { raw = "../raw.txt" }
outputs = { text = "text", folder = "folder/" }

[stage.all]
kind = "command"
run = "cat inputs/texts/*/* inputs/folders/*/*/* > all"
inputs = { texts = ["@make.text"], folders = ["@make.folder"] }
outputs = { all = "all" }
"#;

fn project() -> Project {
    let project = Project::new();
    project.write(COMMANDS, TEXT);
    project.write("raw.txt", &"words ".repeat(8_000));
    project
}

/// A shell script with mounts of its own.
fn with_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", script]);
    command
}

pub fn may_mount() -> bool {
    let output = with_mounts("mount -t tmpfs none /tmp").output();
    output.is_ok_and(|output| output.status.success())
}

/// Runs a shell script in the project's folder with mounts of its own; `$0` is the program.
fn run(project: &Project, script: &str) -> Output {
    let program = project.command(&[]);
    let mut command = with_mounts(script);
    command.arg(program.get_program()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.current_dir(project.path()).output().unwrap()
}

/// Runs once in a store on a file system of so many bytes, and again after it has grown.
#[track_caller]
fn runs_when_there_is_room(project: &Project, size: u64, arguments: &str) -> String {
    let script = format!(
        "mkdir -p store; mount -t tmpfs -o size={size} none store
         set +e; $0 run {arguments} -j 1 --store store; echo code $? >&2; set -e
         mount -o remount,size=100m store
         $0 run {arguments} --store store 2> again || {{ cat again >&2; exit 1; }}
         $0 verify --store store 2> again || {{ cat again >&2; exit 1; }}
         $0 run {arguments} --store store 2>&1 | grep -q 'nothing had to run'
         find store/work store/claims store/partial -mindepth 1 >&2"
    );
    let printed = project.printed(run(project, &script));
    assert_eq!(printed.code, Some(0), "{size}: {}", printed.stderr);
    printed.stderr
}

pub fn a_full_disk_is_named_and_a_run_with_more_room_goes_on() {
    let undisturbed = project();
    undisturbed.ran(&["run", COMMANDS]);
    let expected = undisturbed.read("results/commands/all");
    for kilobytes in [4, 32, 64, 96, 128, 160, 192, 224, 256, 288] {
        let project = project();
        let first = runs_when_there_is_room(&project, kilobytes << 10, COMMANDS);
        assert!(first.ends_with("code 0\n") || first.ends_with("code 1\n"), "{first}");
        // A program may be unable even to say so.
        if kilobytes == 4 {
            assert!(first.contains("error: could not write `[PROJECT]/store/"), "{first}");
            assert!(first.contains("`: No space left on device (os error 28)\n"), "{first}");
        }
        assert_eq!(project.read("results/commands/all"), expected);
    }
}

pub fn a_full_disk_fails_a_training_that_goes_on_later() {
    let project = Project::new();
    let arguments = format!("{PIPELINE} --only clip");
    let first = runs_when_there_is_room(&project, 8 << 20, &arguments);
    assert!(first.contains("No space left on device"), "{first}");
    assert!(first.ends_with("code 1\n"), "{first}");
}

pub fn a_store_that_cannot_be_written_can_be_read() {
    let project = project();
    project.ran(&["run", COMMANDS]);
    let script = format!(
        "mount --bind .maple .maple; mount -o remount,bind,ro .maple; exec 2>&1
         for command in 'status {COMMANDS}' 'explain {COMMANDS} all' 'verify' 'run {COMMANDS}' \
             'run {COMMANDS} --set axes.number=[3,4] -j 1' 'gc'; do
             echo \"> $command\"; $0 $command || echo \"exit code $?\"
         done"
    );
    project.printed(run(&project, &script)).is(str![[r#"
<stdout>
> status pipelines/commands.toml
4 nodes: 4 up to date, 0 stale, 0 waiting for them
> explain pipelines/commands.toml all
all is up to date
  key [DIGEST], ran [DATE] in [TIME]
  made by [MAKER]
> verify
[COUNT] artifacts, [SIZE]: all as they were made
> run pipelines/commands.toml
4 nodes: 0 ran, 4 cached, 0 failed in [TIME]: nothing had to run
this run is not recorded: could not write `[PROJECT]/.maple/work/run-[ID].claim`: Read-only file system (os error 30)
wrote results/commands
> run pipelines/commands.toml --set axes.number=[3,4] -j 1
      FAILED [TIME] (2/3) make/number4
error: could not write `[PROJECT]/.maple/work/run-[ID].claim`: Read-only file system (os error 30)
3 nodes: 0 ran, 1 cached, 1 failed, 1 blocked in [TIME]
this run is not recorded: could not write `[PROJECT]/.maple/work/run-[ID].claim`: Read-only file system (os error 30)
exit code 1
> gc
error: could not write `[PROJECT]/.maple/work/run-[ID].claim`: Read-only file system (os error 30)
exit code 2
<exit code 0>

"#]]);
}
