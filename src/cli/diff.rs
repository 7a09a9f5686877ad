//! `maple-pipe diff`: how two runs differ.

use clap::Args;
use serde_json::json;

use super::project::StoreArguments;
use super::terminal::{print, print_json, say, say_waiting};
use crate::error::Result;
use crate::run::{Difference, MetricChange, ParameterChange};
use crate::text::columns;
use crate::text::nodes;

/// Show how two runs differ: changed parameters and inputs, and changed metrics side by side
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// The earlier run: `last~1`, or the start of an identifier that `maple-pipe runs` lists
    before: String,
    /// The later run
    #[arg(default_value = "last")]
    now: String,
    #[command(flatten)]
    store: StoreArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(super) fn run(self) -> Result<()> {
        let store = self.store.open()?;
        let _held = store.share_if_there(say_waiting)?;
        let (before, now) = (store.find_run(&self.before)?, store.find_run(&self.now)?);
        let difference = Difference::new(&store, &before, &now)?;
        if self.json {
            let mut value = json!(difference);
            value["before"] = json!(before.id);
            value["now"] = json!(now.id);
            return print_json(&value);
        }
        if difference.is_empty() {
            say(&format!("`{}` and `{}` have the same results", before.id, now.id));
        }
        print(&text(&difference, &before.id, &now.id))
    }
}

fn text(difference: &Difference, before: &str, now: &str) -> String {
    let mut sections = Vec::new();
    let mut section = |title: &str, lines: String| {
        if !lines.is_empty() {
            let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
            sections.push(format!("{title}\n{lines}"));
        }
    };
    let value = |text: &Option<String>| text.clone().unwrap_or("nothing".to_owned());
    let changes = |changes: &[ParameterChange]| {
        let row = |change: &ParameterChange| {
            let what = format!("{}: {} -> {}", change.path, value(&change.before), value(&change.now));
            vec![what, affected(&change.nodes)]
        };
        columns(&changes.iter().map(row).collect::<Vec<_>>())
    };
    section("changed parameters", changes(&difference.parameters));
    section("computed otherwise", changes(&difference.made_by));
    let inputs = difference.inputs.iter().map(|(input, nodes)| vec![input.clone(), affected(nodes)]);
    section("changed inputs", columns(&inputs.collect::<Vec<_>>()));
    section(&format!("only in {before}"), difference.only_before.join("\n"));
    section(&format!("only in {now}"), difference.only_now.join("\n"));
    section("no longer in the store, so not compared", difference.missing.join("\n"));
    if !difference.metrics.is_empty() {
        let title = ["node", "metric", "before", "now", "change"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(title).chain(difference.metrics.iter().map(row)).collect();
        section("changed metrics", columns(&rows));
    }
    sections.join("\n")
}

/// `243 nodes, e.g. train/eurosat/maple/seed1`
fn affected(names: &[String]) -> String {
    match names {
        [name] => name.clone(),
        _ => format!("{}, e.g. {}", nodes(names.len()), names[0]),
    }
}

fn row(change: &MetricChange) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), tidy);
    let delta = change.before.zip(change.now).map(|(before, now)| {
        let delta = now - before;
        format!("{}{}", if delta > 0.0 { "+" } else { "" }, tidy(delta))
    });
    vec![
        change.node.clone(),
        change.metric.clone(),
        number(change.before),
        number(change.now),
        delta.unwrap_or_default(),
    ]
}

/// A number with at most four decimals.
fn tidy(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // What vanishes in the rounding is still a difference.
    if value != 0.0 && matches!(text, "0" | "-0") { format!("{value:.1e}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ParameterChange;

    #[test]
    fn equal_changes_are_one_line_and_numbers_stand_side_by_side() {
        let nodes = |count: usize| (0..count).map(|seed| format!("train/seed{seed}")).collect();
        let metric = |metric: &str, before: Option<f64>, now: Option<f64>| MetricChange {
            node: "eval".to_owned(),
            metric: metric.to_owned(),
            before,
            now,
        };
        let difference = Difference {
            parameters: vec![ParameterChange {
                path: "parameters.shots".to_owned(),
                before: Some("16".to_owned()),
                now: None,
                nodes: nodes(243),
            }],
            inputs: [("shots.train".to_owned(), nodes(1))].into(),
            only_now: nodes(2),
            missing: nodes(1),
            metrics: vec![
                metric("accuracy", Some(50.0), Some(58.0 + 1.0 / 3.0)),
                metric("loss", Some(1.0), Some(1.0 - 1e-7)),
                metric("new", None, Some(-0.5)),
            ],
            ..Difference::default()
        };
        let expected = "\
changed parameters
  parameters.shots: 16 -> nothing   243 nodes, e.g. train/seed0

changed inputs
  shots.train   train/seed0

only in B
  train/seed0
  train/seed1

no longer in the store, so not compared
  train/seed0

changed metrics
  node   metric     before   now       change
  eval   accuracy   50       58.3333   +8.3333
  eval   loss       1        1         -1.0e-7
  eval   new        -        -0.5
";
        assert_eq!(text(&difference, "A", "B"), expected);
    }
}
