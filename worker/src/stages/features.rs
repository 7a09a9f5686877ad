//! Runs a `features` stage: the image tower of plain CLIP, batch by batch.

use tch::{Device, Tensor};

use super::prompted::texts;
use super::unread::Unread;
use super::{inputs, models};
use crate::Control;
use crate::clip::{Tokenizer, Weights};
use crate::method::{Model, image_features};
use maple_pipe::data::{Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::features::{Features, TENSOR, TEXTS, Views};
use maple_pipe::task::Task;
use maple_pipe::text::plural;

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Features = task.parameters()?;
    let (items, location) = inputs::images(task, stage.split, stage.classes)?;
    let clip = models::clip(task, &stage.backbone, device, stage.precision)?;
    let size = clip.backbone().preprocessing.size;
    let (epochs, loader) = match stage.views {
        Some(Views { epochs, seed, augmentation }) => {
            let transform = Transform::Training { size, augmentation };
            (epochs.get(), Loader::new(location, items, transform, seed, inputs::CACHE_BYTES))
        }
        None => (1, Loader::new(location, items, Transform::Evaluation { size }, 0, 0)),
    };
    let loader = inputs::ready(loader, task, &clip, stage.on_bad_image, control)?;
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let (mut listed, mut features) = (Index::new(), Vec::new());
    let mut count = inputs::Count::new(control, places.len() * epochs as usize);
    let upload = inputs::Upload::new(&loader, device);
    let mut unread = Unread::new(device);
    for epoch in 0..epochs {
        loader.each_batch(places.chunks(inputs::batch_on(device)), epoch.into(), |batch| {
            if control.is_stopping() {
                return Err(Error::Interrupted);
            }
            if batch.places.is_empty() {
                return Ok(());
            }
            if epoch == 0 {
                listed.extend(batch.places.iter().map(|&place| loader.items()[place].clone()));
            }
            let (images, _) = upload.tensors(batch);
            let read = unread.add(image_features(&clip, &images));
            features.extend(read.iter().map(|features| features.to_device(Device::Cpu)));
            count.add(batch.places.len());
            Ok(())
        })?;
    }
    features.extend(unread.take().iter().map(|features| features.to_device(Device::Cpu)));
    if listed.is_empty() {
        return Err(Error::hinted(
            format!("the data set in `{}` has none of the images that are asked for", location.display()),
            "leave this data set out of the stage with `exclude`, or look at `split` and `classes`",
        ));
    }
    let features = Tensor::cat(&features, 0);
    let features = match stage.views {
        Some(_) => features.reshape([i64::from(epochs), listed.len() as i64, -1]),
        None => features,
    };
    let mut tensors = vec![(TENSOR.to_owned(), features)];
    if let Some(method) = &stage.method {
        let all_names: Vec<String> = task.json("dataset.classes")?;
        let (names, inputs) = (stage.classes.names(&all_names), texts(task, method)?);
        let model = Model::new(&clip, &Tokenizer::new(), method, names, &inputs, 0)?;
        let texts = model.evaluator().class_features();
        tensors.extend(texts.map(|texts| (TEXTS.to_owned(), texts.to_device(Device::Cpu))));
    }
    Weights::from_tensors(tensors).write(&task.output("features"))?;
    task.write_json("images", &listed)?;
    let views = stage.views.map_or_else(String::new, |views| format!(" in {} views", views.epochs));
    Ok(plural(listed.len(), "image", "images") + &views + &inputs::skipped(&loader))
}
