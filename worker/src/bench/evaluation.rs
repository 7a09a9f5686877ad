//! The evaluation of a learner beside the image tower alone, in turns.

use maple_pipe::error::Result;
use maple_pipe::measurement::{Answer, EvaluationFigures};
use tch::{Device, Kind, Tensor};

use super::clock;
use super::subject::Subject;
use crate::method::image_features;
use crate::question::{go_on, say};
use crate::stages::inputs;

/// Measures the evaluation of a learner.
pub(super) fn measure(subject: &Subject<'_>) -> Result<EvaluationFigures> {
    let (request, device) = (subject.request, subject.device());
    let images = images(subject);
    let batch = images.size()[0] as usize;
    let model = subject.fitted(subject.sample())?;
    let text = || {
        drop(model.evaluator());
        Ok(())
    };
    text()?;
    let text_seconds = clock::seconds(device, text)?;
    let evaluator = model.evaluator();

    let tower = || {
        read(image_features(&subject.clip, &images));
        Ok(())
    };
    let learner = || {
        read(evaluator.logits(&images));
        Ok(())
    };
    learner()?;
    let count = clock::repetitions(clock::seconds(device, tower)?);
    let group = |work: &dyn Fn() -> Result<()>| clock::seconds(device, || (0..count).try_for_each(|_| work()));
    let turns: Vec<[f64; 2]> =
        (0..request.runs).map(|_| Ok([group(&learner)?, group(&tower)?])).collect::<Result<_>>()?;
    let ratio = clock::median(turns.clone(), |[learner, tower]| tower / learner);
    let rate = |place: usize| {
        let middle = clock::median(turns.clone(), |turn| turn[place]);
        (batch * count) as f64 / middle[place]
    };
    let peak_bytes = subject.peak_bytes();
    let features_images_per_second = match model.has_plain_vision() {
        false => None,
        true => {
            let features = image_features(&subject.clip, &images);
            let compare = || {
                read(evaluator.logits_of_features(&features));
                Ok(())
            };
            Some(batch as f64 / clock::median_seconds(device, request.runs, &compare)?)
        }
    };
    Ok(EvaluationFigures {
        batch,
        images_per_second: rate(0),
        tower_images_per_second: rate(1),
        ratio: ratio[1] / ratio[0],
        features_images_per_second,
        text_seconds,
        peak_bytes,
        model_seconds: subject.model_seconds,
    })
}

/// A batch of images.
fn images(subject: &Subject<'_>) -> Tensor {
    let device = subject.device();
    let batch = subject.request.batch.unwrap_or_else(|| inputs::batch_on(device)) as i64;
    let size = i64::from(subject.clip.backbone().preprocessing.size);
    Tensor::randn([batch, 3, size, size], (Kind::Float, device))
}

/// Reads what comes out, which waits for it.
fn read(tensor: Tensor) {
    drop(tensor.to_device(Device::Cpu));
}

/// Evaluates until nobody listens.
pub(super) fn keep_on(subject: &Subject<'_>) -> Result<Answer> {
    let model = subject.fitted(subject.sample())?;
    let (evaluator, images) = (model.evaluator(), images(subject));
    read(evaluator.logits(&images));
    say(&Answer::Busy);
    loop {
        go_on()?;
        read(evaluator.logits(&images));
    }
}
