//! What computed a result: worker and program of one build, a chosen environment, records that say it, and where it shows.

use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use maple_pipe::digest::Digest;
use maple_pipe::identity::{BUILD, LIBTORCH};
use maple_pipe::made_by::Processor;
use maple_pipe::store::Record;
use snapbox::str;

use super::support::{PIPELINE, Project, TAKE_TASK};

/// Variables that decide what libtorch and the libraries below it compute.
const DECISIVE: [(&str, &str); 9] = [
    ("ATEN_CPU_CAPABILITY", "default"),
    ("DNNL_MAX_CPU_ISA", "SSE41"),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-FMA"),
    ("MKL_CBWR", "COMPATIBLE"),
    ("MKL_DYNAMIC", "TRUE"),
    ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
    ("MKL_NUM_THREADS", "4"),
    ("OMP_NUM_THREADS", "4"),
    ("ONEDNN_MAX_CPU_ISA", "SSE41"),
];

#[test]
fn no_variable_changes_a_bit() {
    let (plain, decided) = (Project::after_a_run(), Project::new());
    let output = decided.command(&["run", PIPELINE]).envs(DECISIVE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(plain.digests(), decided.digests());
}

#[test]
fn the_program_and_its_worker_say_their_build() {
    let project = Project::new();
    project.prints(
        &["--version"],
        format!("<stdout>\nmaple-pipe [VERSION] (build [BUILD], libtorch {LIBTORCH})\n<exit code 0>\n"),
    );
    let worker = Path::new(env!("CARGO_BIN_EXE_maple-pipe")).with_file_name("maple-pipe-worker");
    let about = Command::new(worker).arg("--about").output().unwrap();
    let about: serde_json::Value = serde_json::from_slice(&about.stdout).unwrap();
    assert_eq!((&about["build"], &about["libtorch"]), (&BUILD.into(), &LIBTORCH.into()), "{about}");
}

#[test]
fn a_worker_of_another_build_is_refused() {
    // It does the work, as far as anybody can see: one says of no build, one says of another.
    let garbage = "scratch=$(sed 's/.*\"scratch\":\"\\([^\"]*\\)\".*/\\1/' \"$file\")\n\
                   echo garbage >\"$scratch/weights.safetensors\"\n";
    let garbage = format!("{TAKE_TASK}{garbage}");
    let hello = r#"{"hello":{"build":"0123456789abcdef","processor":{"model":"x"},"host":"x"}}"#;
    let done = r#"{"done":["old worker",null]}"#;
    for (script, says) in [
        (format!("{garbage}echo '{done}'\n"), "says of no build"),
        (format!("{garbage}echo '{done}'\nsleep 60\n"), "says of no build"),
        (format!("{garbage}echo '{hello}'\necho '{done}'\n"), "is of build [BUILD]"),
        (format!("{garbage}echo '{hello}'\nsleep 60\n"), "is of build [BUILD]"),
    ] {
        let project = Project::new();
        let mut command = project.command_with_worker(&script, &["run", PIPELINE, "--only", "clip"]);
        let printed = project.printed(command.output().unwrap());
        let expected = format!(
            "error: `[PROJECT]/programs/maple-pipe-worker` {says}, and `maple-pipe` is of build [BUILD]\n\
             hint: build both programs together: `cargo build --release`\n"
        );
        assert!(printed.code == Some(1) && printed.stderr.contains(&expected), "{}", printed.stderr);
        assert!(!project.records().contains_key("clip"));
        // The right worker computes it.
        assert!(project.ran(&["run", PIPELINE, "--only", "clip"]).contains("clip"));
    }
}

#[test]
fn a_worker_refuses_the_task_of_another_build() {
    let worker = Path::new(env!("CARGO_BIN_EXE_maple-pipe")).with_file_name("maple-pipe-worker");
    for (task, says) in
        [("{\"build\":\"0123456789abcdef\"}", "is of build `0123456789abcdef`"), ("{}", "says of no build")]
    {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("task.json");
        fs::write(&file, task).unwrap();
        let output = Command::new(&worker).arg(file).output().unwrap();
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let message = format!("`maple-pipe` {says}, and `maple-pipe-worker` is of build `{BUILD}`");
        assert_eq!((output.status.code(), &line["failed"][0]), (Some(1), &message.into()));
    }
}

/// The task that a run gives the worker for a node, in a file.
fn task_of(project: &Project, node: &str) -> PathBuf {
    let file = project.file("task.json");
    let script = format!("{TAKE_TASK}cp \"$file\" '{}'\nexit 1\n", file.display());
    let mut run = project.command_with_worker(&script, &["run", PIPELINE, "--only", node]);
    assert_eq!(run.output().unwrap().status.code(), Some(1));
    file
}

/// The lines that the worker prints for a task, once it has ended.
fn lines(output: &[u8]) -> Vec<serde_json::Value> {
    String::from_utf8_lossy(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_worker_takes_its_task_from_a_file_without_a_run() {
    let project = Project::after_a_run();
    let digest = project.digests()["train/shapes/maple/seed1:prompt"].clone();
    fs::remove_file(project.artifact("train/shapes/maple/seed1", "prompt")).unwrap();
    let file = task_of(&project, "train/shapes/maple/seed1");
    let task: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let scratch = Path::new(task["scratch"].as_str().unwrap());
    assert!(!scratch.exists());
    let worker = Path::new(env!("CARGO_BIN_EXE_maple-pipe")).with_file_name("maple-pipe-worker");
    let output = Command::new(&worker).arg(&file).stdin(Stdio::null()).output().unwrap();
    let lines = lines(&output.stdout);
    assert_eq!(lines[0]["hello"]["build"], BUILD);
    assert!(lines.last().unwrap()["done"][0].as_str().unwrap().starts_with("loss "), "{lines:?}");
    let prompt = fs::read(scratch.join("prompt.safetensors")).unwrap();
    assert_eq!(blake3::hash(&prompt).to_hex().as_str(), digest);
    let output = Command::new(&worker).arg("--task").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_worker_without_a_run_keeps_its_state_and_ends_at_a_signal() {
    let project = Project::after_a_run();
    project.replace("pipelines/methods/maple.toml", "epochs = 1", "epochs = 100000");
    let file = task_of(&project, "train/shapes/maple/seed1");
    let task: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let worker = Path::new(env!("CARGO_BIN_EXE_maple-pipe")).with_file_name("maple-pipe-worker");
    let mut child = Command::new(&worker).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("progress") {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(lines(text.as_bytes()).last().unwrap(), "stopped");
    assert!(Path::new(task["partial"].as_str().unwrap()).join("epoch.safetensors").is_file());
}

#[test]
fn records_and_keys_say_what_computes() {
    let project = Project::after_a_run();
    for (node, record) in project.records() {
        let computes = ["clip", "train", "zeroshot", "eval"].contains(&node.split('/').next().unwrap());
        let made_by = &record["made_by"];
        assert_eq!(made_by["build"], BUILD, "{node}");
        assert!(made_by["host"].is_string() && made_by["processor"]["model"].is_string(), "{made_by}");
        let libtorch = if computes { LIBTORCH.into() } else { serde_json::Value::Null };
        assert_eq!((&made_by["libtorch"], &record["manifest"]["libtorch"]), (&libtorch, &libtorch), "{node}");
        assert_eq!(made_by["processor"]["instructions"].is_string(), computes, "{node}");
        for word in ["host", "processor", "made_by", "build"] {
            assert!(
                record["manifest"].get(word).is_none(),
                "`{word}` is in a key: results are shared between machines"
            );
        }
    }
}

#[test]
fn another_libtorch_is_another_key() {
    let project = Project::after_a_run();
    // As if the last run had been made with another version.
    remake(&project, "clip", |mut record| {
        let mut recipe = record.recipe.value();
        recipe["libtorch"] = "2.10.0".into();
        record.recipe = (&recipe).into();
        record.key = record.recipe.digest();
        record
    });
    project.prints(
        &["explain", PIPELINE, "clip"],
        str![[r#"
<stdout>
clip is stale: changed since it last ran
  libtorch "2.10.0" -> "2.11.0"
<exit code 0>

"#]],
    );
}

/// Rewrites the record of a node, as if it had been made elsewhere, and what names its key.
fn remake(project: &Project, node: &str, change: impl Fn(Record) -> Record) {
    let key = project.records()[node]["key"].as_str().unwrap().to_owned();
    let path = |key: &str| project.file(&format!(".maple/records/{}/{key}.json", &key[..2]));
    let text = fs::read_to_string(path(&key)).unwrap();
    let changed = change(Record::parse(&text, &Digest::parse(&key).unwrap()).unwrap());
    fs::remove_file(path(&key)).unwrap();
    let new = changed.key.to_string();
    fs::create_dir_all(path(&new).parent().unwrap()).unwrap();
    fs::write(path(&new), changed.text()).unwrap();
    let state = project.read(".maple/state/tiny.json");
    project.write(".maple/state/tiny.json", &state.replace(&key, &new));
}

/// Makes a node's record say that an Intel processor computed it.
fn elsewhere(project: &Project, node: &str) {
    remake(project, node, |mut record| {
        let made_by = record.made_by.as_mut().unwrap();
        let instructions = Some("AVX512".to_owned());
        made_by.processor = Processor { model: "Intel Xeon".to_owned(), instructions, ..made_by.processor.clone() };
        made_by.host = "elsewhere".to_owned();
        record
    });
}

#[test]
fn a_table_that_several_kinds_of_processor_made_says_so() {
    let project = Project::after_a_run();
    let printed = |arguments: &[&str]| project.run(arguments).stdout;
    let line = "Made on 2 kinds of processor or card: ";
    assert!(!printed(&["table", PIPELINE]).contains(line) && !printed(&["run", PIPELINE]).contains(line));
    elsewhere(&project, "train/shapes/maple/seed1");
    for arguments in [&["table", PIPELINE][..], &["run", PIPELINE], &["table", PIPELINE, "--format", "latex"]] {
        let text = printed(arguments);
        let found: Vec<&str> = text.lines().filter(|text| text.contains(line)).collect();
        assert!(found.len() == 1 && found[0].contains("Intel Xeon with AVX512 (1 node)"), "{text}");
    }
    let report = project.file("report.html");
    assert_eq!(project.run(&["report", PIPELINE, "-o", report.to_str().unwrap()]).code, Some(0));
    let page = fs::read_to_string(report).unwrap();
    assert!(page.contains(line) && page.contains("Intel Xeon with AVX512, host elsewhere"));
    // The origins of one number, for people and for programs.
    let trace = ["table", PIPELINE, "--trace", "maple", "shapes", "base"];
    let text = printed(&trace);
    assert!(text.contains("\nmade by\n[MAKER]   ") && text.contains("train/shapes/maple/seed1"), "{text}");
    let json = project.json(&[&trace[..], &["--json"]].concat());
    let nodes = json["nodes"].as_array().unwrap();
    let train = nodes.iter().find(|node| node["node"] == "train/shapes/maple/seed1").unwrap();
    assert_eq!(train["made_by"]["host"], "elsewhere");
    let csv = printed(&["table", PIPELINE, "--format", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let column = reader.headers().unwrap().iter().position(|name| name == "made_by").unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    let of = |method: &str| rows.iter().find(|row| &row[1] == method && &row[3] == "base").unwrap()[column].to_owned();
    assert_eq!(of("maple").matches("[MAKER]").count(), 2, "{csv}");
    assert_eq!(of("clip").matches("[MAKER]").count(), 1, "{csv}");
}

#[test]
fn a_result_that_comes_out_otherwise_is_said_to_be_made_elsewhere() {
    let project = Project::after_a_run();
    let node = "train/shapes/maple/seed1";
    elsewhere(&project, node);
    let rerun = || project.run(&["verify", PIPELINE, "--rerun", node]);
    // The bits are the same, whatever made them.
    assert_eq!((rerun().code, rerun().stdout), (Some(0), format!("same     {node}\n")));
    let log = project.records()[node]["outputs"]["log"]["digest"].as_str().unwrap().to_owned();
    remake(&project, node, |mut record| {
        let other = Digest::of(b"another log");
        record.outputs.get_mut("log").unwrap().digest = other;
        let artifact = |digest: &str| project.file(&format!(".maple/artifacts/{}/{digest}", &digest[..2]));
        fs::create_dir_all(artifact(&other.to_string()).parent().unwrap()).unwrap();
        fs::copy(artifact(&log), artifact(&other.to_string())).unwrap();
        record
    });
    let printed = rerun();
    assert_eq!(printed.code, Some(1));
    assert!(printed.stdout.contains("  made by [MAKER]; now by [MAKER]\n"), "{}", printed.stdout);
}

#[test]
fn runs_that_differ_in_what_computed_them_say_so() {
    let project = Project::after_a_run();
    project.ran(&["run", PIPELINE]);
    elsewhere(&project, "train/shapes/maple/seed1");
    project.ran(&["run", PIPELINE, "--set", "stage.train.method.training.learning_rate=0.002"]);
    let text = project.run(&["diff", "last~1"]).stdout;
    assert!(text.contains("computed otherwise\n"), "{text}");
    assert!(text.contains("  made_by.processor.model: \"Intel Xeon\" -> "), "{text}");
}

/// A folder with a driver that lists a card which nothing can compute on.
pub(super) fn broken_driver(project: &Project) -> PathBuf {
    let folder = project.file("driver");
    fs::create_dir(&folder).unwrap();
    for (source, library) in [("nvml.c", "libnvidia-ml.so.1"), ("cuda.c", "libcuda.so.1")] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/driver").join(source);
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(folder.join(library)).arg(source).status();
        assert!(compiled.expect("a C compiler built this program").success());
    }
    folder
}

#[test]
fn a_card_that_cannot_be_used_is_no_secret() {
    let project = Project::new();
    let driver = broken_driver(&project);
    let run = |arguments: &[&str], visible: Option<&str>| {
        let mut command = project.command(arguments);
        command.env("LD_LIBRARY_PATH", &driver).env_remove("CUDA_VISIBLE_DEVICES");
        command.envs(visible.map(|cards| ("CUDA_VISIBLE_DEVICES", cards)));
        project.printed(command.output().unwrap())
    };
    let arguments = ["run", PIPELINE, "--only", "zeroshot/shapes/clip/base"];
    let warning = "warning: nodes compute on the processor, although the driver lists Test Card: ";
    let printed = run(&arguments, None);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let lines: Vec<&str> = printed.stderr.lines().take(2).collect();
    assert!(lines[0].starts_with(warning), "{}", printed.stderr);
    assert!(lines[1].starts_with("hint: ") && lines[1].contains("`--devices cpu`"), "{}", printed.stderr);
    // Nothing to run, nothing to say.
    assert!(!run(&arguments, None).stderr.contains("warning"));
    let again = [&arguments[..], &["--set", "stage.clip.seed=2"]].concat();
    let json = run(&[&again[..], &["--json"]].concat(), None).stdout;
    let devices = json.lines().find(|line| line.contains("\"event\":\"devices\"")).unwrap();
    assert!(devices.contains("although the driver lists Test Card"), "{devices}");
    for (more, visible) in [(&["--devices", "cpu"][..], None), (&[], Some("")), (&[], Some("-1"))] {
        let seed = format!("stage.clip.seed={}", 3 + more.len() + visible.map_or(0, str::len));
        let printed = run(&[&arguments[..], more, &["--set", &seed]].concat(), visible);
        assert!(printed.code == Some(0) && !printed.stderr.contains("warning"), "{}", printed.stderr);
    }
    let printed = run(&["doctor"], None);
    let line = printed.stdout.lines().find(|line| line.contains("   CUDA   ")).unwrap();
    assert!(line.starts_with("warning   CUDA") && line.contains("the driver lists Test Card"), "{}", printed.stdout);
}
