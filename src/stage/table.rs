//! `table`: collects evaluations into CSV, LaTeX and Markdown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Kind, Output, PathPort, Port, Takes, Task, TaskInput, output, read_json};
use crate::data::Classes;
use crate::error::{Error, Result};
use crate::pipeline::AxisValue;
use crate::table::{Order, Score, Table};

pub(super) const VERSION: u32 = 1;
pub(super) static OUTPUTS: [Output; 3] =
    [output("csv", "table.csv"), output("latex", "table.tex"), output("markdown", "table.md")];

/// Parameters of a `table` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableStage {
    /// What the table is called in its CSV.
    #[serde(default = "table")]
    pub name: String,
    /// One sentence on what the table shows.
    pub caption: String,
    /// How data sets and methods are called in print, by their axis value.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn table() -> String {
    "table".to_owned()
}

pub(super) fn ports() -> Vec<Port> {
    vec![Port {
        name: "evals".into(),
        from: Takes::Outputs(Kind::Eval, vec!["metrics"]),
        many: true,
        axes: Some((&["dataset", "method"], &["dataset", "method", "seed", "classes"])),
        location: false,
        path: PathPort::Refused,
    }]
}

/// What a table reads of an evaluation's metrics; a command's may hold nothing else.
#[derive(Deserialize)]
struct Accuracy {
    classes: Classes,
    accuracy: f64,
}

impl TableStage {
    pub(super) fn run(&self, task: &Task) -> Result<String> {
        let mut order = Order { labels: self.labels.clone(), ..Order::default() };
        let mut scores = Vec::new();
        for input in task.all("evals.metrics") {
            let metrics: Accuracy = read_json(&input.path)?;
            let score = Score {
                dataset: axis(input, "dataset")?,
                method: axis(input, "method")?,
                seed: match input.coordinates.get("seed") {
                    Some(AxisValue::Integer(seed)) => Some(*seed),
                    Some(AxisValue::Text(seed)) => {
                        return Err(Error::hinted(
                            format!("the seed `{seed}` is no integer"),
                            "write it without quotes",
                        ));
                    }
                    None => None,
                },
                classes: metrics.classes,
                accuracy: metrics.accuracy,
            };
            add(&mut order.datasets, &score.dataset);
            add(&mut order.methods, &score.method);
            if let Some(seed) = score.seed {
                add(&mut order.seeds, &seed);
            }
            scores.push(score);
        }
        let table = Table::new(&self.name, &self.caption, &scores, &order)?;
        for (name, text) in [("csv", table.csv()), ("latex", table.latex()), ("markdown", table.markdown())] {
            let path = task.output(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(format!("{} evaluations", scores.len()))
    }
}

fn axis(input: &TaskInput, name: &str) -> Result<String> {
    let value = input.coordinates.get(name).map(ToString::to_string);
    value.ok_or_else(|| Error::invalid(format!("an evaluation has no axis `{name}`")))
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, value: &T) {
    if !list.contains(value) {
        list.push(value.clone());
    }
}
