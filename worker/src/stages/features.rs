//! Runs a `features` stage: the image tower of plain CLIP, batch by batch.

use tch::{Device, Tensor};

use super::inputs;
use super::unread::Unread;
use crate::Control;
use crate::clip::Weights;
use crate::method::image_features;
use maple_pipe::data::{Loader, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::stages::dataset::Index;
use maple_pipe::stages::features::Features;
use maple_pipe::task::Task;
use maple_pipe::text::plural;

/// The tensor of the file, `(images, embedding)`.
pub(super) const FEATURES: &str = "features";

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Features = task.parameters()?;
    let (items, location) = inputs::images(task, stage.split, stage.classes)?;
    let clip = inputs::clip(task, &stage.backbone, device, stage.precision)?;
    let size = clip.backbone().preprocessing.size;
    let loader = Loader::new(location, items, Transform::Evaluation { size }, 0, 0);
    let loader = inputs::ready(loader, task, &clip, stage.on_bad_image, control)?;
    let places: Vec<usize> = (0..loader.items().len()).collect();
    let (mut listed, mut features) = (Index::new(), Vec::new());
    let mut count = inputs::Count::new(control, places.len());
    let upload = inputs::Upload::new(&loader, device);
    let mut unread = Unread::new(device);
    loader.each_batch(places.chunks(inputs::BATCH), 0, |batch| {
        if control.is_stopping() {
            return Err(Error::Interrupted);
        }
        if batch.places.is_empty() {
            return Ok(());
        }
        listed.extend(batch.places.iter().map(|&place| loader.items()[place].clone()));
        let (images, _) = upload.tensors(batch);
        let read = unread.add(image_features(&clip, &images));
        features.extend(read.iter().map(|features| features.to_device(Device::Cpu)));
        count.add(batch.places.len());
        Ok(())
    })?;
    features.extend(unread.take().iter().map(|features| features.to_device(Device::Cpu)));
    if listed.is_empty() {
        return Err(Error::hinted(
            format!("the data set in `{}` has none of the images that are asked for", location.display()),
            "leave this data set out of the stage with `exclude`, or look at `split` and `classes`",
        ));
    }
    let features = Tensor::cat(&features, 0);
    Weights::from_tensors([(FEATURES.to_owned(), features)]).write(&task.output("features"))?;
    task.write_json("images", &listed)?;
    Ok(plural(listed.len(), "image", "images") + &inputs::skipped(&loader))
}
