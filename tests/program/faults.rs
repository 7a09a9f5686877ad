//! Whatever is killed or damaged, the next run ends with the same artifacts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maple_pipe::data::random;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

/// Sends SIGKILL to a process, or with a minus to a group of processes.
pub fn kill(target: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -s KILL -- {target}")]).status().unwrap();
    assert!(status.success(), "there is no process {target}");
}

/// Waits until a run has a worker, and returns the worker's process id.
fn worker_of(run: &Child) -> u32 {
    let start = Instant::now();
    loop {
        // A worker is started by a thread of the run, so every thread is asked.
        let tasks = fs::read_dir(format!("/proc/{}/task", run.id())).into_iter().flatten().flatten();
        let all = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        // It starts `git`, too.
        let is_worker = |child: &&str| {
            fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("worker"))
        };
        if let Some(child) = all.collect::<String>().split_whitespace().find(is_worker) {
            return child.parse().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no worker was started");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nothing is left of runs that died.
fn is_clean(project: &Project) -> bool {
    let count = |folder: &str| fs::read_dir(project.file(folder)).unwrap().count();
    let is_temporary = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().starts_with(".new-");
    let temporary = walkdir::WalkDir::new(project.file(".maple")).min_depth(2).into_iter().flatten().find(is_temporary);
    count(".maple/work") == 0 && count(".maple/partial") == 0 && temporary.is_none()
}

#[test]
fn a_run_killed_at_any_moment_is_taken_up_again() {
    let expected = Project::after_a_run().digests();
    let project = Project::new();
    let mut random = random::generator(std::process::id().into(), "kill", 0, 0);
    let mut killed = 0;
    for _ in 0..10 {
        let mut command = project.command(&["run", PIPELINE, "-j", "2"]);
        let mut run = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + random::below(&mut random, 600) as u64));
        kill(&format!("-{}", run.id()));
        killed += usize::from(!run.wait().unwrap().success());
    }
    assert!(killed > 0);
    project.ran(&["run", PIPELINE]);
    assert_eq!(project.digests(), expected);
    assert!(is_clean(&project));
    assert_eq!(project.ran(&["run", PIPELINE]), BTreeSet::new());
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
    assert!(is_clean(&project));
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
    assert!(is_clean(&project));
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
    while fs::read_to_string(format!("/proc/{worker}/cmdline")).is_ok_and(|command| command.contains("worker")) {
        assert!(start.elapsed() < Duration::from_secs(10), "worker {worker} is still alive");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_damaged_record_reruns_its_node() {
    let project = Project::after_a_run();
    let expected = project.digests();
    let records = project.records();
    let node = "shots/shapes/seed1";
    let key = records[node]["key"].as_str().unwrap();
    let file = project.record_file(key);
    let whole = fs::read_to_string(&file).unwrap();
    let digest = &expected["shots/shapes/seed1:train"];
    let flipped = |text: &str| {
        let other = if text.ends_with('0') { '1' } else { '0' };
        whole.replace(text, &format!("{}{other}", &text[..text.len() - 1]))
    };
    let shots = whole.replace("\"shots\":2", "\"shots\":3");
    assert_ne!(shots, whole);
    for damaged in [String::new(), whole[..whole.len() / 2].to_owned(), flipped(digest), flipped(key), shots] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[node]));
        assert_eq!(project.digests(), expected);
        assert_eq!(project.ran(&["run", PIPELINE]), BTreeSet::new());
    }
}

#[test]
fn any_damage_to_a_record_is_survived() {
    let project = Project::after_a_run();
    let expected = project.digests();
    let key = project.records()["data/shapes"]["key"].as_str().unwrap().to_owned();
    let file = project.record_file(&key);
    let whole = fs::read(&file).unwrap();
    let mut random = random::generator(1, "damage", 0, 0);
    for _ in 0..50 {
        let mut damaged = whole.clone();
        damaged[random::below(&mut random, whole.len())] ^= 1 << random::below(&mut random, 8);
        fs::write(&file, &damaged).unwrap();
        let ran = project.ran(&["run", PIPELINE, "--only", "shots/*"]);
        assert_eq!(ran, names(&["data/shapes"]));
        assert_eq!(project.digests(), expected);
    }
}

#[test]
fn a_truncated_artifact_reruns_its_node() {
    let project = Project::after_a_run();
    let expected = project.digests();
    for (node, output) in [("data/shapes", "test-novel"), ("clip", "weights"), ("table", "csv")] {
        let file = project.artifact(node, output);
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(project.ran(&["run", PIPELINE]), names(&[node]));
        assert_eq!(project.digests(), expected);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}
