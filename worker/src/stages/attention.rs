//! Runs an `attention` stage: the image tower on a few images, and what the class token attends to in its last block.

use std::collections::HashSet;

use tch::{Device, Kind, Tensor};

use super::inputs;
use super::prompted::Prompted;
use crate::Control;
use crate::clip::torch;
use maple_pipe::data::{Loader, OnBadImage, SplitPart, Transform};
use maple_pipe::error::{Error, Result};
use maple_pipe::evaluation::AttentionMap;
use maple_pipe::stages::attention::Attention;
use maple_pipe::stages::dataset::Index;
use maple_pipe::task::Task;
use maple_pipe::text::plural;

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let stage: Attention = task.parameters()?;
    let class_names: Vec<String> = task.json("dataset.classes")?;
    let (items, location) = inputs::images(task, SplitPart::Test, stage.classes)?;
    let prompted = Prompted::of(task, stage.method.as_ref(), &stage.backbone, device)?;
    let clip = &prompted.clip;
    let size = clip.backbone().preprocessing.size;
    let model = prompted.model(stage.classes.names(&class_names))?;
    let items = chosen(&items, stage.images.get());
    let loader = Loader::new(location, items.clone(), Transform::Evaluation { size }, 0, 0);
    let loader = inputs::ready(loader, task, clip, OnBadImage::Fail, control)?;
    let upload = inputs::Upload::new(&loader, device);
    let places: Vec<usize> = (0..items.len()).collect();
    let mut maps: Vec<AttentionMap> = Vec::new();
    loader.each_batch(places.chunks(inputs::batch_on(clip.device())), 0, |batch| {
        if control.is_stopping() {
            return Err(Error::Interrupted);
        }
        let attention = model.attention(&upload.tensors(batch).0).ok_or_else(|| {
            Error::hinted(
                "a ResNet has no class token, whose attention could be shown",
                "leave the stage out, or give weights of a vision transformer",
            )
        })?;
        let patches = (clip.architecture().image_size / clip.architecture().patch_size).pow(2) as usize;
        for (&place, shares) in batch.places.iter().zip(rows(&attention)?) {
            let item = &items[place];
            // The class token comes first, learned prompts behind the patches.
            let (of_patches, of_prompts) = shares[1..].split_at(patches);
            maps.push(AttentionMap {
                path: item.path.clone(),
                class: item.class_name.clone(),
                patches: of_patches.to_vec(),
                prompts: of_prompts.iter().sum(),
            });
        }
        Ok(())
    })?;
    if maps.is_empty() {
        return Err(Error::hinted(
            format!("the data set in `{}` has no test images of its {} classes", location.display(), stage.classes),
            "leave this data set out of the stage with `exclude`",
        ));
    }
    task.write_json("maps", &maps)?;
    Ok(plural(maps.len(), "image", "images"))
}

/// The first image of each of so many classes, at equal distances in the list of those that have images.
fn chosen(items: &Index, count: usize) -> Index {
    let mut seen = HashSet::new();
    let mut first: Index = items.iter().filter(|item| seen.insert(item.label)).cloned().collect();
    first.sort_by_key(|item| item.label);
    let count = count.min(first.len());
    (0..count).map(|place| first[place * first.len() / count].clone()).collect()
}

/// A matrix row by row.
fn rows(matrix: &Tensor) -> Result<Vec<Vec<f32>>> {
    let matrix = matrix.to_device(Device::Cpu).to_kind(Kind::Float);
    let width = matrix.size()[1] as usize;
    let numbers: Vec<f32> = Vec::try_from(matrix.reshape([-1])).map_err(torch)?;
    Ok(numbers.chunks(width).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use maple_pipe::data::{Indexed, Item};

    #[test]
    fn each_class_gives_its_first_image_at_equal_distances() {
        let image = |place: usize| {
            let item = Item { path: format!("{place}"), label: (7 * place + 3) % 10, class_name: String::new() };
            Indexed::new(item, String::new())
        };
        let items: Index = (0..30).map(image).collect();
        let chosen = |count: usize| chosen(&items, count).iter().map(|item| item.label).collect::<Vec<_>>();
        assert_eq!([chosen(4), chosen(1), chosen(99)], [vec![0, 2, 5, 7], vec![0], (0..10).collect()]);
        assert!(super::chosen(&items, 99).iter().all(|item| item.path.parse::<usize>().unwrap() < 10));
        assert!(super::chosen(&Index::new(), 4).is_empty());
    }
}
