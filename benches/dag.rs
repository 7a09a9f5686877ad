//! The engine alone: 738 nodes that do next to nothing, over a data set of 20,000 files. `cargo bench --bench dag`
//! prints the median wall time of each command, and its ratio to the no-op run.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Files in the data set's folder.
const FILES: usize = 20_000;
/// Runs of each command, after one that is not counted.
const RUNS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_project(folder.path());
    let once = |arguments: &[&str]| time(folder.path(), arguments);
    println!("738 nodes, {FILES} files in the data set, medians of {RUNS}");
    let first = once(&["run", "dag.toml"]);
    let median = |arguments: &[&str]| {
        once(arguments);
        let mut times: Vec<f64> = (0..RUNS).map(|_| once(arguments)).collect();
        times.sort_by(f64::total_cmp);
        times[RUNS / 2]
    };
    let nothing = median(&["run", "dag.toml"]);
    let other = once(&["run", "dag.toml", "--set", "stage.shots.classes=base"]);
    let rows = [
        ("first run (once)", first),
        ("no-op run", nothing),
        ("status", median(&["status", "dag.toml"])),
        ("dry run", median(&["run", "dag.toml", "--dry-run"])),
        ("one parameter of 737 nodes changed (once)", other),
        ("the parameter set back", median(&["run", "dag.toml"])),
    ];
    for (what, seconds) in rows {
        println!("{what:<42} {:>9.1} ms {:>8.2} x", seconds * 1000.0, seconds / nothing);
    }
}

/// Seconds that the program takes with these arguments.
fn time(folder: &Path, arguments: &[&str]) -> f64 {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe")).args(arguments).current_dir(folder).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    started.elapsed().as_secs_f64()
}

fn write_project(folder: &Path) {
    let images = folder.join("data/images");
    fs::create_dir_all(&images).expect("a folder");
    fs::create_dir_all(folder.join(".maple")).expect("a folder");
    let mut items: Vec<String> = Vec::new();
    for number in 0..FILES {
        fs::write(images.join(format!("{number}.jpg")), number.to_string()).expect("a file");
        items.push(format!("[\"{number}.jpg\", {}, \"class {}\"]", number % 100, number % 100));
    }
    let (train, test) = items.split_at(FILES / 2);
    let split = format!("{{\"train\": [{}], \"val\": [], \"test\": [{}]}}", train.join(","), test.join(","));
    fs::write(folder.join("data/split.json"), split).expect("a file");
    let list = |count: usize| (1..=count).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let pipeline = format!(
        "[axes]\nshots = [{}]\ncopy = [{}]\n\n\
         [stage.data]\nkind = \"dataset\"\nroot = \"data\"\n\n\
         [stage.data.manifest]\nname = \"Bench\"\nfolder = \"data\"\nimages = \"images\"\ntemplate = \"{{}}\"\n\
         reader = {{ kind = \"split-json\", file = \"split.json\" }}\n\n\
         [stage.shots]\nkind = \"fewshot\"\naxes = [\"shots\", \"copy\"]\ndataset = \"@data\"\n\
         shots = \"{{shots}}\"\nseed = \"{{copy}}\"\n",
        list(11),
        list(67)
    );
    fs::write(folder.join("dag.toml"), pipeline).expect("a file");
}
