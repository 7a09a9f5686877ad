//! Looks at a person's own pictures, as `maple-pipe predict` and `maple-pipe features` ask for it.

use std::path::Path;
use std::process::ExitCode;

use maple_pipe::data::{Indexed, Item, Loader, OnBadImage, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::evaluation::Prediction;
use maple_pipe::inference::{Answer, FeaturesNote, Request, Tower, What};
use maple_pipe::method::Precision;
use maple_pipe::stages::features::TENSOR;
use rayon::prelude::*;
use tch::{Device, Tensor, no_grad};

use crate::clip::{Clip, Weights};
use crate::device;
use crate::method::image_features;
use crate::question::{self, go_on, say};
use crate::stages::eval::predictions;
use crate::stages::prompted::Trained;
use crate::stages::unread::Unread;
use crate::stages::{inputs, models, start_threads};

/// What stands for the names of classes where only the image tower computes.
const NO_CLASS: &str = "image";

/// Reads a request from standard input and answers on standard output.
pub fn main() -> ExitCode {
    question::main(infer, Answer::Failed)
}

fn infer(request: Request) -> Result<Answer> {
    start_threads(request.threads)?;
    let (device, _) = device::open(request.device, request.numerics)?;
    match &request.what {
        What::Classes { prompt, class_names } => {
            let trained = Trained::read(prompt)?;
            let clip = load_for(&trained, &request, device)?;
            let model = trained.model(&clip, class_names)?;
            let evaluator = model.evaluator();
            let told = |items: Vec<&Indexed>, logits: Tensor| {
                for (item, Prediction { top, probabilities }) in predictions(vec![(items, logits)])? {
                    let top = top.into_iter().zip(probabilities).collect();
                    say(&Answer::Classes { image: item.path.clone(), top });
                }
                Ok(())
            };
            each_batch(&request, &clip, |images| evaluator.logits(images), told)?;
        }
        What::Features { tower: Tower::Plain(precision), output } => {
            let clip = load(&request, device, *precision, &[])?;
            features(&request, &clip, |images| image_features(&clip, images), output)?;
        }
        What::Features { tower: Tower::Prompted(prompt), output } => {
            let trained = Trained::read(prompt)?;
            let clip = load_for(&trained, &request, device)?;
            if trained.description.method.learner.has_plain_vision() {
                features(&request, &clip, |images| image_features(&clip, images), output)?;
            } else {
                let model = trained.model(&clip, &[NO_CLASS.to_owned()])?;
                features(&request, &clip, |images| no_grad(|| model.image_features(images)), output)?;
            }
        }
    }
    Ok(Answer::Done)
}

/// The CLIP model as a prompt's training left it.
fn load_for(trained: &Trained, request: &Request, device: Device) -> Result<Clip> {
    let method = &trained.description.method;
    load(request, device, method.precision, &method.clip_average())
}

fn load(request: &Request, device: Device, precision: Precision, average: &[f64]) -> Result<Clip> {
    models::load(&request.weights, &request.backbone, false, device, precision, average)
}

/// Writes image features `(images, embedding)` of any length, with the files that they are of.
fn features(request: &Request, clip: &Clip, compute: impl Fn(&Tensor) -> Tensor, output: &Path) -> Result<()> {
    let (mut rows, mut images) = (Vec::new(), Vec::new());
    each_batch(request, clip, compute, |items, features| {
        images.extend(items.iter().map(|item| item.path.clone()));
        rows.push(features.to_device(Device::Cpu));
        say(&Answer::Progress(images.len()));
        Ok(())
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let note = serde_json::to_string(&FeaturesNote { images }).map_err(|error| Error::invalid(error.to_string()))?;
    let features = (TENSOR.to_owned(), Tensor::cat(&rows, 0));
    Weights::from_tensors([features]).with_note(note).write(output)
}

/// Computes something of the images of each batch, and hands it on once the device has it. Says which images are left out.
fn each_batch(
    request: &Request,
    clip: &Clip,
    compute: impl Fn(&Tensor) -> Tensor,
    mut done: impl FnMut(Vec<&Indexed>, Tensor) -> Result<()>,
) -> Result<()> {
    let size = clip.backbone().preprocessing.size;
    let loader = Loader::new(Path::new(""), readable(&request.images), Transform::Evaluation { size }, 0, 0)
        .normalised_for(&clip.backbone().preprocessing)
        .on_bad_image(OnBadImage::Skip);
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let upload = inputs::Upload::new(&loader, clip.device());
    let mut unread = Unread::new(clip.device());
    loader.each_batch(places.chunks(inputs::batch_on(clip.device())), 0, |batch| {
        go_on()?;
        if batch.places.is_empty() {
            return Ok(());
        }
        let (images, _) = upload.tensors(batch);
        let items: Vec<&Indexed> = batch.places.iter().map(|&place| &loader.items()[place]).collect();
        unread.add((items, compute(&images))).into_iter().try_for_each(|(items, computed)| done(items, computed))
    })?;
    unread.take().into_iter().try_for_each(|(items, computed)| done(items, computed))?;
    loader.skipped().into_iter().for_each(|(_, message)| say(&Answer::LeftOut(message)));
    Ok(())
}

/// The images that can be read, with the digests of their files; says which cannot.
fn readable(images: &[String]) -> Vec<Indexed> {
    let read = |image: &String| {
        let bytes = std::fs::read(image).map_err(Error::io("read", image))?;
        let item = Item { path: image.clone(), label: 0, class_name: String::new() };
        Ok(Indexed::new(item, blake3::hash(&bytes).to_hex().to_string()))
    };
    let found: Vec<Result<Indexed>> = images.par_iter().map(read).collect();
    let or_say = |found: Result<Indexed>| found.map_err(|error| say(&Answer::LeftOut(error.to_string()))).ok();
    found.into_iter().filter_map(or_say).collect()
}
