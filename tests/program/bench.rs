//! `maple-pipe bench`.

use serde_json::Value;

use crate::support::Project;

#[test]
fn the_dag_is_measured() {
    let project = Project::new();
    let printed = project.run(&["bench", "dag", "--nodes", "1", "--files", "30", "--runs", "1", "--json"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let report: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!((&report["nodes"], &report["nodes_of_a_seed"]), (&254.into(), &243.into()));
    let rows = report["rows"].as_array().unwrap();
    let first = rows.iter().find(|row| row["what"] == "first run").unwrap();
    let back = rows.iter().find(|row| row["what"] == "the parameter set back").unwrap();
    assert!(first["maple_pipe"].as_f64().unwrap() > 0.0 && back["maple_pipe"].as_f64().unwrap() > 0.0);
    assert!(report["peak_memory"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn images_are_measured() {
    let project = Project::new();
    let folder = ["bench", "images", "data/shapes/images", "--size", "32", "--threads", "1", "--runs", "1"];
    let report = project.json(&[&folder[..], &["--busy", "0", "--python", "nowhere", "--json"]].concat());
    assert_eq!((&report["images"], &report["rows"][0]["pillow"]), (&32.into(), &Value::Null));
    for rate in ["decoded", "from_files", "from_prepared"] {
        assert!(report["rows"][0][rate].as_f64().unwrap() > 0.0, "{report}");
    }
    for share in ["waits_for_prepared", "waits_for_files"] {
        assert!((0.0..=1.0).contains(&report[share].as_f64().unwrap()), "{report}");
    }
}
