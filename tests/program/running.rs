//! Runs that are interrupted or killed, and runs that share a store.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

/// A node that says who it is, waits until it may end, and counts how often it did its work.
pub const WAITING: &str = "pipelines/waiting.toml";

/// A project with a node that waits for the file `go`.
pub fn waiting(ignore: &str) -> Project {
    let project = Project::new();
    let folder = project.path().display();
    let text = format!(
        "[stage.wait]\nkind = \"command\"\noutputs = {{ text = \"text.txt\" }}\nrun = '''\n{ignore}\n\
         echo $$ > {folder}/started.new; mv {folder}/started.new {folder}/started\n\
         while ! [ -e {folder}/go ]; do sleep 0.02; done\n\
         echo once >> {folder}/count; echo text > text.txt\n'''\n"
    );
    project.write(WAITING, &text);
    project
}

/// A run that is going on; its standard error is in a file.
pub struct Running<'a> {
    project: &'a Project,
    child: Child,
    stderr: PathBuf,
}

impl<'a> Running<'a> {
    pub fn start(project: &'a Project, name: &str, arguments: &[&str]) -> Running<'a> {
        let [stdout, stderr] = ["out", "err"].map(|stream| project.file(&format!("{name}.{stream}")));
        let mut command = project.command(arguments);
        command.stdout(File::create(stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Running { project, child: command.spawn().unwrap(), stderr }
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = std::process::Command::new("kill").args(["-s", signal, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the run has said so.
    #[track_caller]
    pub fn says(&self, text: &str) {
        eventually(text, || fs::read_to_string(&self.stderr).unwrap().contains(text));
    }

    pub fn end(mut self) -> crate::support::Printed {
        let status = self.child.wait().unwrap();
        let stdout = fs::read(self.stderr.with_extension("out")).unwrap();
        self.project.printed(Output { status, stdout, stderr: fs::read(&self.stderr).unwrap() })
    }
}

#[track_caller]
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process of the waiting node, once it runs.
#[track_caller]
pub fn started(project: &Project) -> u32 {
    eventually("the node starts", || project.file("started").exists());
    let id = project.read("started").trim().parse().unwrap();
    fs::remove_file(project.file("started")).unwrap();
    id
}

pub fn is_alive(id: u32) -> bool {
    // The state follows the name; a process that only waits to be noticed is not alive.
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let project = Project::new();
    let long = ["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=100000"];
    let run = Running::start(&project, "run", &long);
    eventually("training has a state", || {
        let partial = project.file(".maple/partial");
        walkdir::WalkDir::new(partial).into_iter().flatten().any(|entry| entry.file_type().is_file())
    });
    run.signal("INT");
    run.end().is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
    STOPPING waiting for 1 node   (once more to kill)
     STOPPED clip
2 nodes: 1 ran, 0 cached, 0 failed, 1 stopped in [TIME]
hint: the same command goes on from here, training included
<exit code 130>

"#]]);
}

#[test]
fn an_interrupted_training_ends_with_the_same_result() {
    let set = ["--set", "stage.clip.epochs=12", "--only", "clip"];
    let arguments = [&["run", PIPELINE][..], &set].concat();
    let whole = Project::new();
    whole.ran(&arguments);
    let project = Project::new();
    let mut interrupted = 0;
    while interrupted < 3 {
        let with_json = [&arguments[..], &["--json"]].concat();
        let run = Running::start(&project, "run", &with_json);
        let events = project.file("run.out");
        eventually("an epoch is done, or all", || {
            let text = fs::read_to_string(&events).unwrap();
            text.contains("\"progress\"") || text.contains("\"finished\"")
        });
        run.signal("INT");
        let code = run.end().code;
        if code == Some(0) {
            break;
        }
        assert_eq!(code, Some(130));
        interrupted += 1;
    }
    assert!(interrupted > 0);
    project.ran(&arguments);
    assert_eq!(project.digests(), whole.digests());
}

#[test]
fn a_command_is_asked_to_end() {
    let project = waiting("");
    let run = Running::start(&project, "run", &["run", WAITING]);
    let command = started(&project);
    run.signal("INT");
    run.end().is(str![[r#"
<stderr>
    STOPPING waiting for 1 node   (once more to kill)
     STOPPED wait
1 node: 0 ran, 0 cached, 0 failed, 1 stopped in [TIME]
hint: the same command goes on from here, training included
<exit code 130>

"#]]);
    assert!(!is_alive(command));
    project.write("go", "");
    assert_eq!(project.ran(&["run", WAITING]), names(&["wait"]));
}

#[test]
fn the_second_interrupt_kills() {
    let project = waiting("trap '' TERM INT");
    let run = Running::start(&project, "run", &["run", WAITING]);
    let command = started(&project);
    run.signal("TERM");
    run.says("STOPPING");
    assert!(is_alive(command));
    run.signal("INT");
    assert_eq!(run.end().code, Some(130));
    assert!(!is_alive(command));
}

#[test]
fn a_command_does_not_outlive_a_killed_run() {
    let project = waiting("trap '' TERM INT HUP");
    let run = Running::start(&project, "run", &["run", WAITING]);
    let command = started(&project);
    run.signal("KILL");
    assert_eq!(run.end().code, None);
    eventually("the command ends", || !is_alive(command));
}

#[test]
fn two_runs_share_their_work() {
    let project = waiting("");
    let first = Running::start(&project, "first", &["run", WAITING]);
    started(&project);
    let second = Running::start(&project, "second", &["run", WAITING]);
    second.says("ELSEWHERE");
    project.write("go", "");
    first.end().is(str![[r#"
<stderr>
        DONE [TIME] (1/1) wait
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
    let second = second.end();
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert!(second.stderr.ends_with("1 node: 0 ran, 1 cached, 0 failed in [TIME]: nothing had to run\n"));
    assert_eq!(project.read("count"), "once\n");
}

#[test]
fn a_dead_runs_work_is_taken_over() {
    let project = waiting("");
    let first = Running::start(&project, "first", &["run", WAITING]);
    let orphan = started(&project);
    let second = Running::start(&project, "second", &["run", WAITING]);
    second.says("ELSEWHERE");
    first.signal("KILL");
    first.end();
    started(&project);
    eventually("the dead run's command ends", || !is_alive(orphan));
    project.write("go", "");
    assert_eq!(second.end().done(), names(&["wait"]));
    assert_eq!(project.read("count"), "once\n");
    let claims = walkdir::WalkDir::new(project.file(".maple/claims")).into_iter().flatten();
    assert_eq!(claims.filter(|entry| entry.file_type().is_file()).count(), 0);
}

#[test]
fn a_run_that_goes_on_is_seen_from_elsewhere_and_so_is_one_that_was_killed() {
    let project = waiting("");
    let run = Running::start(&project, "run", &["run", WAITING]);
    started(&project);
    let seen = |arguments: &[&str]| project.run(arguments).stdout;
    let host = maple_pipe::made_by::host();
    let owner = format!("process {} on {host}", run.child.id());
    let running = seen(&["runs"]);
    assert!(running.contains("waiting   1 node: 1 running   running for "), "{running}");
    let status = seen(&["status", WAITING]);
    assert!(status.starts_with(&format!("running ({owner}, ")) && status.ends_with("s) (1)\n  wait\n"), "{status}");
    assert!(seen(&["status", WAITING, "--all"]).starts_with(&format!("wait   running ({owner}, ")));
    assert!(seen(&["explain", WAITING, "wait"]).starts_with("wait is stale: it has been running for "));
    let node = &project.json(&["status", WAITING, "--json"])["nodes"][0];
    assert_eq!((&node["reason"], &node["owner"]), (&"running".into(), &owner.as_str().into()));
    let full = seen(&["runs", "last"]);
    assert!(full.contains(&format!("\nprocess     {}\n", run.child.id())), "{full}");
    assert!(full.contains("\nrunning   wait   "), "{full}");
    run.signal("KILL");
    run.end();
    let runs = seen(&["runs"]);
    assert!(runs.contains("waiting   1 node: 1 interrupted   killed after "), "{runs}");
    assert_eq!(seen(&["status", WAITING]), "never run (1)\n  wait\n");
    project.write("go", "");
    project.ran(&["run", WAITING]);
    let ends = |run: &str| project.json(&["runs", run, "--json"])["end"].clone();
    assert_eq!((ends("last"), ends("last~1")), ("done".into(), "killed".into()));
    // The newest runs stay, in whatever way they ended.
    for (keep, left) in [("2", 2), ("1", 1)] {
        let gc = project.run(&["gc", WAITING, "--keep-runs", keep, "--keep-days", "0"]);
        assert_eq!(gc.code, Some(0), "{}", gc.stderr);
        assert_eq!(seen(&["runs"]).lines().count(), left);
    }
    assert_eq!(ends("last"), "done");
}

#[test]
fn a_run_in_which_nothing_has_to_run_writes_its_record_alone() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    let files = |folder: &str| fs::read_dir(project.file(folder)).map_or(0, Iterator::count);
    assert_eq!((files(".maple/runs"), files(".maple/live")), (1, 0));
    // Nor does one that ran leave more.
    project.ran(&["run", PIPELINE, "--set", "stage.shots.shots=1", "--only", "shots/*"]);
    assert_eq!((files(".maple/runs"), files(".maple/live")), (2, 0));
}

#[test]
fn how_far_a_training_is_shows_in_runs_and_in_its_log() {
    let project = Project::new();
    let long = ["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=100000", "-j", "1"];
    let run = Running::start(&project, "run", &long);
    eventually("`runs` shows an epoch", || {
        let full = project.run(&["runs", "last"]).stdout;
        full.lines().any(|line| line.starts_with("running   clip ") && line.contains("   epoch "))
    });
    let log = project.run(&["logs", PIPELINE, "clip", "--set", "stage.clip.epochs=100000"]).stdout;
    assert!(log.lines().all(|line| line.contains("/100000   loss ") && line.ends_with(" images/s")), "{log}");
    run.signal("INT");
    assert_eq!(run.end().code, Some(130));
}

#[test]
fn events_are_json_lines() {
    let project = Project::new();
    let printed = project.run(&["run", PIPELINE, "--only", "shots/shapes/seed1", "--json", "-j", "1"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let events: Vec<Value> = printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<String> = events.iter().map(|event| format!("{} {}", event["event"], event["node"])).collect();
    assert_eq!(
        said,
        [
            "\"started\" \"data/shapes\"",
            "\"done\" \"data/shapes\"",
            "\"started\" \"shots/shapes/seed1\"",
            "\"done\" \"shots/shapes/seed1\"",
            "\"finished\" null",
        ]
    );
    assert_eq!(events[3]["position"], 2);
    assert_eq!(events[3]["outputs"]["train"]["kind"], "file");
    assert_eq!(events[4]["ran"], 2);
}

#[test]
fn devices() {
    let project = Project::new();
    project.prints(
        &["run", PIPELINE, "--devices", "gpu"],
        str![[r#"
<stderr>
error: there is no device `gpu`
hint: devices are `cpu` and `cuda:NUMBER`; `cuda:0*4` is four nodes at once on one card
<exit code 2>

"#]],
    );
    project.prints(
        &["run", PIPELINE, "--devices", "cuda:0*x"],
        str![[r#"
<stderr>
error: `cuda:0*x` does not say how many nodes may use the device
hint: a number of 1 to 65535 follows the `*`, e.g. `cuda:0*4`
<exit code 2>

"#]],
    );
}

#[test]
fn a_card_that_libtorch_cannot_use_fails_the_node() {
    let project = Project::new();
    let printed = project.run(&["run", PIPELINE, "--only", "clip", "--devices", "cuda:99"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    // The tests hide whatever cards there are.
    assert!(printed.stderr.contains("error: `cuda:99` cannot be used: "), "{}", printed.stderr);
    assert!(printed.stderr.contains("or compute on the processor: `--devices cpu`"), "{}", printed.stderr);
}
