//! A pipeline whose evaluations look their numbers up, so that tables are known.

use crate::support::Project;

pub const PIPELINE: &str = "pipelines/numbers.toml";

/// Evaluations that look their numbers up; those of DTD with seed 2 are not there.
pub fn project() -> Project {
    let project = Project::new();
    let mut numbers = String::new();
    for (dataset, seed) in [("eurosat", 1), ("eurosat", 2), ("dtd", 1)] {
        for (method, base, novel) in [("coop", 90, 50), ("maple", 94, 72)] {
            for (classes, accuracy) in [("base", base + 2 * (seed - 1)), ("novel", novel + 2 * (seed - 1))] {
                let metrics = format!("{{\"classes\":\"{classes}\",\"accuracy\":{accuracy}}}");
                numbers += &format!("{dataset} {method} {seed} {classes} {metrics}\n");
            }
        }
    }
    project.write("pipelines/numbers.txt", &numbers);
    project.write(
        "pipelines/paper.csv",
        "method,dataset,metric,value\nMaPLe,EuroSAT,base,94.07\nMaPLe,EuroSAT,novel,73.23\nMaPLe,EuroSAT,hm,82.35\nCoOp,EuroSAT,base,92.19\n",
    );
    let text = r#"
[axes]
dataset = ["eurosat", "dtd"]
method = ["coop", "maple"]
seed = [1, 2]
classes = ["base", "novel"]

[stage.eval]
kind = "command"
axes = ["dataset", "method", "seed", "classes"]
inputs = { numbers = "numbers.txt" }
outputs = { metrics = "metrics.json" }
run = "grep '^{dataset} {method} {seed} {classes} ' inputs/numbers | cut -d' ' -f5 > metrics.json; test -s metrics.json"

[stage.table]
kind = "table"
evals = "@eval"
caption = "From base to novel classes."
labels = { eurosat = "EuroSAT", dtd = "DTD", coop = "CoOp", maple = "MaPLe" }
published = ["paper.csv"]
"#;
    project.write(PIPELINE, text);
    project
}

/// After a run in which some evaluations failed.
pub fn partial() -> Project {
    let project = project();
    let printed = project.run(&["run", PIPELINE, "--keep-going"]);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    project
}
