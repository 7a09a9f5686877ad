//! What an image of the world shows, and the words for it.

use crate::data::random;
use serde::{Deserialize, Serialize};

/// The families of scenes; each is one downstream data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// One object: fill x colour x shape, e.g. `striped red triangle`.
    Shapes,
    /// A pattern over the whole frame: two colours x pattern, e.g. `blue and yellow checkerboard`.
    Textures,
    /// Several equal objects: layout x colour x shape, e.g. `ring of blue circles`.
    Arrangements,
}

impl Family {
    /// Every family, in the order in which captioned images take turns.
    pub const ALL: [Family; 3] = [Family::Shapes, Family::Textures, Family::Arrangements];

    /// Every scene of this family, in an order drawn from the world's seed.
    fn scenes(self, seed: u64) -> Vec<Scene> {
        let scenes: Vec<Scene> = match self {
            Family::Shapes => combine(Fill::ALL, Colour::ALL, Shape::ALL, |fill, colour, shape| {
                Some(Scene::Object { fill, colour, shape })
            }),
            Family::Textures => combine(Pattern::ALL, Colour::ALL, Colour::ALL, |pattern, first, second| {
                (first < second).then_some(Scene::Pattern { pattern, first, second })
            }),
            Family::Arrangements => combine(Layout::ALL, Colour::ALL, Shape::ALL, |layout, colour, shape| {
                Some(Scene::Arrangement { layout, colour, shape })
            }),
        };
        let order = random::order(&mut random::generator(seed, "world scenes", 0, self as u64), scenes.len());
        order.into_iter().map(|index| scenes[index]).collect()
    }

    /// The first `count` scenes: the classes of a data set, by label. `None` if the family has fewer.
    pub fn classes(self, seed: u64, count: usize) -> Option<Vec<Scene>> {
        self.scenes(seed).get(..count).map(<[Scene]>::to_vec)
    }

    /// The scenes that captioned images show: two in three. Every third is left out, so a third of a data set's
    /// classes, base and novel, are combinations that pretraining never saw.
    pub fn captioned(self, seed: u64) -> Vec<Scene> {
        let numbered = self.scenes(seed).into_iter().enumerate();
        numbered.filter(|(index, _)| index % 3 != 0).map(|(_, scene)| scene).collect()
    }
}

/// Every combination of three lists that `make` accepts.
fn combine<A: Copy, B: Copy, C: Copy, const I: usize, const J: usize, const K: usize>(
    first: [A; I],
    second: [B; J],
    third: [C; K],
    make: impl Fn(A, B, C) -> Option<Scene>,
) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for a in first {
        for b in second {
            scenes.extend(third.iter().filter_map(|&c| make(a, b, c)));
        }
    }
    scenes
}

/// What one image shows; all its words begin with a consonant, so that "a photo of a {}." is always English.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// One object.
    Object {
        /// How its inside is painted.
        fill: Fill,
        /// Its colour.
        colour: Colour,
        /// Its outline.
        shape: Shape,
    },
    /// A pattern over the whole frame.
    Pattern {
        /// The pattern.
        pattern: Pattern,
        /// Its foreground.
        first: Colour,
        /// Its background.
        second: Colour,
    },
    /// Several equal objects.
    Arrangement {
        /// How they are placed.
        layout: Layout,
        /// Their colour.
        colour: Colour,
        /// Their outline.
        shape: Shape,
    },
}

impl Scene {
    /// The class name, e.g. `striped red triangle`.
    pub fn name(self) -> String {
        match self {
            Scene::Object { fill, colour, shape } => format!("{} {} {}", fill.word(), colour.word(), shape.word()),
            Scene::Pattern { pattern, first, second } => {
                format!("{} and {} {}", first.word(), second.word(), pattern.word())
            }
            Scene::Arrangement { layout, colour, shape } => {
                format!("{} of {} {}", layout.word(), colour.word(), shape.plural())
            }
        }
    }

    /// The same scene in other words, or in fewer, as the captions of pictures often are.
    pub fn other_names(self) -> [String; 3] {
        match self {
            Scene::Object { fill, colour, shape } => {
                let (fill, colour, shape) = (fill.word(), colour.word(), shape.word());
                [format!("{colour} {shape}"), format!("{fill} {shape}"), format!("{colour} {fill} {shape}")]
            }
            Scene::Pattern { pattern, first, second } => {
                let (pattern, first, second) = (pattern.word(), first.word(), second.word());
                [
                    pattern.to_owned(),
                    format!("{second} and {first} {pattern}"),
                    format!("{pattern} in {first} and {second}"),
                ]
            }
            Scene::Arrangement { layout, colour, shape } => {
                let (layout, colour, shapes) = (layout.word(), colour.word(), shape.plural());
                [format!("{layout} of {shapes}"), format!("{layout} of {colour} things"), format!("{colour} {layout}")]
            }
        }
    }
}

/// An enum whose every variant has a word.
macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $word] $variant),+ }

        impl $name {
            /// Every variant.
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            /// Its word in names and captions.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
    };
}

vocabulary! {
    /// Colours that differ in hue, and white and black.
    Colour {
        Red => "red", Yellow => "yellow", Green => "green", Turquoise => "turquoise", Blue => "blue",
        Purple => "purple", White => "white", Black => "black",
    }
}

vocabulary! {
    /// Outlines that stay apart under small rotations.
    Shape {
        Circle => "circle", Square => "square", Triangle => "triangle", Star => "star", Plus => "cross",
        Moon => "crescent",
    }
}

impl Shape {
    /// The word for several of them.
    fn plural(self) -> String {
        match self {
            Shape::Plus => "crosses".to_owned(),
            other => format!("{}s", other.word()),
        }
    }
}

vocabulary! {
    /// How an object is painted.
    Fill { Solid => "solid", Striped => "striped", Dotted => "dotted", Hollow => "hollow" }
}

vocabulary! {
    /// Patterns over the whole frame.
    Pattern {
        Checkerboard => "checkerboard", Stripes => "striped cloth", Dots => "dotted cloth", Zigzag => "zigzag",
        Bricks => "brick wall", Target => "target",
    }
}

vocabulary! {
    /// How several objects are placed.
    Layout {
        Pair => "pair", Row => "row", Column => "column", Ring => "ring", Grid => "grid", Pyramid => "pyramid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_begin_with_a_consonant() {
        for family in Family::ALL {
            let scenes = family.scenes(3);
            let names: BTreeSet<String> = scenes.iter().map(|scene| scene.name()).collect();
            assert_eq!(names.len(), scenes.len(), "{family:?}");
            for name in scenes.iter().flat_map(|scene| scene.other_names()).chain(names) {
                assert!(!name.starts_with(['a', 'e', 'i', 'o', 'u']), "{name}");
            }
        }
    }

    #[test]
    fn every_third_class_is_never_captioned() {
        for family in Family::ALL {
            let captioned = family.captioned(1);
            let classes = family.classes(1, 18).unwrap();
            let missing: Vec<usize> = classes
                .iter()
                .enumerate()
                .filter(|(_, scene)| !captioned.contains(scene))
                .map(|(index, _)| index)
                .collect();
            assert_eq!(missing, [0, 3, 6, 9, 12, 15]);
            assert!(family.classes(1, 1_000).is_none());
        }
    }
}
