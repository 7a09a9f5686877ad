//! The time that a pipeline takes on this machine, projected from measured steps and evaluations and from the sizes of its data
//! sets as their manifests tell them. Neither data nor weights are needed.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::graph::NodeIndex;
use serde::Serialize;

use super::learner::{Case, Conditions, Row};
use crate::backbone::Backbone;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Graph, Load};
use crate::measurement::{EvaluationFigures, FitFigures, StepFigures};
use crate::method::{Method, shipped_as};
use crate::numerics::Numerics;

/// Numbers of classes with which steps of a method are measured, at most; between them they are taken to lie on a line.
const STEP_POINTS: usize = 3;
/// The same of evaluations.
const EVALUATION_POINTS: usize = 2;

/// What is projected, and from what.
#[derive(Debug, Serialize)]
pub struct Projection {
    /// Where it was measured.
    pub device: Device,
    /// One for each method, and one for features.
    pub rows: Vec<Projected>,
    /// Nodes at the same time.
    pub at_once: usize,
    /// Seconds of all rows, one after another.
    pub seconds: f64,
    /// Nodes that compute with libtorch and are not counted in, because nothing is measured of their kind, or because the
    /// manifest of their data set does not say how large that is.
    pub not_counted: usize,
    /// The steps that were measured.
    pub steps: Vec<Row<StepFigures>>,
    /// What was measured of learners that take up the features of a sample.
    pub fits: Vec<Row<FitFigures>>,
    /// The evaluations that were measured.
    pub evaluations: Vec<Row<EvaluationFigures>>,
}

/// What the nodes of a method take.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Projected {
    /// What the method is called; `features` where features are computed for all methods.
    pub method: String,
    /// Trainings.
    pub trainings: usize,
    /// Their steps.
    pub steps: usize,
    /// Their seconds.
    pub training_seconds: f64,
    /// Evaluations, or nodes that compute features.
    pub evaluations: usize,
    /// The images that they read, as images or as features.
    pub images: usize,
    /// Their seconds.
    pub evaluation_seconds: f64,
    /// Seconds in which the workers of these nodes start and their models reach the device.
    pub start_seconds: f64,
    /// All of these.
    pub seconds: f64,
}

/// A node with what it asks of the towers.
struct Asked<'g> {
    /// What the row is called.
    row: String,
    load: Load<'g>,
    method: Method,
    classes: usize,
    backbone: Backbone,
    numerics: Numerics,
}

impl<'g> Asked<'g> {
    fn new(graph: &Graph, index: NodeIndex, load: Load<'g>, backbone: Backbone) -> Asked<'g> {
        let (method, classes) = match load {
            Load::Training { method, classes, .. } | Load::Evaluation { method, classes, .. } => {
                (method.clone(), classes)
            }
            // As zero-shot CLIP computes them, for no class.
            Load::Features { precision, .. } => (Method { precision, ..shipped_as("clip").expect("it ships") }, 1),
        };
        let value = graph.node(index).coordinates.get("method").map(ToString::to_string);
        let row = match load {
            Load::Features { .. } => "features".to_owned(),
            _ => value.unwrap_or_else(|| method.learner.name().to_owned()),
        };
        Asked { row, load, method, classes, backbone, numerics: graph.node(index).work.numerics() }
    }

    /// Equal where the same is measured, but for the number of classes.
    fn key(&self) -> String {
        let method = serde_json::to_string(&self.method).expect("a method is plain data");
        format!("{method} {:?} {:?}", self.backbone, self.numerics)
    }

    /// It with another number of classes.
    fn case(&self, classes: usize) -> Case<'_> {
        let &Asked { ref row, ref method, backbone, numerics, .. } = self;
        Case { name: row, method, backbone, numerics, classes, batch: None }
    }

    fn is_training(&self) -> bool {
        matches!(self.load, Load::Training { .. })
    }

    fn takes_steps(&self) -> bool {
        self.is_training() && self.method.training.is_some()
    }

    fn takes_up_features(&self) -> bool {
        self.is_training() && self.method.learner.works_on_features()
    }
}

/// Projects the time of the `wanted` nodes of a pipeline, whose models `backbone` tells. `conditions` is asked for once
/// it is known that something can be measured, and `say` hears what is measured next.
///
/// # Errors
/// Of none of them the time can be projected, or something cannot be measured here.
pub fn projection(
    graph: &Graph,
    wanted: &[NodeIndex],
    backbone: &dyn Fn(NodeIndex) -> Result<Backbone>,
    conditions: &dyn Fn() -> Conditions,
    say: &dyn Fn(&str),
) -> Result<Projection> {
    let computing = wanted.iter().copied().filter(|&index| graph.node(index).work.uses_libtorch());
    let computing: Vec<NodeIndex> = computing.collect();
    let known = computing.iter().filter_map(|&index| Some((index, graph.load(index)?)));
    let asked: Vec<Asked<'_>> =
        known.map(|(index, load)| Ok(Asked::new(graph, index, load, backbone(index)?))).collect::<Result<_>>()?;
    if asked.is_empty() {
        return Err(Error::hinted(
            "nothing of this pipeline can be projected",
            "it takes stages of the kinds `train`, `eval` or `features`, and data sets whose manifests have `counts`",
        ));
    }
    let conditions = conditions();
    let tell = |what: &str, case: &Case<'_>| {
        say(&format!("measuring {what} of {} with {} classes", case.name, case.classes));
    };
    let steps = measured(&asked, Asked::takes_steps, STEP_POINTS, |case| {
        tell("steps", case);
        conditions.step(case)
    })?;
    let fits = measured(&asked, Asked::takes_up_features, STEP_POINTS, |case| {
        tell("the fit", case);
        conditions.fit(case)
    })?;
    let evaluations = measured(
        &asked,
        |one| !one.is_training(),
        EVALUATION_POINTS,
        |case| {
            tell("the evaluation", case);
            conditions.evaluation(case)
        },
    )?;
    let mut rows: Vec<Projected> = Vec::new();
    // What was measured is how long a node takes beside others.
    let share = 1.0 / conditions.at_once as f64;
    for one in &asked {
        let place = rows.iter().position(|row| row.method == one.row).unwrap_or_else(|| {
            rows.push(Projected { method: one.row.clone(), ..Projected::default() });
            rows.len() - 1
        });
        let key = one.key();
        if one.is_training() {
            let (steps, fits) = (steps.get(&key), fits.get(&key));
            rows[place].add_training(one, steps.map_or(&[], Vec::as_slice), fits.map_or(&[], Vec::as_slice), share);
        } else {
            rows[place].add_evaluation(one, &evaluations[&key], share);
        }
    }
    Ok(Projection {
        device: conditions.device,
        at_once: conditions.at_once,
        seconds: rows.iter().map(|row| row.seconds).sum(),
        rows,
        not_counted: computing.len() - asked.len(),
        steps: steps.into_values().flatten().collect(),
        fits: fits.into_values().flatten().collect(),
        evaluations: evaluations.into_values().flatten().collect(),
    })
}

/// Measures the subjects of some of the nodes, each once with each of a few numbers of classes; by [`Asked::key`].
fn measured<'g, F>(
    asked: &[Asked<'g>],
    which: impl Fn(&Asked<'g>) -> bool,
    most: usize,
    measure: impl Fn(&Case<'_>) -> Result<Row<F>>,
) -> Result<BTreeMap<String, Vec<Row<F>>>> {
    let mut subjects: BTreeMap<String, (&Asked<'_>, BTreeSet<usize>)> = BTreeMap::new();
    for one in asked.iter().filter(|one| which(one)) {
        subjects.entry(one.key()).or_insert((one, BTreeSet::new())).1.insert(one.classes);
    }
    let rows = |(key, (one, classes)): (String, (&Asked<'_>, BTreeSet<usize>))| {
        let rows: Result<_> = few(&classes, most).into_iter().map(|classes| measure(&one.case(classes))).collect();
        Ok((key, rows?))
    };
    subjects.into_iter().map(rows).collect()
}

/// At most two or three of these numbers: the ends, and that which is nearest to their geometric mean.
fn few(all: &BTreeSet<usize>, most: usize) -> BTreeSet<usize> {
    let (Some(&first), Some(&last)) = (all.first(), all.last()) else { return BTreeSet::new() };
    let middle = ((first * last) as f64).sqrt().ln();
    let far = |number: &&usize| ((**number as f64).ln() - middle).abs();
    let nearest = all.iter().min_by(|one, other| far(one).total_cmp(&far(other))).filter(|_| most > 2);
    [first, last].into_iter().chain(nearest.copied()).collect()
}

/// A value of each row, by its number of classes.
fn points<F>(rows: &[Row<F>], value: impl Fn(&F) -> f64) -> Vec<(usize, f64)> {
    rows.iter().map(|row| (row.classes, value(&row.figures))).collect()
}

/// The value at `x` on the lines through these points, which are in order; beyond them the last line goes on. Without any, 0.
fn at(points: &[(usize, f64)], x: usize) -> f64 {
    if points.is_empty() {
        return 0.0;
    }
    let x = x as f64;
    let line = |pair: &[(usize, f64)]| {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(x, y)| (x as f64, y));
        y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    };
    let within = points.windows(2).find(|pair| x <= pair[1].0 as f64).or(points.windows(2).last());
    within.map_or(points[0].1, line)
}

impl Projected {
    /// Adds a training, of which steps were measured, or how it takes up a sample, or both; it has a `share` of the device.
    fn add_training(&mut self, one: &Asked<'_>, steps: &[Row<StepFigures>], fits: &[Row<FitFigures>], share: f64) {
        let count = one.load.steps();
        let on_images = one.load.steps_on_images();
        let of_steps = |figures: &StepFigures| {
            let on_features = figures.feature_seconds.unwrap_or(figures.seconds);
            on_images as f64 * figures.seconds + (count - on_images) as f64 * on_features
        };
        let of_steps = points(steps, of_steps);
        let of_fit = points(fits, |figures| figures.seconds);
        let seconds: f64 = [of_steps, of_fit].iter().map(|points| share * at(points, one.classes).max(0.0)).sum();
        self.trainings += 1;
        self.steps += count;
        self.training_seconds += seconds;
        let of_steps = steps.iter().map(|row| row.start_seconds + row.figures.model_seconds);
        let of_fits = fits.iter().map(|row| row.start_seconds + row.figures.model_seconds);
        self.start(seconds, of_steps.chain(of_fits).next().unwrap_or_default());
    }

    fn add_evaluation(&mut self, one: &Asked<'_>, measured: &[Row<EvaluationFigures>], share: f64) {
        let (rate, images): (fn(&EvaluationFigures) -> f64, usize) = match one.load {
            Load::Features { .. } => (|figures| figures.tower_images_per_second, one.load.image_passes()),
            Load::Evaluation { images, from_features: true, .. } => {
                (|figures| figures.features_images_per_second.unwrap_or(figures.images_per_second), images)
            }
            Load::Evaluation { images, .. } | Load::Training { images, .. } => {
                (|figures| figures.images_per_second, images)
            }
        };
        let of = |value: &dyn Fn(&EvaluationFigures) -> f64| at(&points(measured, value), one.classes);
        let texts = if matches!(one.load, Load::Features { .. }) { 0.0 } else { of(&|figures| figures.text_seconds) };
        let seconds = share * (images as f64 * of(&|figures| rate(figures).recip()) + texts);
        self.evaluations += 1;
        self.images += images;
        self.evaluation_seconds += seconds;
        self.start(seconds, measured[0].start_seconds + measured[0].figures.model_seconds);
    }

    /// Workers are kept, so that those of a method start once.
    fn start(&mut self, seconds: f64, start_seconds: f64) {
        let later = (start_seconds - self.start_seconds).max(0.0);
        self.start_seconds += later;
        self.seconds += seconds + later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle_are_measured() {
        let all = BTreeSet::from([5, 19, 24, 50, 51, 98, 199, 500]);
        assert_eq!(few(&all, 3), BTreeSet::from([5, 50, 500]));
        assert_eq!(few(&all, 2), BTreeSet::from([5, 500]));
        assert_eq!(few(&BTreeSet::from([7]), 3), BTreeSet::from([7]));
        assert_eq!(few(&BTreeSet::from([7, 9]), 3), BTreeSet::from([7, 9]));
    }

    #[test]
    fn values_lie_on_lines_between_what_was_measured() {
        let points = [(5, 1.0), (50, 2.0), (500, 20.0)];
        assert_eq!([5, 50, 275, 500, 1000].map(|x| at(&points, x)), [1.0, 2.0, 11.0, 20.0, 40.0]);
        assert_eq!(at(&points[..1], 77), 1.0);
    }
}
