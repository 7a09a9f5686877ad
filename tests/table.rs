//! The published numbers by data set aggregate to the published averages.

use std::collections::BTreeSet;
use std::path::Path;

use maple_pipe::data::Classes;
use maple_pipe::table::{Metric, Order, Score, Table};

/// A row of a file under `results/published/`.
struct Published {
    method: String,
    dataset: String,
    metric: String,
    value: f64,
}

fn read(file: &str) -> Vec<Published> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/published").join(file);
    let row = |record: csv::StringRecord| {
        let text = |column: usize| record[column].to_owned();
        Published { method: text(1), dataset: text(2), metric: text(3), value: record[4].parse().unwrap() }
    };
    csv::Reader::from_path(path).unwrap().records().map(|record| row(record.unwrap())).collect()
}

fn metric(name: &str) -> Metric {
    match name {
        "base" => Metric::Base,
        "novel" => Metric::Novel,
        "hm" => Metric::HarmonicMean,
        _ => match name.strip_prefix("acc_").and_then(|rest| rest.strip_suffix("shot")) {
            Some(shots) => Metric::Shots(shots.parse().unwrap()),
            None => Metric::Accuracy,
        },
    }
}

/// The score that a row gives; none for averages and harmonic means.
fn score(row: &Published) -> Option<Score> {
    let (classes, shots) = match metric(&row.metric) {
        Metric::Base => (Classes::Base, None),
        Metric::Novel => (Classes::Novel, None),
        Metric::Accuracy => (Classes::All, None),
        Metric::Shots(shots) => (Classes::All, Some(shots)),
        Metric::HarmonicMean => return None,
    };
    let (dataset, method) = (row.dataset.clone(), row.method.clone());
    let accuracy = Some(row.value);
    (dataset != "Average").then_some(Score { dataset, method, seed: None, shots, classes, accuracy, key: None })
}

/// Aggregates a file's accuracies by data set, with `source` left out of the average.
fn aggregate(rows: &[Published], source: Option<&str>) -> Table {
    let scores: Vec<_> = rows.iter().filter_map(score).collect();
    let distinct = |name: fn(&Score) -> &String| {
        let names: BTreeSet<_> = scores.iter().map(name).collect();
        names.into_iter().cloned().collect()
    };
    let order = Order {
        datasets: distinct(|score| &score.dataset),
        methods: distinct(|score| &score.method),
        outside_average: source.map(str::to_owned).into_iter().collect(),
        ..Order::default()
    };
    Table::new("published", "", &scores, &order).unwrap()
}

/// The table's value where a published row stands.
fn value(table: &Table, row: &Published) -> f64 {
    let group = table.groups.iter().find(|group| group.label.text == row.dataset).unwrap();
    let method = table.methods.iter().position(|label| label.name == row.method).unwrap();
    let column = table.metrics.iter().position(|&known| known == metric(&row.metric)).unwrap();
    let cell = group.rows[method][column].as_ref().unwrap();
    assert_eq!(cell.note(), None);
    cell.mean.unwrap()
}

fn assert_reproduced(file: &str, source: Option<&str>, rows: usize, averages: usize) {
    let mut published = read(file);
    // Of some methods papers print the average alone.
    let by_dataset: BTreeSet<(String, String)> = published
        .iter()
        .filter(|row| row.dataset != "Average")
        .map(|row| (row.method.clone(), row.metric.clone()))
        .collect();
    published.retain(|row| by_dataset.contains(&(row.method.clone(), row.metric.clone())));
    assert_eq!(published.len(), rows, "rows of {file}");
    assert_eq!(published.iter().filter(|row| row.dataset == "Average").count(), averages, "averages in {file}");
    let table = aggregate(&published, source);
    for row in &published {
        let ours = value(&table, row);
        let Published { method, dataset, metric, value } = row;
        assert!((ours - value).abs() < 0.01, "{file}, {method}, {dataset}, {metric}: {ours} is not {value}");
    }
}

#[test]
fn base_to_novel_averages_come_back() {
    assert_reproduced("base2novel.csv", None, 288, 24);
}

#[test]
fn cross_dataset_averages_come_back() {
    assert_reproduced("cross_dataset.csv", Some("ImageNet"), 60, 5);
}

#[test]
fn domain_generalization_averages_come_back() {
    assert_reproduced("domain_generalization.csv", Some("ImageNet"), 34, 5);
}

#[test]
fn few_shot_averages_come_back() {
    assert_reproduced("fewshot.csv", None, 132, 11);
}

/// A few-shot table of these data sets, of which all accuracies at 16 shots are 80, beside the published numbers.
fn few_shot(datasets: &BTreeSet<String>) -> Table {
    let score = |dataset: &String| Score {
        dataset: dataset.clone(),
        method: "MaPLe".to_owned(),
        seed: Some(1),
        shots: Some(16),
        classes: Classes::All,
        accuracy: Some(80.0),
        key: None,
    };
    let scores: Vec<Score> = datasets.iter().map(score).collect();
    let mut published = maple_pipe::table::PublishedNumbers::default();
    published.add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("results/published/fewshot.csv")).unwrap();
    let (datasets, methods) = (datasets.iter().cloned().collect(), vec!["MaPLe".to_owned()]);
    Table::new("fewshot", "", &scores, &Order { datasets, methods, published, ..Order::default() }).unwrap()
}

#[test]
fn an_average_is_compared_over_the_same_data_sets_alone() {
    let mut datasets: BTreeSet<String> = read("fewshot.csv").into_iter().map(|row| row.dataset).collect();
    datasets.remove("Average");
    assert_eq!(datasets.len(), 11);
    let average = |table: &Table| table.groups.last().unwrap().rows[0][0].clone().unwrap();
    // MaPLe's average over the eleven at 16 shots is 81.79.
    assert!((average(&few_shot(&datasets)).delta().unwrap() + 1.79).abs() < 1e-9);
    datasets.remove("ImageNet");
    assert_eq!(average(&few_shot(&datasets)).delta(), None);
}
