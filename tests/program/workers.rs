//! Worker processes take several nodes, one after the other, and no result can tell.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use snapbox::str;

use super::support::{PIPELINE, Printed, Project, TAKE_TASK};

/// A script in place of a worker: it notes its start and becomes the real one.
const COUNTED: &str = "echo started >>starts\nexec \"$real\" \"$@\"\n";

/// How many workers have been started since this was last asked.
fn starts(project: &Project) -> usize {
    let file = project.file("starts");
    let count = fs::read_to_string(&file).map_or(0, |text| text.lines().count());
    let _ = fs::remove_file(file);
    count
}

/// The nodes that a successful run with such a worker executed, in order.
#[track_caller]
fn ran(project: &Project, worker: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = project.command_with_worker(worker, &[arguments, &["--json"]].concat());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let events = String::from_utf8(output.stdout).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "done").map(|event| event["node"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_worker_takes_the_next_node_and_computes_the_same() {
    let project = Project::new();
    let nodes = ran(&project, COUNTED, &["run", PIPELINE, "-j", "1"]);
    assert_eq!((nodes.len(), starts(&project)), (20, 1));
    // Each node in a worker of its own.
    let alone = Project::new();
    for node in nodes {
        assert_eq!(ran(&alone, COUNTED, &["run", PIPELINE, "-j", "1", "--only", &node]), [node]);
        assert!(starts(&alone) <= 1);
    }
    assert_eq!(project.digests(), alone.digests());
}

/// The tasks of all nodes that a run gives to workers, in order, each with the node's name, once the run is over.
fn tasks(project: &Project) -> Vec<(String, PathBuf)> {
    let keep = format!("{TAKE_TASK}mkdir -p tasks; cp \"$file\" tasks/$$.json; exec \"$real\" \"$file\"\n");
    let nodes = ran(project, &keep, &["run", PIPELINE, "-j", "1"]);
    let task = |path: &Path| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let files = fs::read_dir(project.file("tasks")).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeMap<String, PathBuf> =
        files.map(|file| (task(&file)["node"].as_str().unwrap().to_owned(), file)).collect();
    nodes.into_iter().filter_map(|node| Some((node.clone(), files.get(&node)?.clone()))).collect()
}

/// A worker whose run is this test.
struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    fn start() -> Worker {
        let program = Path::new(env!("CARGO_BIN_EXE_maple-pipe")).with_file_name("maple-pipe-worker");
        let mut command = Command::new(program);
        command.env("OMP_NUM_THREADS", "1").env("MKL_NUM_THREADS", "1");
        let mut child =
            command.arg("--run").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Worker { child, lines }
    }

    fn ask(&mut self, request: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{request}").unwrap();
    }

    /// Hands a task over, and returns the first and the last line about it.
    fn does(&mut self, file: &Path, log: &Path) -> (Value, Value) {
        fs::write(log, "").unwrap();
        self.ask(&json!({ "task": { "file": file, "log": log } }));
        let mut lines = self.lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let first = lines.next().unwrap();
        let last = lines.find(|line| line.get("progress").is_none()).unwrap();
        (first, last)
    }
}

#[test]
fn what_a_worker_did_before_changes_no_bit() {
    let project = Project::new();
    let tasks = tasks(&project);
    assert_eq!(tasks.len(), 15);
    let expected = project.digests();
    let log = project.file("log");
    let mut worker = Worker::start();
    // The other way round, and each twice: as it comes behind all others, and behind itself.
    for (node, file) in tasks.iter().rev().flat_map(|task| [task, task]) {
        let task: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let (first, last) = worker.does(file, &log);
        assert!(first["hello"]["build"].is_string() && last["done"][1].as_u64().unwrap() > 1 << 20, "{last}");
        for output in task["outputs"].as_array().unwrap() {
            let (name, path) = (output["name"].as_str().unwrap(), output["path"].as_str().unwrap());
            let path = Path::new(task["scratch"].as_str().unwrap()).join(path);
            let digest = blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
            assert_eq!(digest, expected[&format!("{node}:{name}")], "{node}:{name}");
        }
    }
    // Nothing comes for a while.
    assert!(worker.lines.next().is_none());
    assert_eq!(worker.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_worker_that_has_failed_takes_no_more_nodes() {
    let project = Project::new();
    let (node, file) = tasks(&project).pop().unwrap();
    let mut task: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let wrong = project.file("wrong.json");
    task["inputs"] = json!({});
    fs::write(&wrong, task.to_string()).unwrap();
    let (first_log, second_log) = (project.file("first"), project.file("second"));
    let mut worker = Worker::start();
    let (_, last) = worker.does(&file, &first_log);
    assert!(last["done"].is_array(), "{node}: {last}");
    // It panics, and says so in the log of this node alone.
    fs::write(&second_log, "").unwrap();
    worker.ask(&json!({ "task": { "file": wrong, "log": second_log } }));
    worker.ask(&json!({ "task": { "file": file, "log": first_log } }));
    let lines: Vec<String> = worker.lines.by_ref().map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| line.starts_with("{\"hello\"")) && lines.len() == 1, "{lines:?}");
    assert_eq!(worker.child.wait().unwrap().code(), Some(101));
    assert_eq!(fs::read_to_string(first_log).unwrap(), "");
    assert!(fs::read_to_string(second_log).unwrap().contains("panicked"));
}

#[test]
fn a_node_that_fails_costs_a_worker_and_no_other_node() {
    let project = Project::new();
    project.replace("pipelines/methods/coop.toml", "learning_rate = 0.01", "learning_rate = 1e39");
    let arguments = ["run", PIPELINE, "-j", "1", "--keep-going"];
    let mut command = project.command_with_worker(COUNTED, &arguments);
    let printed = project.printed(command.output().unwrap());
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    let failed = printed.stderr.matches("FAILED").count();
    assert_eq!((failed, starts(&project)), (2, 3), "{}", printed.stderr);
}

/// What a run of one node prints whose first worker fails with this answer, and one whose every worker does.
fn answering_once_and_always(answer: &str) -> [Printed; 2] {
    let fail = format!("echo '{answer}'; exit 1\n");
    let once = format!("{TAKE_TASK}[ -e tried ] && exec \"$real\" \"$file\"\ntouch tried; {fail}");
    [once, format!("{TAKE_TASK}{fail}")].map(|script| {
        let project = Project::new();
        let mut run = project.command_with_worker(&script, &["run", PIPELINE, "--only", "clip"]);
        let printed = project.printed(run.output().unwrap());
        assert!(project.is_clean());
        printed
    })
}

#[test]
fn a_node_for_which_memory_did_not_suffice_runs_again_alone() {
    let [once, always] =
        answering_once_and_always(r#"{"outofmemory":"CUDA out of memory. Tried to allocate 20.00 MiB."}"#);
    once.is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
     CROWDED clip   it runs again alone on its device: out of memory: CUDA out of memory. Tried to allocate 20.00 MiB.
        DONE [TIME] (2/2) clip   [NUMBER]
2 nodes: 2 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
    always.is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
     CROWDED clip   it runs again alone on its device: out of memory: CUDA out of memory. Tried to allocate 20.00 MiB.
      FAILED [TIME] (2/2) clip
error: out of memory: CUDA out of memory. Tried to allocate 20.00 MiB.
hint: give it a smaller batch, or a device with more memory that no other program uses
log: [PROJECT]/.maple/logs/tiny/clip.log
2 nodes: 1 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

/// By NVIDIA's service, which has kernels of several processes run side by side, one that fails ends the work of all.
#[test]
fn a_node_whose_card_failed_runs_again_alone() {
    let [once, always] =
        answering_once_and_always(r#"{"cardfailed":"CUDA error: an illegal memory access was encountered"}"#);
    once.is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
     CROWDED clip   it runs again alone on its device: CUDA error: an illegal memory access was encountered
        DONE [TIME] (2/2) clip   [NUMBER]
2 nodes: 2 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
    always.is(str![[r#"
<stderr>
        DONE [TIME] (1/2) captioned
     CROWDED clip   it runs again alone on its device: CUDA error: an illegal memory access was encountered
      FAILED [TIME] (2/2) clip
error: CUDA error: an illegal memory access was encountered
hint: run it again; if the card fails again, `dmesg` may know more (`NVRM: Xid`)
log: [PROJECT]/.maple/logs/tiny/clip.log
2 nodes: 1 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

#[test]
fn a_worker_that_ends_while_it_waits_is_replaced() {
    // It does one task on its own, and is gone when the next one comes.
    let script = format!("{TAKE_TASK}echo started >>starts\nexec \"$real\" \"$file\"\n");
    let project = Project::new();
    let nodes = ran(&project, &script, &["run", PIPELINE, "-j", "1"]);
    assert_eq!((nodes.len(), starts(&project)), (20, 15));
    assert_eq!(project.digests(), Project::after_a_run().digests());
    assert!(project.is_clean());
}
