//! Contrastive pretraining of a small CLIP on captioned pictures, for the quickstart and the tests.
//!
//! The loss is CLIP's: symmetric cross-entropy over the products of a batch's images and texts, with a learned scale of
//! at most 100 (Radford et al. 2021, section 2.3); AdamW, linear warm-up, cosine decay to nothing. Only the rows of the
//! token embedding whose words occur in captions are trained; the others keep their initial values.

mod captions;
mod initial;
mod replicas;

use crate::Control;
use crate::clip::Weights;
use crate::method::Optimizer;
use crate::method::state::copy_into;
use captions::Captioned;
#[cfg(test)]
pub(super) use initial::weights as random_weights;
use maple_pipe::backbone::Backbone;
use maple_pipe::data::random;
use maple_pipe::error::{Error, Result};
use maple_pipe::files::write_atomically;
use maple_pipe::method::Pretraining;
use maple_pipe::task::Progress;
use maple_pipe::terminal;
use replicas::Replicas;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// How much of AdamW's two running means is kept a step, and its epsilon, as CLIP's vision transformers were trained
/// (table 20 of its paper).
const BETAS: [f64; 2] = [0.9, 0.98];
const EPS: f64 = 1e-6;
/// The largest `logit_scale`: ln 100.
const GREATEST_LOGIT_SCALE: f64 = 4.605_170_185_988_092;
/// The logarithm of the logits' factor.
const LOGIT_SCALE: &str = "logit_scale";
/// The one tensor that is trained in part.
const TOKEN_EMBEDDING: &str = "token_embedding.weight";
/// The file in the resume folder.
const STATE: &str = "pretraining.safetensors";

/// What a state file says about itself.
#[derive(Serialize, Deserialize)]
struct Note {
    position: Position,
    pretraining: Pretraining,
}

/// Where a pretraining stands: whole epochs, and the steps of the next one.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Position {
    epochs: usize,
    steps: usize,
    /// The mean loss of those steps, as far as it has grown.
    loss: f64,
}

/// Trains on the captioned pictures in `captioned` and returns the weights in fp16 under OpenAI's key names.
///
/// The state is kept in `resume` after every epoch, and when `control` asks to stop; a run that finds its own state there continues, with the same
/// result as if it had never stopped.
///
/// # Errors
/// [`Error::Interrupted`] when asked to stop. When pictures, captions or the state cannot be read or written, or there are fewer pictures than a batch holds.
pub fn run(
    pretraining: &Pretraining,
    captioned: &Path,
    resume: &Path,
    device: Device,
    control: Control<'_>,
) -> Result<Weights> {
    let Pretraining { seed, architecture, epochs, batch_size, weight_decay, crop, .. } = *pretraining;
    let backbone = Backbone::openai(architecture);
    let data = Captioned::read(captioned, &backbone)?;
    let steps = data.len().checked_div(batch_size).unwrap_or_default();
    if steps == 0 || batch_size < 2 {
        let message = format!("`{}` has {} pictures, for batches of {batch_size}", captioned.display(), data.len());
        return Err(Error::hinted(message, "set `batch_size` between 2 and the number of pictures"));
    }
    let words = Tensor::from_slice(&data.words);
    let mut initial = initial::weights(&architecture, seed);
    let whole_table = take_words(&mut initial, &words);
    let leaf = |tensor: Tensor| tensor.to_device(device).set_requires_grad(true);
    let parameters: Vec<(String, Tensor)> = initial.into_iter().map(|(name, tensor)| (name, leaf(tensor))).collect();
    let mut replicas = Replicas::new(&parameters, device)?;
    let mut optimizer = optimizer(&parameters, weight_decay);
    let path = resume.join(STATE);
    let mut position = restore(pretraining, &path, &state(&parameters, &optimizer))?;
    for epoch in position.epochs..epochs {
        let started = Instant::now();
        let order = random::order(&mut random::generator(seed, "pretraining order", epoch as u64, 0), data.len());
        let resumed = position.steps;
        for (step, batch) in order.chunks_exact(batch_size).enumerate().skip(resumed) {
            if control.is_stopping() {
                save(&path, &state(&parameters, &optimizer), pretraining, position)?;
                return Err(Error::Interrupted);
            }
            let learning_rate = schedule(pretraining, epoch * steps + step, steps);
            let draw = |part: &[usize]| {
                let pixels = data.pixels(part, backbone.preprocessing.size, crop, seed, epoch as u64);
                (pixels.to_device(device), data.tokens(part).to_device(device))
            };
            let (batch_loss, gradients) = replicas.gradients(batch, draw);
            optimizer.step(&gradients, learning_rate);
            clamp_scale(&parameters);
            position.steps += 1;
            position.loss += batch_loss / steps as f64;
        }
        let loss = position.loss;
        position = Position { epochs: epoch + 1, ..Position::default() };
        save(&path, &state(&parameters, &optimizer), pretraining, position)?;
        let learning_rate = schedule(pretraining, (epoch + 1) * steps - 1, steps);
        let images_per_second = ((steps - resumed) * batch_size) as f64 / started.elapsed().as_secs_f64();
        control.progress(Progress::Epoch { epoch: epoch + 1, epochs, loss, learning_rate, images_per_second });
    }
    Ok(finished(&parameters, whole_table, &words))
}

/// AdamW, in which weights (two axes or more) decay; biases, gains and scales do not.
fn optimizer(parameters: &[(String, Tensor)], weight_decay: f64) -> Optimizer {
    let decays = parameters.iter().map(|(_, tensor)| if tensor.dim() >= 2 { weight_decay } else { 0.0 });
    let learned = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    Optimizer::adamw(learned.collect(), BETAS, EPS, decays.collect())
}

/// Everything that the next step starts from: the weights and what the optimizer keeps.
fn state(parameters: &[(String, Tensor)], optimizer: &Optimizer) -> Vec<(String, Tensor)> {
    let weights = parameters.iter().map(|(name, tensor)| (format!("tensor.{name}"), tensor.detach()));
    weights.chain(optimizer.state()).collect()
}

/// Takes up the state of this very run, if there is one; where that stands.
fn restore(pretraining: &Pretraining, path: &Path, tensors: &[(String, Tensor)]) -> Result<Position> {
    if !path.exists() {
        return Ok(Position::default());
    }
    let Ok(state) = Weights::read(path) else {
        terminal::warn(&format!("pretraining starts over: `{}` cannot be read", path.display()));
        return Ok(Position::default());
    };
    let note: Option<Note> = state.note().and_then(|note| serde_json::from_str(note).ok());
    match note {
        Some(note) if note.pretraining == *pretraining => {
            copy_into(tensors, &state)?;
            Ok(note.position)
        }
        _ => Ok(Position::default()),
    }
}

/// The learning rate of a step, counted from 0: up in a line, then down along half a cosine.
fn schedule(pretraining: &Pretraining, step: usize, steps_per_epoch: usize) -> f64 {
    let Pretraining { learning_rate, warmup_epochs, epochs, .. } = *pretraining;
    let warmup = (warmup_epochs * steps_per_epoch as f64).round();
    let (step, all) = (step as f64, (epochs * steps_per_epoch) as f64);
    if step < warmup {
        return learning_rate * (step + 1.0) / warmup;
    }
    let done = (step - warmup) / (all - warmup);
    0.5 * learning_rate * (1.0 + libm::cos(std::f64::consts::PI * done))
}

/// Replaces the token embedding by its rows for `words`; returns the whole of it.
fn take_words(weights: &mut [(String, Tensor)], words: &Tensor) -> Tensor {
    let table = weights.iter_mut().find(|(name, _)| name == TOKEN_EMBEDDING);
    let (_, table) = table.unwrap_or_else(|| unreachable!("every CLIP has `{TOKEN_EMBEDDING}`"));
    let rows = table.index_select(0, words);
    std::mem::replace(table, rows)
}

/// Keeps the logits' factor at most 100.
fn clamp_scale(parameters: &[(String, Tensor)]) {
    for (_, tensor) in parameters.iter().filter(|(name, _)| name == LOGIT_SCALE) {
        let _ = tch::no_grad(|| tensor.shallow_clone().clamp_max_(GREATEST_LOGIT_SCALE));
    }
}

/// Writes the state, whole or not at all.
fn save(path: &Path, state: &[(String, Tensor)], pretraining: &Pretraining, position: Position) -> Result<()> {
    let note = Note { position, pretraining: pretraining.clone() };
    let note = serde_json::to_string(&note).map_err(|error| Error::invalid(error.to_string()))?;
    let tensors = state.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    write_atomically(path, &Weights::from_tensors(tensors).with_note(note).to_bytes()?)
}

/// The trained weights in fp16, with all rows of the token embedding.
fn finished(parameters: &[(String, Tensor)], whole_table: Tensor, words: &Tensor) -> Weights {
    let tensors = parameters.iter().map(|(name, tensor)| {
        let tensor = tensor.detach().to_device(Device::Cpu);
        let tensor = match name.as_str() {
            TOKEN_EMBEDDING => whole_table.index_copy(0, words, &tensor),
            _ => tensor,
        };
        (name.clone(), tensor.to_kind(Kind::Half))
    });
    Weights::from_tensors(tensors)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;

    use super::*;
    use crate::clip::{Architecture, Clip, VisionLayers};
    use crate::device::of_tests;
    use maple_pipe::data::world::World;
    use maple_pipe::method::Precision;
    use maple_pipe::numerics::Numerics;

    fn pretraining() -> Pretraining {
        let architecture = Architecture {
            vision_width: 64,
            vision_layers: VisionLayers::Transformer(1),
            text_layers: 1,
            ..Architecture::tiny()
        };
        Pretraining {
            seed: 1,
            architecture,
            epochs: 3,
            batch_size: 8,
            learning_rate: 1e-3,
            warmup_epochs: 0.5,
            weight_decay: 0.1,
            crop: [0.7, 1.0],
            numerics: Numerics::Native,
        }
    }

    fn captioned() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let parameters = serde_json::json!({ "dataset": "captioned", "captioned": 20, "size": 32 });
        World { parameters: serde_json::from_value(parameters).unwrap() }.write(folder.path()).unwrap();
        folder
    }

    /// The weights' bytes of a run with this many threads.
    fn bytes(threads: usize, captioned: &Path, resume: &Path, progress: &(dyn Fn(Progress) + Sync)) -> Vec<u8> {
        tch::set_num_threads(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let job = || run(&pretraining(), captioned, resume, of_tests(), control(progress))?.to_bytes();
        pool.install(job).unwrap()
    }

    /// Nobody asks to stop.
    fn control(progress: &dyn Fn(Progress)) -> Control<'_> {
        Control::new(progress, &|| false)
    }

    #[test]
    fn a_stop_within_an_epoch_changes_nothing() {
        let captioned = captioned();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = bytes(1, captioned.path(), whole.path(), &|_| ());
        // An epoch has two steps. Asked at the first step it would never get anywhere; at the second it makes one.
        let mut stops = 0;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let weights = loop {
            let job = || {
                let steps = Cell::new(0);
                let stop = || steps.replace(steps.get() + 1) == 1;
                let control = Control::new(&|_| (), &stop);
                run(&pretraining(), captioned.path(), stopped.path(), of_tests(), control)?.to_bytes()
            };
            match pool.install(job) {
                Ok(weights) => break weights,
                Err(Error::Interrupted) => stops += 1,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(stops, 5);
        assert!(weights == expected);
    }

    #[test]
    fn neither_a_stop_nor_the_number_of_threads_changes_the_weights() {
        let captioned = captioned();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let losses = Mutex::new(Vec::new());
        let expected = bytes(2, captioned.path(), whole.path(), &|progress| {
            let Progress::Epoch { epoch, loss, .. } = progress else { unreachable!("a pretraining counts epochs") };
            losses.lock().unwrap().push(loss);
            if epoch == 1 {
                std::fs::copy(whole.path().join(STATE), stopped.path().join(STATE)).unwrap();
            }
        });
        let losses = losses.into_inner().unwrap();
        assert!(losses.len() == 3 && losses[2] < losses[0], "{losses:?}");
        let epochs = Mutex::new(Vec::new());
        let resumed =
            bytes(1, captioned.path(), stopped.path(), &|progress| epochs.lock().unwrap().push(progress.done()));
        assert_eq!(*epochs.lock().unwrap(), [2, 3]);
        assert!(resumed == expected);
    }

    #[test]
    fn the_weights_are_a_clip_in_half_precision() {
        let (captioned, resume) = (captioned(), tempfile::tempdir().unwrap());
        let weights = run(&pretraining(), captioned.path(), resume.path(), of_tests(), control(&|_| ())).unwrap();
        assert!(weights.iter().all(|(_, tensor)| tensor.kind() == Kind::Half));
        let backbone = Backbone::openai(pretraining().architecture);
        let clip = Clip::from_weights(&weights, &backbone, of_tests(), Precision::Fp32).unwrap();
        assert_eq!(weights.shapes().architecture().unwrap(), clip.backbone().architecture);
    }

    #[test]
    fn too_few_pictures_for_a_batch_are_refused() {
        let (captioned, resume) = (captioned(), tempfile::tempdir().unwrap());
        let mut pretraining = pretraining();
        pretraining.batch_size = 21;
        let refused = run(&pretraining, captioned.path(), resume.path(), of_tests(), control(&|_| ()));
        assert!(refused.unwrap_err().to_string().contains("has 20 pictures"));
    }

    #[test]
    fn the_learning_rate_rises_then_falls_to_nothing() {
        let pretraining = pretraining();
        let rates: Vec<f64> = (0..30).map(|step| schedule(&pretraining, step, 10)).collect();
        assert_eq!(rates[4], 1e-3);
        assert_eq!(rates[0], 2e-4);
        assert!(rates[4..].is_sorted_by(|a, b| a >= b) && rates[29] < 1e-5, "{rates:?}");
    }
    #[test]
    fn biases_do_not_decay() {
        let parameters =
            [("weight", Tensor::from_slice(&[2.0f64]).reshape([1, 1])), ("bias", Tensor::from_slice(&[2.0f64]))]
                .map(|(name, tensor)| (name.to_owned(), tensor));
        let nothing: Vec<Tensor> = parameters.iter().map(|(_, tensor)| tensor.zeros_like()).collect();
        optimizer(&parameters, 0.1).step(&nothing, 0.01);
        let values = parameters.map(|(_, tensor)| tensor.sum(Kind::Double).double_value(&[]));
        assert!((values[0] - 1.998).abs() < 1e-12 && values[1] == 2.0, "{values:?}");
    }
}
