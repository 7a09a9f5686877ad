//! What `graph` draws.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};
use snapbox::str;

use crate::support::{PIPELINE, Project};

/// The picture that the program draws; it must draw the same one twice.
#[track_caller]
fn drawn(project: &Project, arguments: &[&str]) -> String {
    let arguments = [&["graph", PIPELINE], arguments].concat();
    let printed = project.run(&arguments);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    assert_eq!(project.run(&arguments).stdout, printed.stdout);
    printed.stdout
}

#[test]
fn few_nodes_are_drawn_one_by_one() {
    let project = Project::new();
    project.ran(&["run", PIPELINE, "--only", "data/*"]);
    let only = ["graph", PIPELINE, "--only", "eval/shapes/coop/seed1/novel"];
    project.prints(&[&only[..], &["--format", "dot"]].concat(), str![[r##"
<stdout>
digraph "tiny" {
  rankdir=LR;
  node [fontname="sans-serif", shape=box, style="rounded,filled", fillcolor=white];
  edge [color="#667788"];
  subgraph "cluster_data" {
    label="data";
    "data/shapes" [label="data/shapes\nup to date", fillcolor="#8fd3b6", tooltip="up to date"];
  }
  subgraph "cluster_shots" {
    label="shots";
    "shots/shapes/seed1" [label="shots/shapes/seed1\nstale", fillcolor="#f0a030", tooltip="never run"];
  }
  subgraph "cluster_captioned" {
    label="captioned";
    "captioned" [label="captioned\nstale", fillcolor="#f0a030", tooltip="never run"];
  }
  subgraph "cluster_clip" {
    label="clip";
    "clip" [label="clip\nwaiting", fillcolor="#ffffff", tooltip="waits for captioned"];
  }
  subgraph "cluster_train" {
    label="train";
    "train/shapes/coop/seed1" [label="train/shapes/coop/seed1\nwaiting", fillcolor="#ffffff", tooltip="waits for shots/shapes/seed1 and 1 more"];
  }
  subgraph "cluster_eval" {
    label="eval";
    "eval/shapes/coop/seed1/novel" [label="eval/shapes/coop/seed1/novel\nwaiting", fillcolor="#ffffff", tooltip="waits for shots/shapes/seed1 and 1 more"];
  }
  "data/shapes" -> "shots/shapes/seed1";
  "captioned" -> "clip";
  "shots/shapes/seed1" -> "train/shapes/coop/seed1";
  "clip" -> "train/shapes/coop/seed1";
  "train/shapes/coop/seed1" -> "eval/shapes/coop/seed1/novel";
}
<exit code 0>

"##]]);
    project.prints(
        &[&only[..], &["--format", "mermaid"]].concat(),
        str![[r#"
<stdout>
flowchart LR
  subgraph stage0 ["data"]
  box0["<b>data/shapes</b><br/>dataset<br/>up to date"]:::fresh
  end
  subgraph stage1 ["shots"]
  box1["<b>shots/shapes/seed1</b><br/>fewshot<br/>stale"]:::stale
  end
  subgraph stage2 ["captioned"]
  box2["<b>captioned</b><br/>world<br/>stale"]:::stale
  end
  subgraph stage3 ["clip"]
  box3["<b>clip</b><br/>pretrain<br/>waiting"]:::waiting
  end
  subgraph stage4 ["train"]
  box4["<b>train/shapes/coop/seed1</b><br/>train<br/>waiting"]:::waiting
  end
  subgraph stage5 ["eval"]
  box5["<b>eval/shapes/coop/seed1/novel</b><br/>eval<br/>waiting"]:::waiting
  end
  box0 --> box1
  box2 --> box3
  box1 --> box4
  box3 --> box4
  box4 --> box5
  classDef fresh fill:#d8f0e5,stroke:#2e8b67,color:#1b2733
  classDef stale fill:#fbe0b5,stroke:#b36b00,color:#1b2733
  classDef waiting fill:#ffffff,stroke:#8895a3,color:#1b2733
  classDef blocked fill:#d0d0d0,stroke:#8895a3,color:#1b2733
<exit code 0>

"#]],
    );
}

#[test]
fn stages_have_a_cell_for_each_node() {
    let project = Project::after_a_run();
    let stages = ["graph", PIPELINE, "--by", "stage", "--set", "stage.shots.shots=1"];
    project.prints(
        &[&stages[..], &["--format", "mermaid"]].concat(),
        str![[r#"
<stdout>
flowchart LR
  box0["<b>data</b><br/>dataset: dataset<br/>up to date"]:::fresh
  box1["<b>shots</b><br/>fewshot: dataset × seed<br/>2 nodes: 2 stale"]:::stale
  box2["<b>captioned</b><br/>world<br/>up to date"]:::fresh
  box3["<b>clip</b><br/>pretrain<br/>up to date"]:::fresh
  box4["<b>zeroshot</b><br/>eval: dataset × method × classes<br/>2 nodes: 2 up to date"]:::fresh
  box5["<b>train</b><br/>train: dataset × method × seed<br/>4 nodes: 4 waiting"]:::waiting
  box6["<b>eval</b><br/>eval: dataset × method × seed × classes<br/>8 nodes: 8 waiting"]:::waiting
  box7["<b>table</b><br/>table<br/>waiting"]:::waiting
  box0 --> box1
  box2 --> box3
  box0 --> box4
  box3 --> box4
  box1 --> box5
  box3 --> box5
  box5 --> box6
  box4 --> box7
  box6 --> box7
  classDef fresh fill:#d8f0e5,stroke:#2e8b67,color:#1b2733
  classDef stale fill:#fbe0b5,stroke:#b36b00,color:#1b2733
  classDef waiting fill:#ffffff,stroke:#8895a3,color:#1b2733
  classDef blocked fill:#d0d0d0,stroke:#8895a3,color:#1b2733
<exit code 0>

"#]],
    );
    let dot = drawn(&project, &["--by", "stage", "--format", "dot", "--set", "stage.shots.shots=1"]);
    assert_eq!(dot.matches("bgcolor=").count(), 20);
    let cell = "bgcolor=\"#f0a030\" tooltip=\"shots/shapes/seed1: changed: parameters.shots 2 -&gt; 1\"";
    assert!(dot.contains(cell), "{dot}");
}

#[test]
fn an_svg_names_every_node_and_its_state() {
    let project = Project::after_a_run();
    let nodes = Regex::new(r#"<rect class="(\w+)"[^>]*/>[^/]*(?:<circle[^>]*/>)?\s*<title>\s*([\w/]+): "#).unwrap();
    for by in ["stage", "node"] {
        let svg = drawn(&project, &["--by", by, "--set", "stage.shots.shots=1"]);
        let states: BTreeMap<&str, &str> = nodes
            .captures_iter(&svg)
            .map(|cell| (cell.get(2).unwrap().as_str(), cell.get(1).unwrap().as_str()))
            .collect();
        assert_eq!(states.len(), 20, "{svg}");
        let of = |name: &str| states[name];
        let expected = ("fresh", "stale", "waiting");
        assert_eq!((of("data/shapes"), of("shots/shapes/seed1"), of("table")), expected);
        for words in ["up to date (5)", "stale (2)", "waiting (13)"] {
            assert!(svg.contains(words), "{words} in\n{svg}");
        }
    }
}

#[test]
fn boxes_do_not_overlap_and_arrows_run_beside_them() {
    let project = Project::new();
    let frames = Regex::new(r#"<g transform="translate\(([-\d.]+) ([-\d.]+)\)">\s*<rect class="box" height="([\d.]+)" rx="6" width="([\d.]+)"/>"#).unwrap();
    let paths = Regex::new(r#"<path class="arrow" d="([^"]*)""#).unwrap();
    let points = Regex::new(r"([-\d.]+) ([-\d.]+)H([-\d.]+)").unwrap();
    for by in ["stage", "node"] {
        let svg = drawn(&project, &["--by", by]);
        let number = |text: &str| text.parse::<f64>().unwrap();
        let boxes: Vec<[f64; 4]> = frames
            .captures_iter(&svg)
            .map(|frame| {
                let [left, top, height, width] = [1, 2, 3, 4].map(|group| number(&frame[group]));
                [left, top, left + width, top + height]
            })
            .collect();
        assert_eq!(boxes.len(), if by == "stage" { 8 } else { 20 });
        for (place, one) in boxes.iter().enumerate() {
            for other in &boxes[..place] {
                let apart = one[2] <= other[0] || other[2] <= one[0] || one[3] <= other[1] || other[3] <= one[1];
                assert!(apart, "{one:?} {other:?}");
            }
        }
        // No straight part of an arrow runs through a box.
        let mut parts = 0;
        for path in paths.captures_iter(&svg) {
            for part in points.captures_iter(&path[1]) {
                let [from, height, to] = [1, 2, 3].map(|group| number(&part[group]));
                let within = |one: &&[f64; 4]| {
                    height > one[1] && height < one[3] && from.max(one[0] + 0.1) < to.min(one[2] - 0.1)
                };
                assert_eq!(boxes.iter().find(within), None, "{}", &path[1]);
                parts += 1;
            }
        }
        assert!(parts > boxes.len(), "{svg}");
    }
}

#[test]
fn a_graph_is_data_too() {
    let project = Project::new();
    let arguments = ["--only", "shots/*", "--json"];
    let graph: Value = serde_json::from_str(&drawn(&project, &arguments)).unwrap();
    let node = |name: &str, stage: &str, rest: Value| {
        let mut node = json!({"node": name, "stage": stage});
        node.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        node
    };
    let shots = |seed: i64| {
        let rest = json!({
            "state": "waiting", "reason": "upstream_stale", "causes": ["data/shapes"], "needs": ["data/shapes"],
            "coordinates": {"dataset": "shapes", "seed": seed}
        });
        node(&format!("shots/shapes/seed{seed}"), "shots", rest)
    };
    let data = json!({"state": "stale", "reason": "never_run", "needs": [], "coordinates": {"dataset": "shapes"}});
    let expected = json!({
        "pipeline": "tiny",
        "counts": {"nodes": 3, "fresh": 0, "stale": 1, "waiting": 2, "blocked": 0},
        "stages": [
            {
                "stage": "data", "kind": "dataset", "axes": ["dataset"], "needs": [],
                "counts": {"nodes": 1, "fresh": 0, "stale": 1, "waiting": 0, "blocked": 0}
            },
            {
                "stage": "shots", "kind": "fewshot", "axes": ["dataset", "seed"], "needs": ["data"],
                "counts": {"nodes": 2, "fresh": 0, "stale": 0, "waiting": 2, "blocked": 0}
            }
        ],
        "nodes": [node("data/shapes", "data", data), shots(1), shots(2)]
    });
    assert_eq!(graph, expected);
    assert_eq!(drawn(&project, &["--only", "shots/*", "--format", "json"]), drawn(&project, &arguments));
}

#[test]
fn a_picture_that_nobody_could_read_is_refused() {
    let project = Project::new();
    let seeds = format!("axes.seed=[{}]", (1..=20).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", "));
    project.prints(
        &["graph", PIPELINE, "--by", "node", "--set", &seeds],
        str![[r#"
<stderr>
error: a picture of 146 boxes cannot be read
hint: `--by stage` draws one box a stage, `--only GLOB` selects nodes
<exit code 2>

"#]],
    );
    let svg = drawn(&project, &["--set", &seeds]);
    assert_eq!(svg.matches("class=\"box\"").count(), 8);
}
