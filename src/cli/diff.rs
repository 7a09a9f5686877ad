//! `maple-pipe diff`: how two runs differ.

use std::collections::BTreeMap;

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
    /// List every number that changed, in place of a summary where there are many
    #[arg(long)]
    all: bool,
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
        print(&text(&difference, &before.id, &now.id, self.all))
    }
}

/// More changed metrics than these are summarized.
const MANY: usize = 12;

fn text(difference: &Difference, before: &str, now: &str, all: bool) -> String {
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
    let (cells, metrics): (Vec<&MetricChange>, Vec<&MetricChange>) =
        difference.metrics.iter().partition(|change| change.is_table);
    section("changed tables", with_title(TITLE, cells.into_iter().map(row)));
    if all || metrics.len() <= MANY {
        section("changed metrics", with_title(TITLE, metrics.into_iter().map(row)));
    } else {
        let title = format!("changed metrics: {} numbers (`--all` lists them)", metrics.len());
        section(
            &title,
            with_title(["metric", "nodes", "lowest change", "highest", "mean"], summary(&metrics).into_iter()),
        );
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

/// The columns of a list of changes.
const TITLE: [&str; 5] = ["node", "metric", "before", "now", "change"];

/// Rows in columns below a title; nothing without a row.
fn with_title(title: [&str; 5], rows: impl ExactSizeIterator<Item = Vec<String>>) -> String {
    if rows.len() == 0 {
        return String::new();
    }
    let title = title.map(str::to_owned).to_vec();
    columns(&std::iter::once(title).chain(rows).collect::<Vec<_>>())
}

/// One row a metric: of how many nodes it changed, and by how much.
fn summary(changes: &[&MetricChange]) -> Vec<Vec<String>> {
    let mut metrics: BTreeMap<&str, Vec<&MetricChange>> = BTreeMap::new();
    for change in changes {
        metrics.entry(&change.metric).or_default().push(change);
    }
    let row = |(metric, changes): (&str, Vec<&MetricChange>)| {
        let deltas: Vec<f64> = changes.iter().filter_map(|change| delta(change)).collect();
        let mean = deltas.iter().sum::<f64>() / deltas.len() as f64;
        let [lowest, highest] = [
            deltas.iter().copied().fold(f64::INFINITY, f64::min),
            deltas.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        let shown = |value: f64| if deltas.is_empty() { "-".to_owned() } else { signed(value) };
        let numbers = [lowest, highest, mean].map(shown);
        [metric.to_owned(), changes.len().to_string()].into_iter().chain(numbers).collect()
    };
    metrics.into_iter().map(row).collect()
}

fn delta(change: &MetricChange) -> Option<f64> {
    Some(change.now? - change.before?)
}

fn signed(value: f64) -> String {
    format!("{}{}", if value > 0.0 { "+" } else { "" }, tidy(value))
}

fn row(change: &MetricChange) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), tidy);
    let delta = delta(change).map(signed);
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
            is_table: false,
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
        assert_eq!(text(&difference, "A", "B", false), expected);
    }

    #[test]
    fn tables_come_first_and_many_metrics_are_summarized() {
        let change = |node: String, metric: &str, before: f64, now: f64, is_table| MetricChange {
            node,
            metric: metric.to_owned(),
            before: Some(before),
            now: Some(now),
            is_table,
        };
        let mut metrics = Vec::new();
        for seed in 1..=8 {
            metrics.push(change(format!("eval/seed{seed}"), "accuracy", 50.0, 50.0 + f64::from(seed), false));
            metrics.push(change(format!("eval/seed{seed}"), "correct", 20.0, 18.0, false));
        }
        metrics.push(change("table".to_owned(), "maple/eurosat/hm", 70.0, 71.5, true));
        let difference = Difference { metrics, ..Difference::default() };
        let expected = "\
changed tables
  node    metric             before   now    change
  table   maple/eurosat/hm   70       71.5   +1.5

changed metrics: 16 numbers (`--all` lists them)
  metric     nodes   lowest change   highest   mean
  accuracy   8       +1              +8        +4.5
  correct    8       -2              -2        -2
";
        assert_eq!(text(&difference, "A", "B", false), expected);
        let all = text(&difference, "A", "B", true);
        assert_eq!(all.lines().count(), 4 + 2 + 16, "{all}");
    }
}
