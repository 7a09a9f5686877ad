//! Every shipped pipeline: on the embedded world, from nothing to its tables (`pipelines/miniature/` lays other data, a tiny CLIP
//! and short training over the stages of the real ones), and as it stands, up to its nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

mod shipped;

/// Smaller than what ships: what is computed matters here, not what comes out.
const SMALL: [&str; 8] = [
    "stage.captioned.captioned=300",
    "stage.clip.epochs=1",
    "stage.world.classes=4",
    "stage.world.train=4",
    "stage.world.val=2",
    "stage.world.test=4",
    "axes.seed=[1, 2]",
    "stage.train.method.training.epochs=2",
];

struct World {
    folder: TempDir,
}

impl World {
    fn command(&self, command: &str, pipeline: &str, overrides: &[&str], more: &[&str]) -> Output {
        let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("pipelines/miniature/{pipeline}.toml"));
        let overrides = SMALL.iter().chain(overrides);
        Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
            .arg(command)
            .arg(pipeline)
            .args(overrides.flat_map(|text| ["--set", text]))
            .arg("--store")
            .arg(self.file("store"))
            .args(more)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// Runs a pipeline; returns what its last line on standard error but one says.
    fn run(&self, pipeline: &str, overrides: &[&str]) -> String {
        let results = self.file("results").display().to_string();
        let output = self.command("run", pipeline, overrides, &["--results", &results]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let summary = stderr.lines().find(|line| line.contains(" nodes: ")).unwrap();
        summary.split(" in ").next().unwrap().to_owned()
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The numbers of a table by method, data set and metric; none where it is missing.
    fn table(&self, file: &str) -> BTreeMap<String, Option<f64>> {
        let (pipeline, file) = file.split_once('/').unwrap();
        let folder = shipped::set_results(&self.file("results"), pipeline);
        let mut reader = csv::Reader::from_path(folder.join(file)).unwrap();
        let rows = reader.deserialize::<(String, String, String, String, Option<f64>)>().map(|row| row.unwrap());
        rows.map(|(_, method, dataset, metric, mean)| (format!("{method}/{dataset}/{metric}"), mean)).collect()
    }
}

const ALL: [&str; 13] = [
    "clip",
    "coop",
    "cocoop",
    "vpt",
    "language",
    "ivlp",
    "maple",
    "promptsrc",
    "kgcoop",
    "prograd",
    "tcp",
    "clip-lora",
    "mma",
];
/// Those that are trained on one data set for others.
const TRANSFERRED: [&str; 9] = ["clip", "coop", "cocoop", "vpt", "language", "ivlp", "maple", "promptsrc", "kgcoop"];

fn assert_complete(table: &BTreeMap<String, Option<f64>>, methods: &[&str], datasets: &[&str], metrics: &[&str]) {
    for method in methods {
        for dataset in datasets {
            for metric in metrics {
                let cell = format!("{method}/{dataset}/{metric}");
                let mean = table.get(&cell).unwrap_or_else(|| panic!("no {cell} in {table:?}"));
                assert!(mean.is_some_and(|mean| (0.0..=100.0).contains(&mean)), "{cell}: {mean:?}");
            }
        }
    }
    assert_eq!(table.len(), methods.len() * datasets.len() * metrics.len(), "{table:?}");
}

#[test]
fn every_pipeline_that_ships_expands_as_it_stands() {
    let project = shipped::with_empty_data();
    let nodes = |pipeline: &str, overrides: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
            .args(["run", &format!("pipelines/{pipeline}.toml"), "--dry-run", "--json", "--data-root", "data"])
            .args(overrides.iter().flat_map(|text| ["--set", text]))
            .current_dir(project.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (report["counts"]["nodes"].as_u64().unwrap(), report["forecast"]["pixels"].as_u64().unwrap())
    };
    let (datasets, trained, seeds) = (11, 12, 3);
    let (all, pixels) = nodes("base2novel", &[]);
    assert_eq!(all, datasets * (1 + 2 * seeds + trained * seeds + 2 + 2 + 2 * trained * seeds) + 1);
    // The test images of the eleven manifests, once, at 224 x 224.
    assert!((130_000..140_000).contains(&(pixels / (3 * 224 * 224))), "{pixels}");
    assert_eq!(
        nodes("base2novel", &["axes.dataset=[\"eurosat\"]", "axes.seed=[1]"]).0,
        1 + 2 + trained + 2 + 2 + 2 * trained + 1
    );
    let transferred = 8;
    let (source, transfer) = (1 + 2 * seeds + transferred * seeds, 1 + 1 + 1 + transferred * seeds);
    assert_eq!(nodes("cross_dataset", &[]).0, source + datasets * transfer + 1);
    assert_eq!(nodes("domain_generalization", &[]).0, source + 5 * transfer + 1);
    let (shots, trained) = (5, 7);
    assert_eq!(nodes("fewshot", &[]).0, datasets * (1 + 1 + seeds * shots * (2 + 2 * trained) + 1) + 1);
    // Fifteen samples a data set; ImageNet has no learner that chooses by validation images.
    assert!((15 * 11 * 8..15 * 11 * 25).contains(&nodes("features", &[]).0));
    let (samples, tested) = (datasets * seeds, 2 * datasets * seeds);
    assert_eq!(nodes("dassl", &[]).0, 1 + datasets + 3 * samples + 3 * tested + 2);
    let (released, base2novel, transfer) = (4, 4 * seeds * datasets * (1 + 2), seeds * (1 + datasets + 5));
    assert_eq!(nodes("released", &[]).0, (datasets + released) + 2 * datasets + base2novel + transfer + 3);
}

#[test]
fn every_pipeline_that_ships_makes_its_tables() {
    let world = World { folder: tempfile::tempdir().unwrap() };

    assert_eq!(world.run("base2novel", &[]), "163 nodes: 163 ran, 0 cached, 0 failed");
    let table = world.table("miniature-base2novel/table.csv");
    assert_complete(&table, &ALL, &["shapes", "textures", "average"], &["base", "novel", "hm"]);
    let mean = |cell: &str| table[cell].unwrap();
    let (base, novel) = (mean("maple/average/base"), mean("maple/average/novel"));
    assert!((mean("maple/average/hm") - 2.0 * base * novel / (base + novel)).abs() < 1e-3 || base * novel == 0.0);
    assert!((base - f64::midpoint(mean("maple/shapes/base"), mean("maple/textures/base"))).abs() < 1e-3);

    // The source has the classes of `stage.world` too.
    let source = [
        "stage.source_world.classes=4",
        "stage.source_world.train=4",
        "stage.source_world.val=2",
        "stage.source_world.test=4",
    ];
    world.run("cross_dataset", &source);
    let table = world.table("miniature-cross_dataset/table.csv");
    assert_complete(&table, &TRANSFERRED, &["shapes", "textures", "arrangements", "average"], &["accuracy"]);
    let mean = |cell: &str| table[cell].unwrap();
    let targets = f64::midpoint(mean("coop/textures/accuracy"), mean("coop/arrangements/accuracy"));
    assert!((mean("coop/average/accuracy") - targets).abs() < 1e-3, "the source does not enter the average");

    // What was trained for one table serves the other: sources, samples, prompts, and features and evaluations on the source.
    let summary = world.run("domain_generalization", &source);
    let counts: Vec<usize> =
        summary.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let [nodes, ran, cached, failed] = counts[..] else { panic!("{summary}") };
    let trained_before = 16 + 2 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 17;
    assert_eq!((nodes, ran, cached, failed), (123, 123 - trained_before, trained_before, 0), "{summary}");
    let table = world.table("miniature-domain_generalization/table.csv");
    let datasets = ["shapes", "sketch", "noisy", "adversarial", "rendition", "average"];
    assert_complete(&table, &TRANSFERRED, &datasets, &["accuracy"]);

    let narrowed = ["axes.method=[\"clip\", \"coop\", \"maple\"]", "axes.shots=[1, 4]", "axes.seed=[1]"];
    world.run("fewshot", &narrowed);
    let table = world.table("miniature-fewshot/table.csv");
    let (zero_shot, learned): (BTreeMap<_, _>, BTreeMap<_, _>) =
        table.into_iter().partition(|(cell, _)| cell.starts_with("clip/"));
    assert_complete(&zero_shot, &["clip"], &["shapes", "textures", "average"], &["accuracy_0_shots"]);
    let metrics = ["accuracy_1_shots", "accuracy_4_shots"];
    assert_complete(&learned, &["coop", "maple"], &["shapes", "textures", "average"], &metrics);

    world.run("features", &["axes.shots=[1]", "axes.seed=[1]"]);
    let table = world.table("miniature-features/table.csv");
    let metrics: std::collections::BTreeSet<&str> = table.keys().filter_map(|cell| cell.rsplit('/').next()).collect();
    assert_eq!(metrics.into_iter().collect::<Vec<_>>(), ["accuracy_0_shots", "accuracy_1_shots"], "{table:?}");
    for method in ["linear_probe", "zs_lp", "clap", "taskres", "clip_adapter", "tip_adapter", "tip_adapter_f"] {
        let mean = table[&format!("{method}/textures/accuracy_1_shots")];
        assert!(mean.is_some_and(|mean| (0.0..=100.0).contains(&mean)), "{method}: {mean:?}");
    }

    world.run("released", &source.iter().copied().chain(["axes.seed=[1]"]).collect::<Vec<_>>());
    let table = world.table("miniature-released/base2novel.csv");
    assert_complete(&table, &["vpt", "maple"], &["shapes"], &["base", "novel", "hm"]);
    let table = world.table("miniature-released/domain_generalization.csv");
    assert_complete(&table, &["maple"], &["shapes", "sketch"], &["accuracy"]);
    assert_complete(&world.table("miniature-released/cross_dataset.csv"), &["maple"], &["shapes"], &["accuracy"]);

    // A report on all that, in one file.
    let page = world.file("report.html").display().to_string();
    let output = world.command("report", "base2novel", &[], &["-o", &page]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let html = std::fs::read_to_string(&page).unwrap();
    for expected in
        ["<h1>miniature-base2novel</h1>", "163 nodes, all up to date", "Training loss: Textures", "Surest mistakes"]
    {
        assert!(html.contains(expected), "{expected}");
    }
    assert!(html.len() < 1 << 20 && html.contains("data:image/jpeg;base64,") && !html.contains("http://127"));
}
