//! What `maple-pipe bench` asks a worker to measure, and what that answers.
//!
//! A worker that is started with [`MEASURE`] reads one [`Request`] from its standard input, and answers with [`Answer`]s, one a
//! line. It ends at once when its standard input does.

use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::backbone::BackboneOptions;
use crate::device::Device;
use crate::method::Method;
use crate::numerics::Numerics;

/// The argument with which a worker measures.
pub const MEASURE: &str = "--measure";

/// What to measure: a learner on a model of random weights. Each is measured in a process of its own, so that the memory is its
/// own, too.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Request {
    /// [`crate::identity::BUILD`] of who asks.
    pub build: String,
    /// The sizes of the model.
    pub architecture: Architecture,
    /// What these do not tell.
    pub backbone: BackboneOptions,
    /// The learner, and how it is trained.
    pub method: Method,
    /// Classes.
    pub classes: usize,
    /// Images at a time; none for those of the method's training, or of an evaluation.
    pub batch: Option<usize>,
    /// Where to compute.
    pub device: Device,
    /// What libtorch is held to.
    pub numerics: Numerics,
    /// Threads, as a node has them.
    pub threads: usize,
    /// How often each time is taken.
    pub runs: usize,
    /// What of the learner.
    pub what: What,
    /// To do it until standard input ends, beside another worker that measures it, in place of measuring it.
    pub keep_on: bool,
}

/// What is measured of a learner.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Steps of its training.
    Step,
    /// What it finds of a sample's features before any step, or in place of steps.
    Fit,
    /// Its evaluation.
    Evaluation,
}

/// A line of the worker's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// libtorch is loaded, and the device ready.
    Ready,
    /// What is to be kept on with goes at full speed.
    Busy,
    /// What steps of a training take.
    Step(StepFigures),
    /// What taking up a sample takes.
    Fit(FitFigures),
    /// What an evaluation takes.
    Evaluation(EvaluationFigures),
    /// Nothing could be measured: message and hint.
    Failed(String, Option<String>),
}

/// What a step of a training takes. Times are medians.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct StepFigures {
    /// Images per step.
    pub batch: usize,
    /// Seconds per step.
    pub seconds: f64,
    /// Seconds per step where the features of the images are known, for learners whose steps can do with them.
    pub feature_seconds: Option<f64>,
    /// Seconds of the image tower, forward and backward, and of plain CLIP's where a step needs it, measured apart.
    pub image_seconds: f64,
    /// Seconds of the text tower, forward and backward, measured apart.
    pub text_seconds: f64,
    /// Floating-point operations per step, of what multiplies matrices.
    pub flops: u64,
    /// Floating-point operations per second of the fastest product of matrices, in the same precision, on as many threads.
    pub peak_flops_per_second: f64,
    /// The most memory on the device, in bytes, where that is known.
    pub peak_bytes: Option<u64>,
    /// Seconds of the optimizer, measured apart.
    pub optimizer_seconds: f64,
    /// Seconds that a step waited for its images.
    pub waiting_seconds: f64,
    /// Operations per step that libtorch dispatched and that compute.
    pub operations: u64,
    /// Kernels per step, on a card.
    pub kernels: Option<u64>,
    /// Seconds that a model takes from weights in memory to its device.
    pub model_seconds: f64,
}

/// What it takes a learner to take up the features of a sample.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct FitFigures {
    /// Seconds, with those of the texts that the learner starts from: the median.
    pub seconds: f64,
    /// Images of the sample.
    pub images: usize,
    /// Seconds that a model takes from weights in memory to its device.
    pub model_seconds: f64,
}

/// What an evaluation takes. Rates are medians.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct EvaluationFigures {
    /// Images per batch.
    pub batch: usize,
    /// Images per second through the learner, once the texts are known.
    pub images_per_second: f64,
    /// Images per second through the image tower alone, measured in turns.
    pub tower_images_per_second: f64,
    /// The first rate divided by the second: the median of the turns.
    pub ratio: f64,
    /// Images per second of which the features are known, where the learner's image tower is plain CLIP's.
    pub features_images_per_second: Option<f64>,
    /// Seconds of the text tower, once an evaluation.
    pub text_seconds: f64,
    /// The most memory on the device, in bytes, where that is known.
    pub peak_bytes: Option<u64>,
    /// Seconds that a model takes from weights in memory to its device.
    pub model_seconds: f64,
}
