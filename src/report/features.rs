//! What the image tower of plain CLIP makes of test images, in a plane.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::materials::Materials;
use super::projection::Projection;
use crate::data::Indexed;
use crate::error::Result;
use crate::files::read_json;
use crate::kind::Section;
use crate::plot::{Plot, Series};
use crate::stages::features::{Features, TENSOR, TEXTS};
use crate::weights::{Array, Checkpoint};

/// Classes that a plot shows: as many as have a colour of their own.
const CLASSES: usize = 7;
/// Images of a class that a plot shows.
const IMAGES: usize = 40;
/// Characters of a class's name that fit beside a plot.
const NAME: usize = 24;

/// A plot for each `features` node of whole test images that is up to date: their features, each of length one, along the two
/// principal components of those that are shown.
pub(super) fn planes(materials: &Materials<'_>) -> Result<Vec<String>> {
    let mut plots = Vec::new();
    for (index, record) in materials.fresh() {
        let node = materials.graph.node(index);
        let is_whole = |stage: &Features| stage.views.is_none() && stage.split.is_test();
        if node.work.kind().section != Some(Section::Features) || !node.work.as_kind().is_some_and(is_whole) {
            continue;
        }
        let artifact = |output: &str| materials.store.artifact(&record.outputs[output]);
        let features = Checkpoint::read(&artifact("features")?)?;
        let images: Vec<Indexed> = read_json(&artifact("images")?)?;
        let Some(array) = features.tensors().get(TENSOR) else { continue };
        let (classes, count) = shown(&images);
        let places = classes.iter().flat_map(|class| &class.images);
        let chosen: Vec<Vec<f64>> = places.map(|&image| row(array, image)).collect();
        let Some(projection) = Projection::of(&chosen) else { continue };
        let mut points = projection.points.iter().map(|&[x, y]| (x, y).into());
        // Their mean is that of all classes, also of those that are not shown.
        let texts = features.tensors().get(TEXTS).map_or_else(Vec::new, |texts| {
            let all: Vec<Vec<f64>> = (0..texts.shape[0] as usize).map(|class| row(texts, class)).collect();
            projection.others(&all)
        });
        let text = |label: usize| texts.get(label).map(|&[x, y]| (x, y).into());
        let series: Vec<Series> = classes
            .iter()
            .enumerate()
            .map(|(colour, class)| Series {
                label: short(class.name),
                colour,
                points: points.by_ref().take(class.images.len()).collect(),
                marks: text(class.label).into_iter().collect(),
            })
            .collect();
        let name = materials.coordinate(index, "dataset").map_or_else(String::new, |name| materials.label(&name));
        let setting = materials.setting(index);
        let what = [name, setting].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
        let title = match count > classes.len() {
            true => format!("{what}: {} of {count} classes", classes.len()),
            false => format!("{what}: all {count} classes"),
        };
        let [x, y] = projection.shares.map(|share| format!("component with {:.0} % of the variance", 100.0 * share));
        plots.extend(Plot { title: &title, x: &x, y: &y, series: &series, joined: false }.svg());
    }
    Ok(plots)
}

/// A class that is shown.
struct Class<'a> {
    label: usize,
    name: &'a str,
    /// The places of those of its images that are shown.
    images: Vec<usize>,
}

/// The classes that are shown, and how many there are: classes and images at equal distances in their lists.
fn shown(images: &[Indexed]) -> (Vec<Class<'_>>, usize) {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, image) in images.iter().enumerate() {
        classes.entry(image.label).or_default().push(place);
    }
    let all: Vec<(usize, Vec<usize>)> = classes.into_iter().collect();
    let class = |(label, places): &(usize, Vec<usize>)| Class {
        label: *label,
        name: &images[places[0]].class_name,
        images: spaced(places, IMAGES).copied().collect(),
    };
    (spaced(&all, CLASSES).map(class).collect(), all.len())
}

/// A row of a matrix as a vector of length one.
fn row(matrix: &Array, place: usize) -> Vec<f64> {
    let length = matrix.bytes.len() / (matrix.shape[0].max(1) as usize);
    let bytes = matrix.bytes.slice(place * length..(place + 1) * length);
    let wide = Array { bytes, shape: Vec::new(), ..*matrix }.to_float(Dtype::F64);
    normalised(wide.bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// At most so many of a list, at equal distances.
fn spaced<T>(list: &[T], most: usize) -> impl Iterator<Item = &T> {
    let count = list.len().min(most);
    (0..count).map(move |place| &list[place * list.len() / count])
}

/// The same direction with length one.
fn normalised(feature: Vec<f64>) -> Vec<f64> {
    let length = feature.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    feature.into_iter().map(|value| value / length).collect()
}

/// A name that fits beside a plot, with blanks in place of underscores.
fn short(name: &str) -> String {
    let name = name.replace('_', " ");
    match name.chars().count() > NAME {
        // Names often end with what tells them apart.
        true => {
            let end = name.chars().count() - NAME / 2;
            name.chars().take(NAME / 2 - 1).chain(['…']).chain(name.chars().skip(end)).collect()
        }
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_images_are_taken_at_equal_distances() {
        let image = |place: usize, label: usize| Indexed {
            path: format!("{place}.jpg"),
            label,
            class_name: format!("class {label}"),
            digest: String::new(),
        };
        // 20 classes in turns, of which class 0 has 100 images more.
        let images: Vec<Indexed> =
            (0..100).map(|place| image(place, place % 20)).chain((100..200).map(|place| image(place, 0))).collect();
        let (classes, count) = shown(&images);
        let names: Vec<&str> = classes.iter().map(|class| class.name).collect();
        assert_eq!(
            (names.join(" "), count),
            ("class 0 class 2 class 5 class 8 class 11 class 14 class 17".to_owned(), 20)
        );
        assert_eq!((classes[0].images.len(), &classes[1].images[..]), (IMAGES, &[2, 22, 42, 62, 82][..]));
        assert_eq!(
            (short("annual_crop"), short("Boeing 737-800 of a long-haul airline")),
            ("annual crop".into(), "Boeing 737-…haul airline".into())
        );
    }
}
