//! Whatever is killed, at whatever moment, the next run goes on from there to the same results; and runs that meet on one
//! store do each node once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maple_pipe::data::random;
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

/// Eleven quick nodes: files and folders, chains and one node that needs all.
const QUICK: &str = "pipelines/quick.toml";
const QUICK_TEXT: &str = r#"
results = ["@all"]

[axes]
number = [1, 2, 3, 4]

[stage.input]
kind = "command"
run = "cat inputs/raw > text; mkdir folder folder/deep; cp text folder/a; cp text folder/deep/b"
inputs = { raw = "../raw.txt" }
outputs = { text = "text", folder = "folder/" }

[stage.make]
kind = "command"
axes = ["number"]
run = "cat inputs/text > text; echo {number} >> text; sleep 0.01; mkdir -p folder/deep; cp text folder/deep"
inputs = { text = "@input.text" }
outputs = { text = "text", folder = "folder/" }

[stage.count]
kind = "command"
axes = ["number"]
run = "find -L inputs -type f | xargs cat | wc > count"
inputs = { made = "@make.text", folder = "@make.folder", other = "@input.folder" }
outputs = { count = "count" }

[stage.all]
kind = "command"
run = "find inputs/ -follow -type f | sort > all; cat inputs/counts/*/* inputs/late >> all"
inputs = { counts = ["@count.count"], late = "@late" }
outputs = { all = "all" }

[stage.late]
kind = "command"
run = "sleep 0.01; echo late > text"
outputs = { text = "text" }
"#;

fn quick() -> Project {
    let project = Project::new();
    project.write("raw.txt", "one\ntwo\n");
    project.write(QUICK, QUICK_TEXT);
    project
}

/// Sends SIGKILL to a process, or with a minus to a group of processes.
pub fn kill(target: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -s KILL -- {target}")]).status().unwrap();
    assert!(status.success(), "there is no process {target}");
}

/// The processes that a run has started.
fn children(run: &Child) -> Vec<u32> {
    // They are started by threads of the run, so every thread is asked.
    let threads = fs::read_dir(format!("/proc/{}/task", run.id())).into_iter().flatten().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default() + " ");
    children.collect::<String>().split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Waits until a run has a worker, and returns the worker's process id.
fn worker_of(run: &Child) -> u32 {
    let start = Instant::now();
    loop {
        // It starts `git`, too.
        let is_worker = |child: &u32| {
            fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("maple-pipe-worker"))
        };
        if let Some(child) = children(run).into_iter().find(is_worker) {
            return child;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no worker was started");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a pipeline again and again, kills the run or one of its processes each time, and looks at what is left.
struct Killed<'a> {
    project: &'a Project,
    pipeline: &'a str,
    random: &'a mut ChaCha8Rng,
    /// The nodes that some run said were done.
    done: BTreeSet<String>,
}

impl Killed<'_> {
    /// Kills after a time below `longest`.
    fn after_a_part_of(&mut self, longest: Duration) {
        let mut command = self.project.command(&["run", self.pipeline, "-j", "2"]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(random::uniform(self.random)));
        let children = if random::below(self.random, 3) == 0 { children(&run) } else { Vec::new() };
        if children.is_empty() {
            run.kill().unwrap();
        } else {
            let child = children[random::below(self.random, children.len())];
            // It may have ended meanwhile.
            let _ = kill_process(Pid::from_raw(child as i32).unwrap(), Signal::KILL);
        }
        let done = self.project.printed(run.wait_with_output().unwrap()).done_so_far();
        self.are_new(done);
    }

    /// Nothing that was done is done again.
    fn are_new(&mut self, done: BTreeSet<String>) {
        assert!(self.done.is_disjoint(&done), "{:?} done, then {done:?}", self.done);
        self.done.extend(done);
    }

    /// The next run completes.
    fn ends_with(mut self, expected: &BTreeMap<String, String>) {
        let run = ["run", self.pipeline, "-j", "2"];
        let done = self.project.ran(&run);
        self.are_new(done);
        assert_eq!(self.project.digests(), *expected);
        let verified = self.project.run(&["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
        // By now also the programs of killed runs have ended.
        assert_eq!(self.project.ran(&run), names(&[]));
        assert!(self.project.is_clean());
    }
}

#[test]
fn a_run_of_programs_killed_at_any_moment_is_taken_up_again() {
    let undisturbed = quick();
    let start = Instant::now();
    assert_eq!(undisturbed.ran(&["run", QUICK, "-j", "2"]).len(), 11);
    let (duration, expected) = (start.elapsed(), undisturbed.digests());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let expected = &expected;
            scope.spawn(move || {
                let mut random = random::generator(1, "kill", 0, thread);
                for _ in 0..12 {
                    let project = quick();
                    let mut killed =
                        Killed { project: &project, pipeline: QUICK, random: &mut random, done: BTreeSet::new() };
                    for _ in 0..5 {
                        killed.after_a_part_of(duration);
                    }
                    killed.ends_with(expected);
                }
            });
        }
    });
}

#[test]
fn a_run_killed_at_any_moment_is_taken_up_again() {
    let expected = Project::after_a_run().digests();
    let mut random = random::generator(2, "kill", 0, 0);
    for _ in 0..2 {
        let project = Project::new();
        let mut killed = Killed { project: &project, pipeline: PIPELINE, random: &mut random, done: BTreeSet::new() };
        for _ in 0..10 {
            killed.after_a_part_of(Duration::from_millis(900));
        }
        killed.ends_with(&expected);
    }
}

#[test]
fn a_killed_worker_fails_its_node_and_the_next_run_completes() {
    let project = Project::new();
    let mut command = project.command(&["run", PIPELINE, "--only", "clip", "-j", "1"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    kill(&worker_of(&run).to_string());
    project.printed(run.wait_with_output().unwrap()).is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
      FAILED [TIME] (2/2) clip
error: its worker ended with signal: 9 (SIGKILL)
hint: if memory ran out, fewer nodes at the same time may help: `--jobs 1`
log: [PROJECT]/.maple/logs/tiny/clip.log
2 nodes: 1 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    assert_eq!(project.ran(&["run", PIPELINE, "--only", "clip"]), names(&["clip"]));
    assert_eq!(project.digests()["clip:weights"], Project::after_a_run().digests()["clip:weights"]);
    assert!(project.is_clean());
}

#[test]
fn a_killed_training_goes_on_with_the_same_result() {
    let project = Project::new();
    let arguments = ["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=40"];
    project.ran(&[&arguments[..], &["--store", "undisturbed"]].concat());
    let mut run = project.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let kept = || walkdir::WalkDir::new(project.file(".maple/partial")).into_iter().flatten();
    while !kept().any(|entry| entry.file_name() == "pretraining.safetensors") {
        assert!(start.elapsed() < Duration::from_secs(60), "no epoch was kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(&run.id().to_string());
    assert!(!run.wait().unwrap().success());
    assert_eq!(project.ran(&arguments), names(&["clip"]));
    let weights = &project.digests()["clip:weights"];
    assert!(project.file(&format!("undisturbed/artifacts/{}/{weights}", &weights[..2])).is_file());
    assert!(project.is_clean());
}

#[test]
fn a_worker_does_not_outlive_its_run() {
    let project = Project::new();
    let mut command = project.command(&["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=1000"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let worker = worker_of(&run);
    std::thread::sleep(Duration::from_millis(300));
    kill(&run.id().to_string());
    run.wait().unwrap();
    let start = Instant::now();
    while fs::read_to_string(format!("/proc/{worker}/cmdline"))
        .is_ok_and(|command| command.contains("maple-pipe-worker"))
    {
        assert!(start.elapsed() < Duration::from_secs(10), "worker {worker} is still alive");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A stopped worker cannot notice that its run has gone.
#[test]
fn a_stopped_worker_does_not_outlive_its_killed_run() {
    let project = Project::new();
    let mut command = project.command(&["run", PIPELINE, "--only", "clip", "--set", "stage.clip.epochs=1000"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let worker = worker_of(&run);
    kill_process(Pid::from_raw(worker.try_into().unwrap()).unwrap(), Signal::STOP).unwrap();
    kill(&run.id().to_string());
    run.wait().unwrap();
    let start = Instant::now();
    while fs::read_to_string(format!("/proc/{worker}/cmdline"))
        .is_ok_and(|command| command.contains("maple-pipe-worker"))
    {
        assert!(start.elapsed() < Duration::from_secs(30), "worker {worker} is still alive");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts the program twice at once; what both printed.
fn at_once(project: &Project, first: &[&str], second: &[&str]) -> [crate::support::Printed; 2] {
    let start =
        |arguments: &[&str]| project.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = [start(first), start(second)];
    std::thread::scope(|scope| {
        let ends = started.map(|child| scope.spawn(|| child.wait_with_output().unwrap()));
        ends.map(|end| project.printed(end.join().unwrap()))
    })
}

/// Two runs of a pipeline at once execute each node once in total.
#[track_caller]
fn share(project: &Project, pipeline: &str, expected: &BTreeMap<String, String>, nodes: usize) {
    let run = ["run", pipeline, "-j", "2"];
    let ends = at_once(project, &run, &run);
    let [first, second] = ends.map(|printed| {
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.done()
    });
    assert!(first.is_disjoint(&second), "{first:?} and {second:?}");
    assert_eq!(first.len() + second.len(), nodes);
    assert_eq!(project.digests(), *expected);
    assert!(project.is_clean());
}

#[test]
fn runs_started_at_once_share_every_node() {
    share(&Project::new(), PIPELINE, &Project::after_a_run().digests(), 20);
    let undisturbed = quick();
    undisturbed.ran(&["run", QUICK]);
    let expected = undisturbed.digests();
    for _ in 0..5 {
        share(&quick(), QUICK, &expected, 11);
    }
}

#[test]
fn a_run_and_gc_at_once_end_as_one_after_the_other() {
    let prepared = quick();
    prepared.ran(&["run", QUICK]);
    prepared.replace(QUICK, "[1, 2, 3, 4]", "[3, 4, 5]");
    let changed = ["run", QUICK];
    let undisturbed = prepared.copy();
    assert_eq!(undisturbed.ran(&changed), names(&["make/number5", "count/number5", "all"]));
    assert_eq!(undisturbed.run(&["gc", QUICK, "--keep-runs", "0"]).code, Some(0));
    let expected = undisturbed.digests();
    assert_eq!(expected.len(), 13);
    for _ in 0..8 {
        let project = prepared.copy();
        for printed in at_once(&project, &changed, &["gc", QUICK, "--keep-runs", "0"]) {
            assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        }
        // What the changed pipeline no longer has is gone, at the latest by now.
        assert_eq!(project.run(&["gc", QUICK, "--keep-runs", "0"]).code, Some(0));
        assert_eq!(project.digests(), expected);
        assert_eq!(project.run(&["verify"]).code, Some(0));
        assert_eq!(project.ran(&changed), names(&[]));
        assert!(project.is_clean());
    }
}
