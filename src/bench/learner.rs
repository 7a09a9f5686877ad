//! Measures learners on models of random weights, each in a worker of its own.

use serde::Serialize;

use crate::backbone::Backbone;
use crate::device::Device;
use crate::error::Result;
use crate::executor::{Measured, keep_busy, measure};
use crate::identity;
use crate::measurement::{Answer, EvaluationFigures, FitFigures, Request, StepFigures, What};
use crate::method::{Method, Precision};
use crate::numerics::Numerics;

/// Where and how learners are measured.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Where it computes.
    pub device: Device,
    /// Threads, as a node has them.
    pub threads: usize,
    /// Processes that do the same on the device; what one of them does is measured.
    pub at_once: usize,
    /// How often each time is taken.
    pub runs: usize,
}

/// A learner with a model and some classes.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the method is called.
    pub name: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The model.
    pub backbone: Backbone,
    /// What libtorch is held to.
    pub numerics: Numerics,
    /// Classes.
    pub classes: usize,
    /// Images at a time; none for those of the method's training, or of an evaluation.
    pub batch: Option<usize>,
}

/// A learner with what was measured of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row<F> {
    /// What the method is called.
    pub method: String,
    /// Classes.
    pub classes: usize,
    /// The number formats in which it computed.
    pub precision: Precision,
    /// What libtorch was held to.
    pub numerics: Numerics,
    /// Where it computed.
    pub device: Device,
    /// What was measured.
    #[serde(flatten)]
    pub figures: F,
    /// Seconds from the start of a worker until libtorch was loaded and the device ready.
    pub start_seconds: f64,
    /// Threads.
    pub threads: usize,
    /// Processes that did the same at the same time.
    pub at_once: usize,
}

impl Conditions {
    /// Measures the steps of a training.
    ///
    /// # Errors
    /// Nothing can be measured here.
    pub fn step(&self, case: &Case<'_>) -> Result<Row<StepFigures>> {
        self.measure(case, What::Step, |answer| if let Answer::Step(figures) = answer { Some(figures) } else { None })
    }

    /// Measures how a learner takes up the features of a sample.
    ///
    /// # Errors
    /// Nothing can be measured here.
    pub fn fit(&self, case: &Case<'_>) -> Result<Row<FitFigures>> {
        self.measure(case, What::Fit, |answer| if let Answer::Fit(figures) = answer { Some(figures) } else { None })
    }

    /// Measures an evaluation.
    ///
    /// # Errors
    /// Nothing can be measured here.
    pub fn evaluation(&self, case: &Case<'_>) -> Result<Row<EvaluationFigures>> {
        let figures = |answer| if let Answer::Evaluation(figures) = answer { Some(figures) } else { None };
        self.measure(case, What::Evaluation, figures)
    }

    fn measure<F>(
        &self,
        &Case { name, method, backbone, numerics, classes, batch }: &Case<'_>,
        what: What,
        figures: impl FnOnce(Answer) -> Option<F>,
    ) -> Result<Row<F>> {
        let &Conditions { device, threads, at_once, runs } = self;
        let request = Request {
            build: identity::BUILD.to_owned(),
            architecture: backbone.architecture,
            backbone: backbone.options(),
            method: method.clone(),
            classes,
            batch,
            device,
            numerics,
            threads,
            runs,
            what,
            keep_on: false,
        };
        let others = keep_busy(at_once - 1, &request)?;
        let Measured { answer, start_seconds } = measure(&request)?;
        drop(others);
        let figures = figures(answer).expect("a worker answers what it is asked");
        Ok(Row {
            method: name.to_owned(),
            classes,
            precision: method.precision,
            numerics,
            device,
            figures,
            start_seconds,
            threads,
            at_once,
        })
    }
}
