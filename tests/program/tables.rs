//! `table`: tables of what is there, in any form, and where a number comes from.

use std::fs;

use snapbox::str;

use crate::numbers::{PIPELINE, partial, project};
use crate::support::Project;

#[test]
fn a_partial_run_gives_a_partial_table() {
    partial().prints(
        &["table", PIPELINE],
        str![[r#"
<stdout>
From base to novel classes.

| Data set | Method |                  Base |                Novel |            HM |
|:---------|:-------|----------------------:|---------------------:|--------------:|
| EuroSAT  | CoOp   | 91.00 ± 1.00 (-1.19!) |         51.00 ± 1.00 |         65.37 |
|          | MaPLe  |  95.00 ± 1.00 (+0.93) | 73.00 ± 1.00 (-0.23) | 82.56 (+0.21) |
| DTD      | CoOp   |             90.00 [1] |            50.00 [1] |     64.29 [1] |
|          | MaPLe  |             94.00 [1] |            72.00 [1] |     81.54 [1] |
| Average  | CoOp   |             90.50 [2] |            50.50 [2] |     64.83 [2] |
|          | MaPLe  |             94.50 [2] |            72.50 [2] |     82.05 [2] |

[1] 1 of 2 seeds  
[2] some data sets with 1 of 2 seeds

In brackets the difference to the published number; `!`: more than 1.00.
<exit code 0>

"#]],
    );
    project().prints(
        &["table", PIPELINE],
        str![[r#"
<stdout>
From base to novel classes.

| Data set | Method |  Base | Novel |    HM |
|:---------|:-------|------:|------:|------:|
| EuroSAT  | CoOp   | - [1] | - [1] | - [1] |
|          | MaPLe  | - [1] | - [1] | - [1] |
| DTD      | CoOp   | - [1] | - [1] | - [1] |
|          | MaPLe  | - [1] | - [1] | - [1] |
| Average  | CoOp   | - [1] | - [1] | - [1] |
|          | MaPLe  | - [1] | - [1] | - [1] |

[1] missing
<exit code 0>

"#]],
    );
}

/// Base classes alone, novel ones alone, and both, but no method with both.
#[test]
fn a_table_of_whichever_classes_is_made() {
    let project = project();
    project.replace(PIPELINE, "dataset = [\"eurosat\", \"dtd\"]", "dataset = [\"eurosat\"]");
    for classes in ["base", "novel"] {
        let only = format!("axes.classes=[\"{classes}\"]");
        assert!(project.ran(&["run", PIPELINE, "--set", &only]).contains("table"));
        assert!(fs::read_to_string(project.artifact("table", "plot")).unwrap().contains("<circle"));
    }
    project.prints(
        &["table", PIPELINE, "--set", "axes.classes=[\"novel\"]"],
        str![[r#"
<stdout>
From base to novel classes.

| Data set | Method |                Novel |
|:---------|:-------|---------------------:|
| EuroSAT  | CoOp   |         51.00 ± 1.00 |
|          | MaPLe  | 73.00 ± 1.00 (-0.23) |

In brackets the difference to the published number; `!`: more than 1.00.
<exit code 0>

"#]],
    );
    project.replace(
        PIPELINE,
        "axes = [\"dataset\", \"method\", \"seed\", \"classes\"]",
        "axes = [\"dataset\", \"method\", \"seed\", \"classes\"]\nexclude = [{ method = \"coop\", classes = \"base\" }, \
         { method = \"maple\", classes = \"novel\" }]",
    );
    project.prints(
        &["run", PIPELINE, "-j", "1"],
        str![[r#"
<stdout>

From base to novel classes.

| Data set | Method |                 Base |        Novel |    HM |
|:---------|:-------|---------------------:|-------------:|------:|
| EuroSAT  | CoOp   |                    - | 51.00 ± 1.00 | - [1] |
|          | MaPLe  | 95.00 ± 1.00 (+0.93) |            - | - [1] |

[1] missing

In brackets the difference to the published number; `!`: more than 1.00.

<stderr>
        DONE [TIME] (5/5) table   4 evaluations
5 nodes: 1 ran, 4 cached, 0 failed in [TIME]
wrote results/numbers
<exit code 0>

"#]],
    );
    assert!(project.read("results/numbers/table.svg").contains("nothing to draw"));
}

#[test]
fn a_table_has_other_forms() {
    let project = partial();
    project.prints(&["table", PIPELINE, "--format", "csv"], str![[r#"
<stdout>
table,method,dataset,metric,mean,std,seeds,note,published,delta,nodes,made_by
table,coop,eurosat,base,91.0000,1.0000,2,,92.19,-1.1900,2485b5c6235b8dd3 a01c33048944837e,"[MAKER]"
table,coop,eurosat,novel,51.0000,1.0000,2,,,,2a03a75cc95a2830 5602ee654fe17fdd,"[MAKER]"
table,coop,eurosat,hm,65.3662,,2,,,,2485b5c6235b8dd3 2a03a75cc95a2830 a01c33048944837e 5602ee654fe17fdd,"[MAKER]"
table,maple,eurosat,base,95.0000,1.0000,2,,94.07,+0.9300,5841a410083dd7c3 719a88d45dea39b6,"[MAKER]"
table,maple,eurosat,novel,73.0000,1.0000,2,,73.23,-0.2300,c4fdb69a4a800722 8a08a4412803b705,"[MAKER]"
table,maple,eurosat,hm,82.5595,,2,,82.35,+0.2095,5841a410083dd7c3 c4fdb69a4a800722 719a88d45dea39b6 8a08a4412803b705,"[MAKER]"
table,coop,dtd,base,90.0000,,1,1 of 2 seeds,,,3d98e6b7a6d980c0,"[MAKER]"
table,coop,dtd,novel,50.0000,,1,1 of 2 seeds,,,96dd9cb68037c9ab,"[MAKER]"
table,coop,dtd,hm,64.2857,,1,1 of 2 seeds,,,3d98e6b7a6d980c0 96dd9cb68037c9ab,"[MAKER]"
table,maple,dtd,base,94.0000,,1,1 of 2 seeds,,,b31975ae7016c409,"[MAKER]"
table,maple,dtd,novel,72.0000,,1,1 of 2 seeds,,,a8d1c5020d67d8b6,"[MAKER]"
table,maple,dtd,hm,81.5422,,1,1 of 2 seeds,,,b31975ae7016c409 a8d1c5020d67d8b6,"[MAKER]"
table,coop,average,base,90.5000,,1,some data sets with 1 of 2 seeds,,,2485b5c6235b8dd3 a01c33048944837e 3d98e6b7a6d980c0,"[MAKER]"
table,coop,average,novel,50.5000,,1,some data sets with 1 of 2 seeds,,,2a03a75cc95a2830 5602ee654fe17fdd 96dd9cb68037c9ab,"[MAKER]"
table,coop,average,hm,64.8262,,1,some data sets with 1 of 2 seeds,,,2485b5c6235b8dd3 2a03a75cc95a2830 a01c33048944837e 5602ee654fe17fdd 3d98e6b7a6d980c0 96dd9cb68037c9ab,"[MAKER]"
table,maple,average,base,94.5000,,1,some data sets with 1 of 2 seeds,,,5841a410083dd7c3 719a88d45dea39b6 b31975ae7016c409,"[MAKER]"
table,maple,average,novel,72.5000,,1,some data sets with 1 of 2 seeds,,,c4fdb69a4a800722 8a08a4412803b705 a8d1c5020d67d8b6,"[MAKER]"
table,maple,average,hm,82.0509,,1,some data sets with 1 of 2 seeds,,,5841a410083dd7c3 c4fdb69a4a800722 719a88d45dea39b6 8a08a4412803b705 b31975ae7016c409 a8d1c5020d67d8b6,"[MAKER]"
<exit code 0>

"#]]);
    project.prints(&["table", PIPELINE, "--format", "latex", "--layout", "wide"], str![[r#"
<stdout>
% table; needs \usepackage{booktabs}
% From base to novel classes.
\begin{tabular}{l*{9}{c}}
\toprule
 & \multicolumn{3}{c}{EuroSAT} & \multicolumn{3}{c}{DTD} & \multicolumn{3}{c}{Average} \\
\cmidrule(lr){2-4}\cmidrule(lr){5-7}\cmidrule(lr){8-10}
Method & Base & Novel & HM & Base & Novel & HM & Base & Novel & HM \\
\midrule
CoOp & 91.00 & 51.00 & 65.37 & 90.00\textsuperscript{1} & 50.00\textsuperscript{1} & 64.29\textsuperscript{1} & 90.50\textsuperscript{2} & 50.50\textsuperscript{2} & 64.83\textsuperscript{2} \\
MaPLe & \textbf{95.00} & \textbf{73.00} & \textbf{82.56} & 94.00\textsuperscript{1} & 72.00\textsuperscript{1} & 81.54\textsuperscript{1} & 94.50\textsuperscript{2} & 72.50\textsuperscript{2} & 82.05\textsuperscript{2} \\
\bottomrule
\multicolumn{10}{l}{\footnotesize \textsuperscript{1} 1 of 2 seeds} \\
\multicolumn{10}{l}{\footnotesize \textsuperscript{2} some data sets with 1 of 2 seeds} \\
\end{tabular}
<exit code 0>

"#]]);
    project.prints(
        &["table", PIPELINE, "--std", "sample", "-o", "table.md"],
        str![[r#"
<stderr>
wrote table.md
<exit code 0>

"#]],
    );
    // Two seeds two points apart.
    assert!(project.read("table.md").contains("95.00 ± 1.41"), "{}", project.read("table.md"));
}

#[test]
fn a_number_is_traced_to_its_nodes() {
    let project = partial();
    project.prints(
        &["table", PIPELINE, "--trace", "maple", "eurosat", "novel"],
        str![[r#"
<stdout>
maple on eurosat, novel: 73.00 ± 1.00, published 73.23

nodes: key, start, time, device, result
eval/eurosat/maple/seed1/novel   c4fdb69a4a800722   [DATE]   [TIME]
eval/eurosat/maple/seed2/novel   8a08a4412803b705   [DATE]   [TIME]

artifacts
eval/eurosat/maple/seed1/novel   metrics   df36c3a4332dbaad
eval/eurosat/maple/seed2/novel   metrics   a62177fe0bd41b1f

inputs from outside
eval/eurosat/maple/seed1/novel   numbers   d272545a4045b86d   pipelines/numbers.txt
eval/eurosat/maple/seed2/novel   numbers   d272545a4045b86d   pipelines/numbers.txt

made by
[MAKER]   eval/eurosat/maple/seed1/novel, eval/eurosat/maple/seed2/novel
<exit code 0>

"#]],
    );
    project.prints(
        &["table", PIPELINE, "--trace", "maple", "eurosta", "novel"],
        str![[r#"
<stderr>
error: no table has the data set `eurosta`
hint: did you mean `eurosat`?
<exit code 2>

"#]],
    );
    let trace = project.json(&["table", PIPELINE, "--trace", "coop", "average", "hm", "--json"]);
    let nodes: Vec<&str> =
        trace["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert_eq!(nodes.len(), 6, "{nodes:?}");
    // What the table names are the keys of the records.
    let csv = project.run(&["table", PIPELINE, "--format", "csv"]).stdout;
    let key = trace["nodes"][0]["key"].as_str().unwrap();
    assert!(csv.contains(&key[..16]) && project.record_file(key).exists(), "{csv}");
}

#[test]
fn a_trace_goes_back_to_weights_and_samples() {
    let project = Project::after_a_run();
    let trace = project.json(&["table", crate::support::PIPELINE, "--trace", "maple", "shapes", "base", "--json"]);
    let nodes: Vec<&str> =
        trace["nodes"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    for expected in
        ["data/shapes", "shots/shapes/seed1", "clip", "train/shapes/maple/seed2", "eval/shapes/maple/seed1/base"]
    {
        assert!(nodes.contains(&expected), "{nodes:?}");
    }
    assert!(!nodes.iter().any(|node| node.contains("coop") || node.contains("novel")), "{nodes:?}");
}

#[test]
fn a_new_key_with_the_same_numbers_renews_the_table() {
    let project = project();
    project.replace(PIPELINE, "seed = [1, 2]", "seed = [1]");
    project.ran(&["run", PIPELINE]);
    let before = project.read("results/numbers/table.csv");
    project.replace(PIPELINE, "cut -d' ' -f5 >", "cut -d' ' -f 5 >");
    assert!(project.ran(&["run", PIPELINE]).contains("table"));
    let now = project.read("results/numbers/table.csv");
    let without_keys =
        |text: &str| text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect::<Vec<_>>();
    assert_eq!(without_keys(&now), without_keys(&before));
    assert_ne!(now, before);
}

#[test]
fn mistakes_in_published_numbers_are_shown() {
    let project = project();
    project.write("pipelines/paper.csv", "method,dataset,metric,value\nMaPLe,EuroSAT,base,94.07\nMaPLe,DTD,f1,3\n");
    project.prints(
        &["table", PIPELINE],
        str![[r#"
<stderr>
error: `pipelines/paper.csv` is not a valid table of published numbers: line 3: unknown metric `f1`
<exit code 2>

"#]],
    );
    project.replace(PIPELINE, "[\"paper.csv\"]", "[\"papers.csv\"]");
    project.prints(
        &["table", PIPELINE],
        str![[r#"
<stderr>
error: there is no file or folder `pipelines/papers.csv`
  --> pipelines/numbers.toml:20:14
   |
20 | published = ["papers.csv"]
   |              ^^^^^^^^^^^^
   |
   = hint: did you mean `pipelines/paper.csv`?
<exit code 2>

"#]],
    );
}

/// The words that a table prints name a number as well.
#[test]
fn a_number_is_traced_by_what_the_table_prints() {
    let project = Project::after_a_run();
    let labels = "labels = { maple = \"MaPLe\", shapes = \"Drawn shapes\" }\ncaption = ";
    project.replace(crate::support::PIPELINE, "caption = ", labels);
    let pipeline = crate::support::PIPELINE;
    let trace = |[method, dataset, metric]: [&str; 3]| {
        project.json(&["table", pipeline, "--json", "--trace", method, dataset, metric])
    };
    let named = trace(["maple", "shapes", "hm"]);
    assert_eq!(trace(["MaPLe", "Drawn shapes", "HM"]), named);
    assert_eq!(trace(["MaPLe", "shapes", "HM"]), named);
    let printed = project.run(&["table", pipeline, "--trace", "MaPLE", "shapes", "HM"]);
    assert!(printed.stderr.contains("hint: did you mean `MaPLe`?"), "{}", printed.stderr);
}

/// Papers print no deviations, so LaTeX shows them where they are asked for.
#[test]
fn latex_shows_deviations_that_are_asked_for() {
    let project = Project::after_a_run();
    let latex =
        |more: &[&str]| project.run(&[&["table", crate::support::PIPELINE, "--format", "latex"], more].concat()).stdout;
    assert!(!latex(&[]).contains("pm"));
    assert!(latex(&["--std", "population"]).contains(r" $\pm$ "), "{}", latex(&["--std", "population"]));
}

/// Python writes an accuracy that is no number as `NaN`, which is no JSON.
#[test]
fn an_evaluation_that_is_no_number_is_named_and_the_others_are_shown() {
    let project = Project::new();
    let text = r#"
[axes]
dataset = ["d"]
method = ["x", "y"]
seed = [1, 2]

[stage.e]
kind = "command"
axes = ["dataset", "method", "seed"]
run = """
if [ {method}{seed} = y2 ]; then A=NaN; else A=5{seed}; fi
echo "{{\"accuracy\": $A, \"classes\": \"all\"}}" > m.json
"""
outputs = { m = "m.json" }

[stage.t]
kind = "table"
evals = "@e"
caption = "c"
"#;
    project.write(crate::support::PIPELINE, &text.replace("\\\"", "\\\\\\\""));
    project.run(&["run", crate::support::PIPELINE, "-j", "1"]).is(str![[r#"
<stderr>
        DONE [TIME] (1/5) e/d/x/seed1
        DONE [TIME] (2/5) e/d/x/seed2
        DONE [TIME] (3/5) e/d/y/seed1
        DONE [TIME] (4/5) e/d/y/seed2
      FAILED [TIME] (5/5) t
error: `e/d/y/seed2:m` holds no accuracy: expected value at line 1 column 14
hint: it is JSON such as `{"accuracy": 81.4, "classes": "all"}`, in percent; `NaN` is no JSON
5 nodes: 4 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
    project.prints(
        &["table", crate::support::PIPELINE],
        str![[r#"
<stdout>
c

| Data set | Method |     Accuracy |
|:---------|:-------|-------------:|
| d        | x      | 51.50 ± 0.50 |
|          | y      |    51.00 [1] |

[1] 1 of 2 seeds
<stderr>
counts as missing: `e/d/y/seed2:m` holds no accuracy: expected value at line 1 column 14
<exit code 0>

"#]],
    );
    project.prints(
        &["report", crate::support::PIPELINE, "-o", "r.html"],
        str![[r#"
<stderr>
counts as missing: `e/d/y/seed2:m` holds no accuracy: expected value at line 1 column 14
wrote r.html
<exit code 0>

"#]],
    );
    assert!(project.read("r.html").contains("1 of 2 seeds"));
    for accuracy in ["Infinity", "", "null", "true", "150", "-1"] {
        project.write(
            crate::support::PIPELINE,
            &text.replace("\\\"", "\\\\\\\"").replace("A=NaN", &format!("A={accuracy}")),
        );
        let printed = project.run(&["run", crate::support::PIPELINE]);
        assert!(
            printed.stderr.contains("error: `e/d/y/seed2:m` holds no accuracy: "),
            "{accuracy}: {}",
            printed.stderr
        );
        let printed = project.run(&["table", crate::support::PIPELINE]);
        assert_eq!(printed.code, Some(0), "{accuracy}: {}", printed.stderr);
        assert!(printed.stderr.starts_with("counts as missing: `e/d/y/seed2:m`"), "{accuracy}: {}", printed.stderr);
    }
}

/// A row for every evaluation and metric, for programs that reckon themselves.
#[test]
fn what_was_measured_is_listed() {
    let project = Project::after_a_run();
    let long = ["table", crate::support::PIPELINE, "--format", "csv", "--long", "-o", "long.csv"];
    assert_eq!(project.run(&long).code, Some(0));
    let mut reader = csv::Reader::from_path(project.file("long.csv")).unwrap();
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let expected =
        ["table", "dataset", "method", "seed", "shots", "classes", "metric", "value", "node", "key", "made_by"];
    assert_eq!(header, expected);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // Zero-shot CLIP, and two methods with two seeds, on base and on novel classes.
    assert_eq!(rows.len(), 2 * 2 * (1 + 2 * 2));
    for row in &rows {
        let value: f64 = row[7].parse().unwrap();
        assert!((0.0..=100.0).contains(&value) && row[9].len() == 64 && row[10].contains("libtorch"), "{row:?}");
        assert_eq!(row[3].is_empty(), &row[2] == "clip", "{row:?}");
        assert!(row[8].ends_with(&row[5]) && ["accuracy", "macro_f1"].contains(&&row[6]), "{row:?}");
    }
    let refused = project.run(&["table", crate::support::PIPELINE, "--long"]);
    assert_eq!(
        (refused.code, refused.stderr.as_str()),
        (Some(2), "error: `--long` is a form of CSV\nhint: add `--format csv`\n")
    );
}
