//! `doctor` says what is there, what is not, and what to do about it.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use snapbox::str;

use super::made_by::broken_driver;
use super::support::{PIPELINE, Project};

/// The findings about a subject: state, text, hint.
fn about(report: &Value, subject: &str) -> Vec<(String, String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["subject"] == subject);
    findings.map(|one| (text(&one["state"]).unwrap(), text(&one["text"]).unwrap(), text(&one["hint"]))).collect()
}

#[test]
fn every_thing_has_a_line() {
    let project = Project::new();
    let report = project.json(&["doctor", "--json"]);
    assert_eq!(report["can_run"], true);
    let subjects: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    let expected = ["program", "libtorch", "processor", "CUDA", "Slurm", "data root", "weights", "store", "results"];
    assert_eq!(subjects, expected);
    let details = |subject: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["subject"] == subject).unwrap()["details"].clone()
    };
    assert_eq!(details("libtorch")["version"], maple_pipe::identity::LIBTORCH);
    assert!(details("processor")["cores"].as_u64().unwrap() > 0);
    assert!(details("processor")["memory_free"].as_u64().unwrap() > 1 << 20);
    assert!(details("store")["free"].as_u64().unwrap() > 0);
    assert_eq!(details("store")["exists"], false);
    // Nothing was made by looking.
    assert!(!project.file(".maple").exists() && !project.file("results").exists());
    let text = project.run(&["doctor"]).stdout;
    assert_eq!(text.lines().filter(|line| !line.contains("   hint: ")).count(), expected.len(), "{text}");
}

/// Slurm's programs may be there without any cluster; what they complain of in many lines is one line here.
#[test]
fn slurm_without_a_cluster_is_one_line() {
    let project = Project::new();
    let program = |name: &str, script: &str| project.write_program(&format!("bin/{name}"), script);
    let path = project.path_of_programs();
    let slurm = || {
        let output = project.command(&["doctor", "--json"]).env("PATH", &path).output().unwrap();
        about(&serde_json::from_slice(&output.stdout).unwrap(), "Slurm").remove(0)
    };
    let warning = |text: &str| ("warning".to_owned(), text.to_owned(), Some("look at what `sinfo` says".to_owned()));
    let fails =
        |name: &str| format!("echo '{name}: error: lookup failed' >&2; echo '{name}: fatal: no source' >&2; exit 1");
    program("sbatch", &fails("sbatch"));
    program("sinfo", &fails("sinfo"));
    assert_eq!(slurm(), warning("installed, but not set up: `sbatch` failed: sbatch: fatal: no source"));
    program("sbatch", "echo slurm 22.05.8");
    assert_eq!(
        slurm(),
        warning("slurm 22.05.8, whose controller does not answer: `sinfo` failed: sinfo: fatal: no source")
    );
    program("sinfo", "echo 'short* up 1:00:00 idle gpu:4'; echo 'long up 9:00:00 idle (null)'");
    assert_eq!(
        slurm(),
        (
            "ok".to_owned(),
            "slurm 22.05.8, short* up 1:00:00 idle gpu:4; `run --executor slurm` hands jobs to it".to_owned(),
            None
        )
    );
}

#[test]
fn what_a_pipeline_lacks_is_missing() {
    let project = Project::new();
    let report = project.json(&["doctor", PIPELINE, "--data-root", "data", "--json"]);
    assert_eq!(about(&report, "pipeline").len(), 1, "{report}");
    assert_eq!(about(&report, "pipeline")[0].1, "20 nodes: 0 up to date, 2 would run, 18 may run after them");

    // Images, a split file, a whole data set.
    fs::remove_file(project.file("data/shapes/images").join(first_image(&project))).unwrap();
    let doctor = || {
        let output = project.command(&["doctor", PIPELINE, "--data-root", "data", "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let found = about(&doctor(), "data set");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 == "missing" && found[0].1.ends_with("data/shapes` is incomplete"), "{found:?}");
    fs::remove_dir_all(project.file("data/shapes")).unwrap();
    let report = doctor();
    assert_eq!(report["can_run"], false);
    let found = about(&report, "pipeline");
    assert_eq!(found[0].1, "20 nodes: 0 up to date, 1 would run, 1 may run after them, 18 blocked");
    assert!(found[1..].iter().all(|(state, ..)| state == "missing") && found.len() == 2, "{found:?}");
    assert!(found.iter().any(|(_, text, hint)| text.contains("shapes") && hint.is_some()), "{found:?}");
}

fn first_image(project: &Project) -> String {
    let split: Value = serde_json::from_str(&project.read("data/shapes/split.json")).unwrap();
    split["train"][0][0].as_str().unwrap().to_owned()
}

#[test]
fn a_mistake_in_a_pipeline_has_its_place() {
    let project = Project::new();
    project.replace(PIPELINE, "kind = \"fewshot\"", "kind = \"fewshots\"");
    let output = project.command(&["doctor", PIPELINE, "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = about(&report, "pipeline");
    assert!(found[0].1.contains("tiny.toml:") && found[0].1.contains("`fewshots`"), "{found:?}");
    assert!(found[0].2.as_ref().unwrap().contains("fewshot"), "{found:?}");
}

#[test]
fn who_uses_the_store_is_named() {
    let project = Project::after_a_run();
    project.write("slow.toml", "name = \"slow\"\n[stage.slow]\nkind = \"command\"\nrun = \"echo on > done; sleep 60\"\noutputs = { done = \"done\" }\n");
    let mut run = project.command(&["run", "slow.toml", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("started")));
    let report = project.json(&["doctor", "--json"]);
    run.kill().unwrap();
    run.wait().unwrap();
    let store = &about(&report, "store")[0];
    assert!(
        store.1.contains(&format!("in use by process {} (", run.id())) && store.1.contains("slow.toml"),
        "{store:?}"
    );
    assert!(store.1.contains("format 1 on "), "{store:?}");
}

/// What a worker says of itself that can use these cards, in bytes of memory.
fn with_cards(memory: &[u64]) -> String {
    let card = |(number, memory): (usize, &u64)| {
        let (name, uuid, capability) = ("NVIDIA Test", format!("GPU-{number}"), "9.0");
        serde_json::json!({ "name": name, "uuid": uuid, "compute_capability": capability, "memory_total": memory })
    };
    let cards: Vec<Value> = memory.iter().enumerate().map(card).collect();
    let (build, libtorch) = (maple_pipe::identity::BUILD, maple_pipe::identity::LIBTORCH);
    let about = serde_json::json!({
        "build": build, "libtorch": libtorch, "path": null, "instructions": "AVX2", "cuda": { "Ok": cards }
    });
    format!("[ \"$1\" = --about ] && echo '{about}' && exit 0\n")
}

#[test]
fn a_card_says_how_many_nodes_it_takes_and_a_run_keeps_to_it() {
    let project = Project::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let about_worker = with_cards(&[80 << 30, 8 << 30]);
    let output = project.command_with_worker(&about_worker, &["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cards = about(&report, "card");
    assert_eq!(cards.len(), 2, "{report}");
    let expected = if cores / 2 >= 4 {
        "; takes up to 4 nodes at once, because more would only wait for each other"
    } else {
        "core"
    };
    assert!(cards[0].1.contains(expected), "{cards:?}");
    assert!(cards[1].1.contains("; takes one node at a time, because each"), "{cards:?}");
    // The driver shows a card, so the run asks the worker.
    let driver = broken_driver(&project);
    let worker = with_cards(&[80 << 30]) + "exit 1\n";
    let mut run = project.command_with_worker(&worker, &["run", PIPELINE, "--only", "clip", "--json"]);
    let output = run.env("LD_LIBRARY_PATH", &driver).env_remove("CUDA_VISIBLE_DEVICES").output().unwrap();
    let events = String::from_utf8(output.stdout).unwrap();
    let expected = match cores.min(4) {
        1 => "\"devices\":\"cuda:0\"".to_owned(),
        nodes => format!("\"devices\":\"cuda:0*{nodes}\""),
    };
    assert!(events.contains(&expected), "{events}");
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let project = Project::after_a_run();
    assert_eq!(project.read(".maple/format"), "1\n");
    project.write(".maple/format", "2\n");
    project.prints(
        &["status", PIPELINE],
        str![[r#"
<stderr>
error: the store `[PROJECT]/.maple` has format 2, and this program knows those up to 1
hint: use the newer maple-pipe that made it, or name another store with `--store`
<exit code 2>

"#]],
    );
    let output = project.command(&["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), about(&report, "store")[0].0.as_str()), (Some(1), "missing"));
}
