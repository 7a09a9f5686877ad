//! What the quickstart claims, on the shipped pipeline as it stands. Its numerics are portable, so every processor with AVX2
//! makes the same: the trained prompts have the digests that `tests/fixtures/quickstart.csv` holds, and the table is the
//! README's. Zero-shot CLIP is clearly above chance, and learned prompts are clearly above zero-shot CLIP on the classes that
//! they were trained on.
//!
//! `make readme` runs the quickstart and then this test, so that it writes both anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Percent, with nine classes a half.
const CHANCE: f64 = 100.0 / 9.0;
/// Percentage points that "clearly" asks for.
const MARGIN: f64 = 8.0;
const BEGIN: &str = "<!-- the table of the quickstart, written by `make readme` -->";
const END: &str = "<!-- end of the table -->";

#[test]
fn the_quickstart_makes_what_stands_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let writes = std::env::var_os("MAPLE_PIPE_WRITE_README").is_some();
    // `make quickstart` has just made what is to be written.
    let store = if writes { root.join(".maple") } else { folder.path().join("store") };
    let output = Command::new(env!("CARGO_BIN_EXE_maple-pipe"))
        .args(["run", "pipelines/quickstart.toml", "--devices", "cpu", "--store"])
        .arg(store)
        .args(["--json", "--results"])
        .arg(folder.path())
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = prompts(&String::from_utf8(output.stdout).unwrap());
    let table = fs::read_to_string(folder.path().join("quickstart/table.md")).unwrap();

    let (digests, readme) = (root.join("tests/fixtures/quickstart.csv"), root.join("README.md"));
    let text = fs::read_to_string(&readme).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (inside, after) = rest.split_once(END).unwrap();
    if writes {
        fs::write(&digests, &found).unwrap();
        fs::write(&readme, format!("{before}{BEGIN}\n\n{table}\n{END}{after}")).unwrap();
        return;
    }
    let hint = "the quickstart has changed: `make readme` runs it, and writes its table and the digests of its prompts";
    assert_eq!(found, fs::read_to_string(&digests).unwrap(), "{hint}");
    assert_eq!(inside.trim(), table.trim(), "{hint}");
    claims(&folder.path().join("quickstart/table.csv"));
}

/// Every trained prompt and the weights of CLIP, with the digest of its bytes, as CSV.
fn prompts(events: &str) -> String {
    let mut digests = BTreeMap::new();
    for event in events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        for output in ["prompt", "weights"] {
            if let Some(digest) = event["outputs"][output]["digest"].as_str() {
                digests.insert(event["node"].as_str().unwrap().to_owned(), digest.to_owned());
            }
        }
    }
    // CLIP, and three data sets x six methods x two seeds.
    assert_eq!(digests.len(), 1 + 3 * 6 * 2);
    let mut text = "node,blake3\n".to_owned();
    digests.iter().for_each(|(node, digest)| writeln!(text, "{node},{digest}").unwrap());
    text
}

fn claims(path: &Path) {
    let means = means(path);
    let mean = |method: &str, dataset: &str, metric: &str| means[&[method, dataset, metric].map(String::from)];
    for dataset in ["shapes", "textures", "arrangements"] {
        let zero_shot = mean("clip", dataset, "base");
        for metric in ["base", "novel"] {
            let accuracy = mean("clip", dataset, metric);
            assert!(accuracy > CHANCE + MARGIN, "{dataset} {metric}: zero-shot {accuracy}");
        }
        for method in ["coop", "cocoop", "vpt", "language", "ivlp", "maple"] {
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
