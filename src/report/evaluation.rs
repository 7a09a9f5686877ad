//! What evaluations say beyond accuracy: classes, confusions and mistakes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use petgraph::graph::NodeIndex;
use serde::Deserialize;

use super::materials::Materials;
use super::thumbnail::thumbnail;
use crate::error::Result;
use crate::evaluation::{ClassMetrics, PredictionRow};
use crate::files::read_csv;
use crate::graph::Source;
use crate::kind::Section;
use crate::stages::eval::Eval;
use crate::store::Record;

/// Classes that the list of the worst names.
const WORST: usize = 20;
/// Classes that a confusion matrix shows.
const CONFUSED: usize = 12;
/// Images that stand for a data set's mistakes.
const EXAMPLES: usize = 8;

/// What evaluations on one data set say.
#[derive(Debug)]
pub struct DatasetDetail {
    /// What the data set is called.
    pub label: String,
    /// What the methods are called, in order.
    pub methods: Vec<String>,
    /// The classes with most errors over all methods, the worst first.
    pub worst: Vec<ClassRow>,
    /// All classes that have test images.
    pub count: usize,
    /// Of the last method: which classes are taken for which.
    pub confusion: Option<Confusion>,
    /// Of the last method: images of which it is surest, and wrong.
    pub mistakes: Vec<Mistake>,
}

/// One class, over all seeds.
#[derive(Debug)]
pub struct ClassRow {
    /// Its name.
    pub class: String,
    /// By method: correct and all evaluations of its test images; none where a method was not evaluated on it.
    pub correct: Vec<Option<(usize, usize)>>,
}

/// Which classes are taken for which.
#[derive(Debug)]
pub struct Confusion {
    /// The method.
    pub method: String,
    /// The classes shown, those with most errors.
    pub classes: Vec<String>,
    /// All classes.
    pub count: usize,
    /// Of each class shown, by row: the share of its images taken for each class shown.
    pub shares: Vec<Vec<f64>>,
}

/// An image taken for something else.
#[derive(Debug)]
pub struct Mistake {
    /// The image, small, if it can be read.
    pub thumbnail: Option<String>,
    /// Its class.
    pub class: String,
    /// What it was taken for.
    pub predicted: String,
    /// How surely, in percent.
    pub probability: f64,
}

/// A row of `predictions.csv`.
type Prediction = PredictionRow<'static>;

/// The evaluations of a method on a data set.
struct Evaluations<'a> {
    dataset: String,
    method: String,
    nodes: Vec<(NodeIndex, &'a Record)>,
}

/// What the evaluations that are up to date say, by data set, in the order of the nodes.
pub(super) fn details(materials: &Materials<'_>) -> Result<Vec<DatasetDetail>> {
    let mut found: Vec<Evaluations<'_>> = Vec::new();
    for (index, record) in materials.fresh() {
        let work = &materials.graph.node(index).work;
        // What was measured to choose by is no result.
        let is_for_choice = work.as_kind::<Eval>().is_some_and(|eval| !eval.split.is_test());
        if work.kind().section != Some(Section::Evaluation) || is_for_choice {
            continue;
        }
        let dataset = materials.coordinate(index, "dataset").unwrap_or_default();
        let method = materials.coordinate(index, "method").unwrap_or_default();
        match found.iter_mut().find(|one| one.dataset == dataset && one.method == method) {
            Some(one) => one.nodes.push((index, record)),
            None => found.push(Evaluations { dataset, method, nodes: vec![(index, record)] }),
        }
    }
    let mut datasets: Vec<&String> = Vec::new();
    for one in &found {
        if !datasets.contains(&&one.dataset) {
            datasets.push(&one.dataset);
        }
    }
    let detail = |dataset: &String| {
        let of_dataset: Vec<&Evaluations<'_>> = found.iter().filter(|one| one.dataset == *dataset).collect();
        let (worst, count) = worst_classes(materials, &of_dataset)?;
        let last = of_dataset.last().expect("the data set is that of an evaluation");
        let (confusion, mistakes) = errors(materials, last)?;
        let methods = of_dataset.iter().map(|one| materials.label(&one.method)).collect();
        Ok(DatasetDetail { label: materials.label(dataset), methods, worst, count, confusion, mistakes })
    };
    datasets.into_iter().map(detail).collect()
}

/// The classes with most errors, and how many classes there are.
fn worst_classes(materials: &Materials<'_>, methods: &[&Evaluations<'_>]) -> Result<(Vec<ClassRow>, usize)> {
    let mut counts: BTreeMap<String, Vec<Option<(usize, usize)>>> = BTreeMap::new();
    for (place, evaluations) in methods.iter().enumerate() {
        for (_, record) in &evaluations.nodes {
            for ClassMetrics { class, images, correct, .. } in rows(materials, record, "per-class")? {
                if images > 0 {
                    let row = counts.entry(class).or_insert_with(|| vec![None; methods.len()]);
                    let (known_correct, known_images) = row[place].unwrap_or_default();
                    row[place] = Some((known_correct + correct, known_images + images));
                }
            }
        }
    }
    let mut worst: Vec<ClassRow> = counts.into_iter().map(|(class, correct)| ClassRow { class, correct }).collect();
    let count = worst.len();
    worst.sort_by(|a, b| a.mean().total_cmp(&b.mean()));
    worst.truncate(WORST);
    Ok((worst, count))
}

/// A part of a whole.
pub(super) fn share((part, whole): (usize, usize)) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl ClassRow {
    /// The share of correct predictions, averaged over the methods.
    fn mean(&self) -> f64 {
        let shares: Vec<f64> = self.correct.iter().flatten().map(|&correct| share(correct)).collect();
        shares.iter().sum::<f64>() / shares.len().max(1) as f64
    }
}

fn errors(materials: &Materials<'_>, evaluations: &Evaluations<'_>) -> Result<(Option<Confusion>, Vec<Mistake>)> {
    let mut taken: HashMap<(String, String), usize> = HashMap::new();
    let mut images: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut surest: Vec<(Prediction, Option<PathBuf>)> = Vec::new();
    for &(index, record) in &evaluations.nodes {
        let folder = location(materials, index);
        let mut wrong: Vec<Prediction> = Vec::new();
        for prediction in rows::<Prediction>(materials, record, "predictions")? {
            *taken.entry((prediction.class.to_string(), prediction.predicted_class.to_string())).or_default() += 1;
            let count = images.entry(prediction.class.to_string()).or_default();
            count.1 += 1;
            if prediction.class != prediction.predicted_class {
                count.0 += 1;
                wrong.push(prediction);
            }
        }
        surest.extend(wrong.into_iter().map(|one| (one, folder.clone())));
    }
    surest.sort_by(|a, b| b.0.probability.total_cmp(&a.0.probability));
    // The same image may be mistaken with every seed.
    let mut seen: Vec<Cow<'static, str>> = Vec::new();
    surest.retain(|(one, _)| {
        !seen.contains(&one.path) && seen.len() < EXAMPLES && {
            seen.push(one.path.clone());
            true
        }
    });
    let mistakes = surest.into_iter().map(|(one, folder)| Mistake {
        thumbnail: folder.and_then(|folder| thumbnail(&folder.join(&*one.path))),
        class: one.class.into_owned(),
        predicted: one.predicted_class.into_owned(),
        probability: 100.0 * one.probability,
    });
    let count = images.len();
    let mut classes: Vec<(String, (usize, usize))> = images.into_iter().filter(|(_, (wrong, _))| *wrong > 0).collect();
    classes.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    classes.truncate(CONFUSED);
    let shares = classes.iter().map(|(class, (_, total))| {
        let cell = |(other, _): &(String, (usize, usize))| {
            share((taken.get(&(class.clone(), other.clone())).copied().unwrap_or(0), *total))
        };
        classes.iter().map(cell).collect()
    });
    let shares = shares.collect();
    let method = materials.label(&evaluations.method);
    let classes: Vec<String> = classes.into_iter().map(|(class, _)| class).collect();
    let confusion = (!classes.is_empty()).then_some(Confusion { method, classes, count, shares });
    Ok((confusion, mistakes.collect()))
}

/// Where the images of an evaluation lie.
fn location(materials: &Materials<'_>, index: NodeIndex) -> Option<PathBuf> {
    let input = materials.graph.node(index).inputs.iter().find(|input| input.name == "dataset.location")?;
    match &input.source {
        Source::File(path) | Source::Folder(path, _) => Some(path.clone()),
        Source::Absent(_) => None,
        Source::Output(node, output) => {
            Some(materials.store.artifact_path(&materials.plan.record(*node)?.outputs[&**output]))
        }
    }
}

/// The rows of a CSV file among a node's outputs.
fn rows<T: for<'de> Deserialize<'de>>(materials: &Materials<'_>, record: &Record, output: &str) -> Result<Vec<T>> {
    read_csv(&materials.store.artifact(&record.outputs[output])?)
}
