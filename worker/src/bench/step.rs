//! Steps of a training, with images that are loaded as a training loads them; and the parts of a step, each apart.

use std::time::Duration;

use maple_pipe::data::Loader;
use maple_pipe::error::{Error, Result};
use maple_pipe::measurement::StepFigures;
use tch::{Device, Kind, Tensor};

use super::subject::Subject;
use super::{clock, peak, pictures};
use crate::clip::torch;
use crate::counting;
use crate::method::{Model, Optimizer, Seen, Trainer, total};
use crate::stages::inputs;

/// Steps before anything is measured: libraries choose their ways in the first ones.
const WARM_UP: usize = 2;
/// Pictures at least, so that a batch is not always the same.
const PICTURES: usize = 32;
/// The learning rate: the learned tensors move, and never far.
const RATE: f64 = 1e-6;

/// Measures the training of a learner.
pub(super) fn measure(subject: &Subject<'_>) -> Result<StepFigures> {
    let request = subject.request;
    let Some(training) = &request.method.training else {
        return Err(Error::invalid("this method is not trained, so it has no steps"));
    };
    let batch = request.batch.unwrap_or(training.batch_size as usize);
    let (device, classes) = (subject.device(), request.classes);
    let pictures = batch.max(PICTURES);
    let (loader, _folder) = pictures::loader(pictures, classes, &subject.clip.backbone().preprocessing)?;
    let mut trainer = Trainer::new(subject.model()?, training, request.method.precision);
    let mut steps = |count| Steps { loader: &loader, batch, device }.take(&mut trainer, count);
    // Decodes all pictures, which are kept then.
    loader.batch(&(0..pictures).collect::<Vec<_>>(), 0)?;
    steps(WARM_UP)?;
    let count = clock::repetitions(steps(1)?.seconds);
    let taken: Vec<Taken> = (0..request.runs).map(|_| steps(count)).collect::<Result<_>>()?;
    let Taken { seconds, waited } = clock::median(taken, |taken| taken.seconds);
    let (seconds, waiting_seconds) = (seconds / count as f64, waited.as_secs_f64() / count as f64);
    let peak_bytes = subject.peak_bytes();
    let mut kernels = None;
    if device != Device::Cpu {
        let (taken, counted) = counting::kernels(|| steps(1));
        taken?;
        kernels = counted;
    }

    let first: Vec<usize> = (0..batch).collect();
    let (images, labels) = inputs::Upload::new(&loader, device).tensors(&loader.batch(&first, 0)?);
    let model = trainer.model();
    let learnable = model.learnable();
    let image = || model.image_pass(&images).go_back(&learnable);
    let image_seconds = clock::median_seconds(device, request.runs, &image)?;
    let image_features = tch::no_grad(|| model.image_features(&images));
    let text = || model.text_pass(&image_features).map_or(Ok(()), |loss| loss.go_back(&learnable));
    let text_seconds = match model.text_pass(&image_features) {
        Some(_) => clock::median_seconds(device, request.runs, &text)?,
        None => 0.0,
    };
    let mut optimizer = Optimizer::new(model.learnable(), training);
    let gradients: Vec<Tensor> = learnable.iter().map(|(_, tensor)| tensor.zeros_like().detach()).collect();
    let optimizer_seconds = optimizer_seconds(device, request.runs, &mut optimizer, &gradients)?;
    let (counted, all) = counting::operations(|| whole(model, &mut optimizer, &images, &labels));
    counted?;
    Ok(StepFigures {
        batch,
        seconds,
        image_seconds,
        text_seconds,
        flops: all.flops,
        peak_flops_per_second: peak::flops_per_second(device, request.method.precision, request.threads, request.runs)?,
        peak_bytes,
        optimizer_seconds,
        waiting_seconds,
        operations: all.operations,
        kernels,
        model_seconds: subject.model_seconds,
    })
}

/// Steps of a training.
struct Steps<'a> {
    loader: &'a Loader,
    batch: usize,
    device: Device,
}

/// What some steps took, together.
struct Taken {
    seconds: f64,
    /// How long they waited for images.
    waited: Duration,
}

impl Steps<'_> {
    /// Takes so many, as an epoch does.
    fn take(&self, trainer: &mut Trainer<'_>, count: usize) -> Result<Taken> {
        let order = self.loader.order(0);
        let places: Vec<usize> = order.into_iter().cycle().take(count * self.batch).collect();
        let upload = inputs::Upload::new(self.loader, self.device);
        let mut waited = Duration::ZERO;
        let seconds = clock::seconds(self.device, || {
            waited = self.loader.each_batch(places.chunks_exact(self.batch), 0, |batch| {
                let (images, labels) = upload.tensors(batch);
                trainer.step(Seen::Images(&images), &labels, RATE).map(drop)
            })?;
            Ok(())
        })?;
        Ok(Taken { seconds, waited })
    }
}

fn optimizer_seconds(device: Device, runs: usize, optimizer: &mut Optimizer, gradients: &[Tensor]) -> Result<f64> {
    optimizer.step(gradients, RATE);
    let mut steps = |count: usize| {
        clock::seconds(device, || {
            (0..count).for_each(|_| optimizer.step(gradients, RATE));
            Ok(())
        })
    };
    let count = clock::repetitions(steps(1)?);
    let times: Vec<f64> = (0..runs).map(|_| Ok(steps(count)? / count as f64)).collect::<Result<_>>()?;
    Ok(clock::median(times, |seconds| *seconds))
}

/// A whole step, operation by operation: whatever a trainer does to take its steps faster, this is what they compute.
fn whole(model: &Model<'_>, optimizer: &mut Optimizer, images: &Tensor, labels: &Tensor) -> Result<()> {
    let loss = model.loss(Seen::Images(images), labels);
    let gradients = loss.gradients(&total(&loss.terms), &model.learnable())?;
    optimizer.step(&gradients, RATE);
    f64::try_from(gradients[0].sum(Kind::Float)).map_err(torch).map(drop)
}
