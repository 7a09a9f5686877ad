//! `maple-pipe bench step` and `maple-pipe bench eval`: learners on models of random weights.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::super::computer::Computer;
use super::super::project::{AT_ONCE, number};
use super::super::terminal::{print, print_json, say};
use crate::backbone::Backbone;
use crate::bench::{Case, Conditions, LearnerRow};
use crate::device::{Device, Devices};
use crate::document::read_table;
use crate::error::{Error, Result};
use crate::measurement::{EvaluationFigures, StepFigures};
use crate::method::{Method, Precision, all_trained, shipped_as};
use crate::numerics::Numerics;
use crate::run::DeviceChoice;
use crate::text::{bytes, plural};

/// The most times that anything is measured.
pub(super) const RUNS: i64 = 1000;
/// The most classes.
const CLASSES: i64 = 100_000;
/// The most images at a time.
const BATCH: i64 = 100_000;
/// The name that stands for one method of each kind.
const ALL: &str = "all";

/// What learners are measured on.
#[derive(Args, Debug)]
pub(crate) struct Subject {
    /// The model, by its publisher's name, e.g. `ViT-B/16`, `ViT-L/14@336px`, `RN50`, or `tiny`; its weights are random
    #[arg(long, value_name = "NAME", default_value = "ViT-B/16")]
    arch: String,
    /// The number formats to compute in [default: each method's own]
    #[arg(long)]
    precision: Option<Precision>,
    /// What libtorch is held to
    #[arg(long, value_enum, default_value_t)]
    numerics: Numerics,
    #[command(flatten)]
    machine: Machine,
    /// Print a JSON array, an object for each row of the table
    #[arg(long)]
    json: bool,
}

/// On what it is measured, and how often.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    #[command(flatten)]
    computer: Computer,
    /// Processes that do the same on the device at the same time, as nodes of a run do; the figures are those of one of them
    /// [default: 1; of a table on a card, as many as a run has there]
    #[arg(long, value_name = "N", value_parser = number(AT_ONCE))]
    at_once: Option<u32>,
    /// How often each time is taken; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number(1..=RUNS))]
    runs: u32,
}

impl Machine {
    /// Of one process, where the user does not say how many.
    pub(super) fn conditions(&self) -> Conditions {
        self.conditions_on(self.computer.device())
    }

    /// Of as many processes as a run has on a card, where the user does not say how many.
    pub(super) fn conditions_of_run(&self) -> Conditions {
        match self.computer.device() {
            card @ Device::Cuda(_) if self.at_once.is_none() => self.conditions_of(card, nodes_at_once(card)),
            device => self.conditions_on(device),
        }
    }

    fn conditions_on(&self, device: Device) -> Conditions {
        let at_once = self.at_once.map_or(1, |number| number as usize);
        if at_once > 1 {
            // Sees to it that they share a card as nodes do.
            DeviceChoice::new(Some(Devices::one(device, at_once)), at_once).ready();
        }
        self.conditions_of(device, at_once)
    }

    fn conditions_of(&self, device: Device, at_once: usize) -> Conditions {
        Conditions { device, threads: self.computer.threads_of(at_once), at_once, runs: self.runs as usize }
    }
}

/// How many nodes a run has at the same time on a card, where it may have many.
fn nodes_at_once(card: Device) -> usize {
    let choice = DeviceChoice::new(None, usize::MAX);
    choice.ready().devices.slots().find(|(device, _)| *device == card).map_or(1, |(_, nodes)| nodes)
}

/// Seconds per training step, and of what: image tower, text tower, optimizer, waiting for images; beside the fastest product
/// of matrices that the machine does
///
/// Weights are random and of the model's true shapes, so neither weights nor data are needed. Images are random pictures of 500
/// x 375 pixels, cropped and flipped as in a training; a learner that works on image features sees random ones. The towers and
/// the optimizer are measured apart, so they need not add up to the whole step. Floating-point operations are those of matrix
/// products, convolutions and attention, as libtorch was asked for them, where a multiplication and an addition are two.
#[derive(Args, Debug)]
pub(crate) struct Step {
    /// Methods, by the names under which they ship, or files with one; `all` is one of each kind that sees images
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "maple")]
    method: Vec<String>,
    /// Numbers of classes
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "50", value_parser = number(1..=CLASSES))]
    classes: Vec<u32>,
    /// Images per step [default: the method's]
    #[arg(long, value_name = "N", value_parser = number(1..=BATCH))]
    batch: Option<u32>,
    #[command(flatten)]
    subject: Subject,
}

impl Step {
    pub(super) fn run(self) -> Result<()> {
        let methods = methods(&self.method)?;
        if let Some(untrained) = methods.iter().find(|one| one.method.training.is_none()) {
            let message = format!("the method `{}` is not trained, so it has no steps", untrained.name);
            return Err(Error::hinted(message, "measure its evaluation: `maple-pipe bench eval`"));
        }
        self.subject.measure(methods, &self.classes, self.batch, &HEADER, step_line, Conditions::step)
    }
}

/// Images per second of an evaluation, beside the bare image tower in turns
///
/// Weights and images are random, the images on the device before anything is measured: reading and decoding them is what
/// `bench images` measures. `ratio` is the evaluation's rate divided by that of the image tower of plain CLIP: the median of
/// the turns. Texts are computed once an evaluation, which `text` shows in seconds. `features` is the rate where the features of
/// the images are known, as a `features` stage leaves them; only learners with a plain image tower have it.
#[derive(Args, Debug)]
pub(crate) struct Evaluation {
    /// Methods, by the names under which they ship, or files with one; `all` is one of each kind that is trained on images
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "maple")]
    method: Vec<String>,
    /// Numbers of classes
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_value = "50,1000", value_parser = number(1..=CLASSES))]
    classes: Vec<u32>,
    /// Images at a time [default: as many as a node of a pipeline takes]
    #[arg(long, value_name = "N", value_parser = number(1..=BATCH))]
    batch: Option<u32>,
    #[command(flatten)]
    subject: Subject,
}

impl Evaluation {
    pub(crate) fn run(self) -> Result<()> {
        let methods = methods(&self.method)?;
        self.subject.measure(
            methods,
            &self.classes,
            self.batch,
            &EVALUATION_HEADER,
            evaluation_line,
            Conditions::evaluation,
        )
    }
}

/// The columns of an evaluation.
const EVALUATION_HEADER: [&str; 7] = ["batch", "images/s", "tower", "ratio", "features", "text", "memory"];

fn evaluation_line(row: &EvaluationFigures) -> Vec<String> {
    vec![
        row.batch.to_string(),
        format!("{:.1}", row.images_per_second),
        format!("{:.1}", row.tower_images_per_second),
        format!("{:.3}", row.ratio),
        row.features_images_per_second.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        short(row.text_seconds),
        row.peak_bytes.map_or("-".to_owned(), bytes),
    ]
}

/// The columns of a step.
const HEADER: [&str; 14] = [
    "batch",
    "seconds",
    "features",
    "image",
    "text",
    "optimizer",
    "waiting",
    "GFLOP",
    "GFLOP/s",
    "of peak",
    "peak",
    "operations",
    "kernels",
    "memory",
];

fn step_line(row: &StepFigures) -> Vec<String> {
    let rate = row.flops as f64 / row.seconds;
    let times = [row.image_seconds, row.text_seconds, row.optimizer_seconds, row.waiting_seconds];
    let rest = [
        format!("{:.1}", row.flops as f64 / 1e9),
        format!("{:.0}", rate / 1e9),
        format!("{:.0} %", 100.0 * rate / row.peak_flops_per_second),
        format!("{:.0}", row.peak_flops_per_second / 1e9),
        row.operations.to_string(),
        row.kernels.map_or("-".to_owned(), |kernels| kernels.to_string()),
        row.peak_bytes.map_or("-".to_owned(), bytes),
    ];
    let [seconds, features] = [row.seconds, row.feature_seconds.unwrap_or_default()].map(short);
    [row.batch.to_string(), seconds, features].into_iter().chain(times.into_iter().map(short)).chain(rest).collect()
}

/// A few digits of a time; nothing of what takes none.
fn short(seconds: f64) -> String {
    if seconds == 0.0 {
        return "-".to_owned();
    }
    let digits = if seconds >= 1.0 {
        2
    } else if seconds >= 0.01 {
        4
    } else {
        6
    };
    format!("{seconds:.digits$}")
}

/// A method to measure.
struct Named {
    name: String,
    method: Method,
    /// It was not asked for by its name.
    of_all: bool,
}

/// The methods of some names, files, or [`ALL`].
fn methods(names: &[String]) -> Result<Vec<Named>> {
    let mut methods = Vec::new();
    for name in names {
        if name == ALL {
            methods.extend(all_trained().map(|(name, method)| Named { name: name.to_owned(), method, of_all: true }));
        } else {
            methods.push(Named { name: name.clone(), method: method(name)?, of_all: false });
        }
    }
    Ok(methods)
}

/// The shipped method of a name, or that in a file.
fn method(name: &str) -> Result<Method> {
    let path = Path::new(name);
    if path.extension().is_none_or(|extension| extension != "toml") {
        return shipped_as(name);
    }
    let method: Method = read_table(path)?.read().map_err(|mistake| vec![mistake])?;
    method.validate()?;
    Ok(method)
}

impl Subject {
    /// Measures every method with every number of classes, and prints a row of each as soon as it is known. A method that does
    /// not fit the model is left out where `all` asked for it.
    fn measure<F: Serialize>(
        &self,
        methods: Vec<Named>,
        classes: &[u32],
        batch: Option<u32>,
        header: &[&str],
        line: impl Fn(&F) -> Vec<String>,
        measure: impl Fn(&Conditions, &Case<'_>) -> Result<LearnerRow<F>>,
    ) -> Result<()> {
        let backbone = Backbone::named(&self.arch)?;
        let mut fitting = Vec::new();
        for Named { name, mut method, of_all } in methods {
            method.precision = self.precision.unwrap_or(method.precision);
            match method.learner.fits(&backbone.architecture) {
                Ok(()) => fitting.push((name, method)),
                Err(error) if of_all => say(&format!("left out: `{name}`: {error}")),
                Err(error) => return Err(error),
            }
        }
        let conditions = self.machine.conditions();
        let Conditions { device, threads, at_once, runs } = conditions;
        let width = fitting.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("method".len());
        let line_of = |method: &str, precision: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>10}")).collect();
            format!("{method:<width$} {precision:<14}{cells}\n")
        };
        if !self.json {
            let columns: Vec<String> = ["classes"].iter().chain(header).map(|one| (*one).to_owned()).collect();
            let threads = plural(threads, "thread", "threads");
            let processes = match at_once {
                1 => threads,
                many => format!("one of {many} at once with {threads} each"),
            };
            let (model, header) = (&self.arch, line_of("method", "precision", &columns));
            print(&format!("{model} on {device}, {processes}; medians of {runs}\n\n{header}"))?;
        }
        let mut rows = Vec::new();
        for (name, method) in &fitting {
            for &classes in classes {
                let batch = batch.map(|number| number as usize);
                let (classes, numerics) = (classes as usize, self.numerics);
                let row = measure(&conditions, &Case { name, method, backbone, numerics, classes, batch })?;
                if !self.json {
                    let cells = [vec![classes.to_string()], line(&row.figures)].concat();
                    print(&line_of(name, &method.precision.to_string(), &cells))?;
                }
                rows.push(Printed { row, arch: &self.arch });
            }
        }
        if !self.json {
            return Ok(());
        }
        print_json(&rows)
    }
}

/// A row as JSON.
#[derive(Serialize)]
struct Printed<'a, F> {
    #[serde(flatten)]
    row: LearnerRow<F>,
    arch: &'a str,
}
