//! What evaluations say beyond accuracy: classes, confusions and mistakes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::calibration::{MethodCalibration, calibrations};
use super::materials::{Evaluations, Materials};
use super::thumbnail::thumbnail;
use crate::error::Result;
use crate::evaluation::{ClassMetrics, PredictionRow};

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
    /// How sure each method is, beside how often it is right.
    pub calibrations: Vec<MethodCalibration>,
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

/// What the evaluations that are up to date say, by data set, in the order of the nodes.
pub(super) fn details(materials: &Materials<'_>) -> Result<Vec<DatasetDetail>> {
    let found = materials.evaluations();
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
        let label = materials.label(dataset);
        let calibrations = calibrations(materials, &of_dataset)?;
        Ok(DatasetDetail { label, methods, worst, count, calibrations, confusion, mistakes })
    };
    datasets.into_iter().map(detail).collect()
}

/// The classes with most errors, and how many classes there are.
fn worst_classes(materials: &Materials<'_>, methods: &[&Evaluations<'_>]) -> Result<(Vec<ClassRow>, usize)> {
    let mut counts: BTreeMap<String, Vec<Option<(usize, usize)>>> = BTreeMap::new();
    for (place, evaluations) in methods.iter().enumerate() {
        for (_, record) in &evaluations.nodes {
            for ClassMetrics { class, images, correct, .. } in materials.rows(record, "per-class")? {
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
        let folder = materials.location(index);
        let mut wrong: Vec<Prediction> = Vec::new();
        for prediction in materials.rows::<Prediction>(record, "predictions")? {
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
