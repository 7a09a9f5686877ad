//! What is measured: a learner on a model of random weights.

use std::time::Instant;

use maple_pipe::error::Result;
use maple_pipe::measurement::Request;
use maple_pipe::method::Training;
use tch::Device;

use super::{clock, names, random};
use crate::clip::{Clip, Tokenizer};
use crate::memory::Peak;
use crate::method::{Inputs, Labelled, Model, Sample};

/// The images of each class of a sample: those of the papers' samples.
const SHOTS: i64 = 16;
/// Images of each class by which something is chosen, as published code draws them.
const VALIDATION_SHOTS: i64 = 4;

/// What is measured.
pub(super) struct Subject<'a> {
    pub(super) request: &'a Request,
    pub(super) clip: Clip,
    /// Seconds that the model took from weights in memory to its device.
    pub(super) model_seconds: f64,
    class_names: Vec<String>,
    peak: &'a Peak,
}

impl Subject<'_> {
    pub(super) fn new<'a>(request: &'a Request, device: Device, peak: &'a Peak) -> Result<Subject<'a>> {
        let weights = random::weights(&request.architecture);
        let backbone = random::backbone(request)?;
        clock::wait_for(device);
        let clock = Instant::now();
        let clip = Clip::from_weights(&weights, &backbone, device, request.method.precision)?;
        clock::wait_for(device);
        let model_seconds = clock.elapsed().as_secs_f64();
        Ok(Subject { request, clip, model_seconds, class_names: names::of_classes(request.classes), peak })
    }

    /// The learner, bound to the classes.
    fn model(&self) -> Result<Model<'_>> {
        let inputs = Inputs { template: "a photo of a {}.".to_owned(), images: self.images() };
        Model::new(&self.clip, &Tokenizer::new(), &self.request.method, &self.class_names, &inputs, 1)
    }

    /// The learner, which has taken up a sample if there is one.
    pub(super) fn fitted(&self, sample: Option<Sample>) -> Result<Model<'_>> {
        let mut model = self.model()?;
        if let Some(sample) = sample {
            let epochs = |training: &Training| training.epochs(training.steps_of_epoch(self.images()));
            model.fit(sample, self.request.method.training.as_ref().map_or(0, epochs))?;
        }
        Ok(model)
    }

    /// Random features for a learner that works on them.
    pub(super) fn sample(&self) -> Option<Sample> {
        if !self.request.method.learner.works_on_features() {
            return None;
        }
        let of = |shots, seed| random::features(&self.clip, self.request.classes, shots, seed);
        let Labelled { features, labels } = of(SHOTS, 2);
        let [validation, test] = [3, 4].map(|seed| Some(of(VALIDATION_SHOTS, seed)));
        Some(Sample { views: features.unsqueeze(0), labels, validation, test })
    }

    /// How many images a sample has.
    pub(super) fn images(&self) -> usize {
        self.request.classes * SHOTS as usize
    }

    pub(super) fn device(&self) -> Device {
        self.clip.device()
    }

    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.peak.bytes(self.request.device)
    }
}
