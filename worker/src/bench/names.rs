//! Names of classes, as many as are wanted: one or two words, two to four tokens, like those of the published data sets.

const KINDS: [&str; 40] = [
    "dog",
    "cat",
    "bird",
    "shark",
    "lizard",
    "snake",
    "spider",
    "beetle",
    "butterfly",
    "monkey",
    "bear",
    "fox",
    "wolf",
    "terrier",
    "retriever",
    "hound",
    "truck",
    "train",
    "boat",
    "airplane",
    "bridge",
    "church",
    "lamp",
    "chair",
    "clock",
    "guitar",
    "piano",
    "bottle",
    "basket",
    "mushroom",
    "orchid",
    "lily",
    "pizza",
    "soup",
    "stadium",
    "harbor",
    "valley",
    "forest",
    "fabric",
    "teapot",
];
const QUALITIES: [&str; 25] = [
    "",
    "great white",
    "golden",
    "black",
    "spotted",
    "striped",
    "mountain",
    "river",
    "Siberian",
    "Persian",
    "African",
    "tiger",
    "sea",
    "garden",
    "royal",
    "old English",
    "red",
    "hammerhead",
    "crested",
    "woolly",
    "flat-coated",
    "desert",
    "winter",
    "miniature",
    "blue",
];

/// The names of so many classes, all different; the first of them are of all lengths.
pub(super) fn of_classes(count: usize) -> Vec<String> {
    let name = |number: usize| {
        let (kind, round) = (number % KINDS.len(), number / KINDS.len());
        let quality = QUALITIES[(kind + round) % QUALITIES.len()];
        let series = round / QUALITIES.len();
        let words = [quality, KINDS[kind]].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        if series == 0 { words } else { format!("{words} {series}") }
    };
    (0..count).map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clip::Tokenizer;

    #[test]
    fn names_differ_and_are_as_long_as_those_of_data_sets() {
        let (names, tokenizer) = (of_classes(1500), Tokenizer::new());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for count in [5, 50, 1000] {
            let lengths = names[..count].iter().map(|name| tokenizer.encode(name).len()).collect::<Vec<_>>();
            let mean = lengths.iter().sum::<usize>() as f64 / count as f64;
            assert!((1.5..3.0).contains(&mean), "{count} classes: {mean} tokens");
            assert!(lengths.iter().all(|length| (1..=5).contains(length)), "{lengths:?}");
        }
    }
}
