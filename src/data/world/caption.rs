//! Captions in varied wording, true of their picture.

use super::draw::Picture;
use super::scene::Scene;
use crate::data::random::below;
use rand_chacha::ChaCha8Rng;

/// Wordings that are true of every picture.
const WORDINGS: [&str; 6] =
    ["a photo of a {}.", "a drawing of a {}.", "a picture of a {}.", "a {}.", "this is a {}.", "there is a {} here."];

/// One caption in this many calls the scene by another name.
const OTHER_NAME_ONE_IN: usize = 4;

/// A caption for a picture of `scene`.
pub fn caption(scene: Scene, picture: &Picture, generator: &mut ChaCha8Rng) -> String {
    let name = match below(generator, OTHER_NAME_ONE_IN) {
        0 => {
            let names = scene.other_names();
            names[below(generator, names.len())].clone()
        }
        _ => scene.name(),
    };
    let mut wordings: Vec<String> = WORDINGS.map(str::to_owned).to_vec();
    wordings.extend(picture.background.map(|background| format!("a {{}} on a {} background.", background.word())));
    wordings.extend(picture.dark.then(|| "a dark photo of a {}.".to_owned()));
    wordings.extend(picture.noisy.then(|| "a noisy photo of a {}.".to_owned()));
    wordings[below(generator, wordings.len())].replace("{}", &name)
}
