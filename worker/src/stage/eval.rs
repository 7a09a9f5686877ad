//! Runs an `eval` stage: text features once, then logits of every test image, batch by batch.

use crate::Control;
use crate::clip::{Tokenizer, Weights, torch};
use crate::method::{Model, prompt};
use maple_pipe::data::{Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::Learner;
use maple_pipe::stage::{Eval, Index, Metrics, Task, Template, test_output};

/// Test images a batch, as in the published code.
const BATCH: usize = 100;

pub(super) fn run(task: &Task, stage: &Eval, control: Control<'_>) -> Result<String> {
    let all_names: Vec<String> = task.json("dataset.classes")?;
    let class_names = stage.classes.names(&all_names);
    let tokenizer = Tokenizer::new();
    let clip;
    let model = match &stage.method {
        Some(method) => {
            let template = match method.learner {
                Learner::ZeroShot { dataset_template: true, .. } => task.json::<Template>("dataset.template")?,
                _ => String::new(),
            };
            clip = super::clip(task, method.precision)?;
            Model::new(&clip, &tokenizer, method, class_names, &template, 0)?
        }
        None => {
            let trained = Weights::read(&task.one("prompt.prompt").path)?;
            let description = prompt::describe(&trained)?;
            clip = super::clip(task, description.method.precision)?;
            let mut model = Model::new(&clip, &tokenizer, &description.method, class_names, "", 0)?;
            prompt::unpack(&trained, &description, &mut model, class_names)?;
            model
        }
    };
    let items: Index = task.json(&format!("dataset.{}", test_output(stage.classes)))?;
    if items.is_empty() {
        return Err(Error::invalid("there are no test images of these classes"));
    }
    let size = clip.architecture().image_size as u32;
    let loader = Loader::new(&task.one("dataset.location").path, items, Transform::Evaluation { size }, 0, 0);
    let evaluator = model.evaluator();
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let mut correct = 0;
    for places in places.chunks(BATCH) {
        if control.is_stopping() {
            return Err(Error::Interrupted);
        }
        let (images, labels) = super::train::tensors(loader.batch(places, 0)?, clip.device());
        let predictions = evaluator.logits(&images).argmax(-1, false);
        correct += i64::try_from(predictions.eq_tensor(&labels).sum(tch::Kind::Int64)).map_err(torch)? as usize;
    }
    let total = loader.items().len();
    let accuracy = 100.0 * correct as f64 / total as f64;
    task.write_json("metrics", &Metrics { classes: stage.classes, accuracy, correct, total })?;
    Ok(format!("accuracy {accuracy:.1}"))
}
