//! What the quickstart claims, on a smaller instance of the shipped pipeline: zero-shot CLIP is clearly above chance,
//! and prompts learned by CoOp and MaPLe are clearly above zero-shot CLIP on the classes that they were trained on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Percent, with five classes a half.
const CHANCE: f64 = 20.0;
/// Percentage points that "clearly" asks for: six of the 75 test images a half.
const MARGIN: f64 = 8.0;

#[test]
fn zero_shot_is_above_chance_and_learned_prompts_are_above_zero_shot() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/quickstart.toml");
    let overrides = [
        "axes.dataset=[\"textures\", \"arrangements\"]",
        "axes.seed=[1]",
        "stage.world.classes=10",
        "stage.world.train=16",
        "stage.world.val=4",
        "stage.world.test=15",
        "stage.captioned.captioned=2400",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
        .arg("run")
        .arg(pipeline)
        .args(overrides.iter().flat_map(|text| ["--set", text]))
        .arg("--store")
        .arg(folder.path().join("store"))
        .arg("--results")
        .arg(folder.path().join("results"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let means = means(&folder.path().join("results/quickstart/table.csv"));
    let mean = |method: &str, dataset: &str, metric: &str| means[&[method, dataset, metric].map(String::from)];
    for dataset in ["textures", "arrangements"] {
        let zero_shot = mean("clip", dataset, "base");
        for metric in ["base", "novel"] {
            let accuracy = mean("clip", dataset, metric);
            assert!(accuracy > CHANCE + MARGIN, "{dataset} {metric}: zero-shot {accuracy}");
        }
        for method in ["coop", "maple"] {
            let accuracy = mean(method, dataset, "base");
            assert!(accuracy > zero_shot + MARGIN, "{dataset}: {method} {accuracy}, zero-shot {zero_shot}");
        }
    }
}

/// The means of a table by method, data set and metric.
fn means(path: &Path) -> BTreeMap<[String; 3], f64> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let (key, mean) = (["method", "dataset", "metric"].map(column), column("mean"));
    reader
        .records()
        .map(|record| record.unwrap())
        .map(|record| (key.map(|column| record[column].to_owned()), record[mean].parse().unwrap()))
        .collect()
}
