//! Steps of a training, with images that are loaded as a training loads them, or with features in their place; and the parts of
//! a step, each apart.

use std::cell::RefCell;
use std::time::Duration;

use maple_pipe::data::Loader;
use maple_pipe::error::{Error, Result};
use maple_pipe::measurement::{Answer, StepFigures};
use maple_pipe::method::Training;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use super::subject::Subject;
use super::{clock, peak, pictures};
use crate::clip::torch;
use crate::counting;
use crate::method::{Model, Optimizer, Sample, Seen, Trainer, total};
use crate::question::{go_on, say};
use crate::stages::inputs;

/// Pictures at least, so that a batch is not always the same.
const PICTURES: usize = 32;
/// The learning rate: the learned tensors move, and never far.
const RATE: f64 = 1e-6;

/// Measures the training of a learner.
pub(super) fn measure(subject: &Subject<'_>) -> Result<StepFigures> {
    let (request, training, device) = (subject.request, training(subject)?, subject.device());
    let (mut trainer, source) = start(subject)?;
    let (first, labels) = source.first(device)?;
    let batch = first.size()[0] as usize;
    let Taken { seconds, waited } = source.a_step(&mut trainer, source.seen(&first), device, request.runs)?;
    let peak_bytes = subject.peak_bytes();
    let mut kernels = None;
    if device != Device::Cpu {
        let (taken, counted) = counting::kernels(|| source.take(&mut trainer, 1, device));
        taken?;
        kernels = counted;
    }

    let image_features = match &source {
        Source::Features(..) => first.shallow_clone(),
        Source::Pictures { .. } => tch::no_grad(|| trainer.model().image_features(&first)),
    };
    let feature_seconds = match (&source, trainer.model().has_plain_vision()) {
        (Source::Pictures { .. }, true) => {
            let features = Source::Features(image_features.shallow_clone(), labels.shallow_clone());
            Some(features.a_step(&mut trainer, Seen::Features(&image_features), device, request.runs)?.seconds)
        }
        _ => None,
    };
    let model = trainer.model();
    let learnable = model.moving();
    let image_seconds = match &source {
        Source::Features(..) => 0.0,
        Source::Pictures { .. } => {
            let image = || model.image_pass(&first).go_back(&learnable);
            clock::recorded_seconds(device, request.runs, &image)?
        }
    };
    let text = || model.text_pass(&image_features).map_or(Ok(()), |loss| loss.go_back(&learnable));
    let text_seconds = match model.text_pass(&image_features) {
        Some(_) => clock::recorded_seconds(device, request.runs, &text)?,
        None => 0.0,
    };
    let optimizer = RefCell::new(Optimizer::new(model.moving(), training));
    let gradients: Vec<Tensor> = learnable.iter().map(|(_, tensor)| tensor.zeros_like().detach()).collect();
    let optimizer_seconds = clock::recorded_seconds(device, request.runs, &|| {
        optimizer.borrow_mut().step(&gradients, RATE);
        Ok(())
    })?;
    let mut optimizer = optimizer.into_inner();
    let (counted, all) = counting::operations(|| whole(model, &mut optimizer, source.seen(&first), &labels));
    counted?;
    Ok(StepFigures {
        batch,
        seconds,
        feature_seconds,
        image_seconds,
        text_seconds,
        flops: all.flops,
        peak_flops_per_second: peak::flops_per_second(device, request.method.precision, request.threads, request.runs)?,
        peak_bytes,
        optimizer_seconds,
        waiting_seconds: waited.as_secs_f64(),
        operations: all.operations,
        kernels,
        model_seconds: subject.model_seconds,
    })
}

/// Takes steps until nobody listens.
pub(super) fn keep_on(subject: &Subject<'_>) -> Result<Answer> {
    let device = subject.device();
    let (mut trainer, source) = start(subject)?;
    let (first, _) = source.first(device)?;
    let mut count = trainer.steps_to_full_speed(source.seen(&first));
    source.take(&mut trainer, count, device)?;
    say(&Answer::Busy);
    loop {
        go_on()?;
        count = clock::repetitions(source.take(&mut trainer, count, device)?.seconds / count as f64);
    }
}

fn training<'s>(subject: &'s Subject<'_>) -> Result<&'s Training> {
    let training = subject.request.method.training.as_ref();
    training.ok_or_else(|| Error::invalid("this method is not trained, so it has no steps"))
}

/// A trainer, and what its steps see.
fn start<'s>(subject: &'s Subject<'_>) -> Result<(Trainer<'s>, Source)> {
    let training = training(subject)?;
    let batch = subject.request.batch.unwrap_or(training.batch_size as usize);
    let sample = subject.sample();
    let source = match &sample {
        Some(sample) => Source::of_features(sample, batch),
        None => Source::of_pictures(subject, batch)?,
    };
    Ok((Trainer::new(subject.fitted(sample)?, training, subject.request.method.precision), source))
}

/// What steps see.
enum Source {
    /// Pictures in a folder, so many at a time.
    Pictures { loader: Box<Loader>, batch: usize, _folder: TempDir },
    /// Features `(B, embedding)` with labels `(B,)`, always the same.
    Features(Tensor, Tensor),
}

/// What a step took, or some together.
struct Taken {
    seconds: f64,
    /// How long they waited for images.
    waited: Duration,
}

impl Source {
    fn of_pictures(subject: &Subject<'_>, batch: usize) -> Result<Source> {
        let pictures = batch.max(PICTURES);
        let preprocessing = &subject.clip.backbone().preprocessing;
        let (loader, _folder) = pictures::loader(pictures, subject.request.classes, preprocessing)?;
        // Decodes all pictures, which are kept then.
        loader.batch(&(0..pictures).collect::<Vec<_>>(), 0)?;
        Ok(Source::Pictures { loader: Box::new(loader), batch, _folder })
    }

    /// Those of a sample, again and again if it has fewer than a batch.
    fn of_features(sample: &Sample, batch: usize) -> Source {
        let places = Tensor::arange(batch as i64, (Kind::Int64, sample.labels.device()));
        let places = places.remainder(sample.labels.size()[0]);
        let [features, labels] = [&sample.views.get(0), &sample.labels].map(|tensor| tensor.index_select(0, &places));
        Source::Features(features, labels)
    }

    /// What the first step sees, and its labels.
    fn first(&self, device: Device) -> Result<(Tensor, Tensor)> {
        match self {
            Source::Features(features, labels) => Ok((features.shallow_clone(), labels.shallow_clone())),
            Source::Pictures { loader, batch, .. } => {
                let places: Vec<usize> = (0..*batch).collect();
                Ok(inputs::Upload::new(loader, device).tensors(&loader.batch(&places, 0)?))
            }
        }
    }

    fn seen<'t>(&self, tensor: &'t Tensor) -> Seen<'t> {
        match self {
            Source::Features(..) => Seen::Features(tensor),
            Source::Pictures { .. } => Seen::Images(tensor),
        }
    }

    /// What one step takes, of many: the median of `runs` groups. Libraries choose their ways in the first ones, which do not
    /// count.
    fn a_step(&self, trainer: &mut Trainer<'_>, seen: Seen<'_>, device: Device, runs: usize) -> Result<Taken> {
        self.take(trainer, trainer.steps_to_full_speed(seen), device)?;
        let count = clock::repetitions(self.take(trainer, 1, device)?.seconds);
        let taken: Vec<Taken> = (0..runs).map(|_| self.take(trainer, count, device)).collect::<Result<_>>()?;
        let Taken { seconds, waited } = clock::median(taken, |taken| taken.seconds);
        Ok(Taken { seconds: seconds / count as f64, waited: waited / count as u32 })
    }

    /// Takes so many steps, as an epoch does.
    fn take(&self, trainer: &mut Trainer<'_>, count: usize, device: Device) -> Result<Taken> {
        let mut waited = Duration::ZERO;
        let seconds = clock::seconds(device, || {
            match self {
                Source::Features(features, labels) => {
                    (0..count).try_for_each(|_| trainer.step(Seen::Features(features), labels, RATE).map(drop))?;
                }
                Source::Pictures { loader, batch, .. } => {
                    let places: Vec<usize> = loader.order(0).into_iter().cycle().take(count * batch).collect();
                    let upload = inputs::Upload::new(loader, device);
                    waited = loader.each_batch(places.chunks_exact(*batch), 0, |batch| {
                        let (images, labels) = upload.tensors(batch);
                        trainer.step(Seen::Images(&images), &labels, RATE).map(drop)
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(Taken { seconds, waited })
    }
}

/// A whole step, operation by operation: whatever a trainer does to take its steps faster, this is what they compute.
fn whole(model: &Model<'_>, optimizer: &mut Optimizer, seen: Seen<'_>, labels: &Tensor) -> Result<()> {
    let loss = model.loss(seen, labels);
    let gradients = loss.gradients(&total(&loss.terms), &model.moving())?;
    optimizer.step(&gradients, RATE);
    f64::try_from(gradients[0].sum(Kind::Float)).map_err(torch).map(drop)
}
