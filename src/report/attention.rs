//! Where class tokens look in example images, over the images.

use image::imageops::FilterType;
use image::{GrayImage, ImageBuffer, Luma, Pixel, RgbImage};

use super::materials::Materials;
use super::thumbnail::{SIDE, encoded, picture};
use crate::data::{Transform, random};
use crate::error::Result;
use crate::evaluation::AttentionMap;
use crate::files::read_json;
use crate::kind::Section;

/// The colour of what gets most attention, and how much of it lies over the image there.
const COLOUR: [f32; 3] = [255.0, 120.0, 0.0];
const COVER: f32 = 0.75;
/// The darkest and the brightest grey of the image below it.
const GREYS: [f32; 2] = [60.0, 215.0];

/// Images of a data set, and where methods look in them.
#[derive(Debug)]
pub struct DatasetAttention {
    /// What the data set is called.
    pub label: String,
    /// What the methods are called, in order.
    pub methods: Vec<String>,
    /// A row for each image.
    pub images: Vec<ExampleImage>,
}

/// One image.
#[derive(Debug)]
pub struct ExampleImage {
    /// Where it lies below the data set's folder.
    path: String,
    /// Its class.
    pub class: String,
    /// The square of it that models see, small, if it can be read.
    pub picture: Option<String>,
    /// By method: where it looks, and the share of the learned prompts in percent; none where its node has not this image.
    pub looks: Vec<Option<(Option<String>, f64)>>,
}

/// What the `attention` nodes say that are up to date, by data set; of a method's seeds the first one.
pub(super) fn attentions(materials: &Materials<'_>) -> Result<Vec<DatasetAttention>> {
    let mut found: Vec<DatasetAttention> = Vec::new();
    for (index, record) in materials.fresh() {
        let node = materials.graph.node(index);
        if node.work.kind().section != Some(Section::Attention) {
            continue;
        }
        let label = |axis| materials.coordinate(index, axis).map(|name| materials.label(&name)).unwrap_or_default();
        let (dataset, method, setting) = (label("dataset"), label("method"), materials.setting(index));
        let words = [method, setting].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
        let method = if words.is_empty() { node.stage_name.clone() } else { words };
        let place = found.iter().position(|one| one.label == dataset).unwrap_or_else(|| {
            found.push(DatasetAttention { label: dataset, methods: Vec::new(), images: Vec::new() });
            found.len() - 1
        });
        let one = &mut found[place];
        if one.methods.contains(&method) {
            continue;
        }
        one.methods.push(method);
        let folder = materials.location(index);
        let maps: Vec<AttentionMap> = read_json(&materials.store.artifact(&record.outputs["maps"])?)?;
        for map in maps {
            let square = folder.as_ref().and_then(|folder| picture(&folder.join(&map.path))).map(square);
            let place = one.images.iter().position(|image| image.path == map.path).unwrap_or_else(|| {
                let picture = square.as_ref().and_then(encoded);
                one.images.push(ExampleImage {
                    path: map.path.clone(),
                    class: map.class.clone(),
                    picture,
                    looks: vec![],
                });
                one.images.len() - 1
            });
            let looks = &mut one.images[place].looks;
            looks.resize_with(one.methods.len() - 1, || None);
            looks.push(Some((
                square.and_then(|square| encoded(&coloured(square, &map))),
                f64::from(100.0 * map.prompts),
            )));
        }
    }
    for one in &mut found {
        one.images.iter_mut().for_each(|image| image.looks.resize_with(one.methods.len(), || None));
    }
    Ok(found)
}

/// What a model sees of an image, small.
fn square(image: RgbImage) -> RgbImage {
    // An evaluation draws no random numbers.
    Transform::Evaluation { size: SIDE }.apply(&image, &mut random::generator(0, "attention", 0, 0))
}

/// An image in grey, and over it the colour of attention: the more of it the more attention a part gets, next to the patch that
/// gets most.
fn coloured(mut image: RgbImage, map: &AttentionMap) -> RgbImage {
    let most = map.patches.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let side = map.side() as u32;
    let shares: GrayImage = ImageBuffer::from_fn(side, side, |x, y| {
        Luma([(255.0 * map.patches[(y * side + x) as usize] / most).round() as u8])
    });
    let shares = image::imageops::resize(&shares, image.width(), image.height(), FilterType::Triangle);
    let [darkest, brightest] = GREYS;
    for (pixel, Luma([share])) in image.pixels_mut().zip(shares.pixels()) {
        let grey = darkest + (brightest - darkest) * f32::from(pixel.to_luma().0[0]) / 255.0;
        let cover = COVER * f32::from(*share) / 255.0;
        pixel.0 = COLOUR.map(|colour| (cover * colour + (1.0 - cover) * grey).round() as u8);
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_with_most_attention_has_most_of_the_colour() {
        let patches = vec![0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.2];
        let map = AttentionMap { path: String::new(), class: String::new(), patches, prompts: 0.1 };
        let black = RgbImage::from_pixel(87, 87, image::Rgb([0, 0, 0]));
        let coloured = coloured(black, &map);
        // Three quarters of the colour and a quarter of the darkest grey; no colour; half as much of it.
        let found = [(43, 43), (2, 2), (85, 85)].map(|(x, y)| coloured.get_pixel(x, y).0);
        assert_eq!(found, [[206, 105, 15], [60, 60, 60], [133, 83, 37]]);
    }
}
