//! What is measured: a learner on a model of random weights.

use std::time::Instant;

use maple_pipe::error::Result;
use maple_pipe::measurement::Request;
use tch::Device;

use super::{clock, names, random};
use crate::clip::{Clip, Tokenizer};
use crate::memory::Peak;
use crate::method::{Inputs, Model};

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
    pub(super) fn model(&self) -> Result<Model<'_>> {
        let inputs = Inputs { template: "a photo of a {}.".to_owned(), ..Inputs::default() };
        Model::new(&self.clip, &Tokenizer::new(), &self.request.method, &self.class_names, &inputs, 1)
    }

    pub(super) fn device(&self) -> Device {
        self.clip.device()
    }

    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.peak.bytes(self.request.device)
    }
}
