//! What a model takes one image for.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize, Serializer};

use crate::data::Indexed;

/// As many of the likeliest classes are kept.
const TOP: usize = 5;

/// What a model takes one image for.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The likeliest classes by label, at most five, the likeliest first; of equally likely ones the lowest label first.
    pub top: Vec<usize>,
    /// The softmax of the logits at each of them.
    pub probabilities: Vec<f64>,
}

/// A row of `predictions.csv`. Labels are those of the classes that were told apart, from 0.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PredictionRow<'a> {
    /// Where the image lies below the data set's folder.
    pub path: Cow<'a, str>,
    /// Its class.
    pub label: usize,
    /// The class's name.
    pub class: Cow<'a, str>,
    /// What it was taken for.
    pub prediction: usize,
    /// The name of that class.
    pub predicted_class: Cow<'a, str>,
    /// The labels of the likeliest classes, separated by spaces.
    pub top5: String,
    /// The probability of the prediction, with six decimals.
    #[serde(serialize_with = "six_decimals")]
    pub probability: f64,
}

fn six_decimals<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:.6}"))
}

impl Prediction {
    /// The prediction that these logits make, one per class; nothing where there are none, or one is not finite.
    pub fn new(logits: &[f32]) -> Option<Prediction> {
        if logits.is_empty() || !logits.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        let order = |a: &usize, b: &usize| -> Ordering {
            logits[*b].partial_cmp(&logits[*a]).expect("all are finite").then(a.cmp(b))
        };
        let mut top: Vec<usize> = (0..logits.len()).collect();
        if top.len() > TOP {
            top.select_nth_unstable_by(TOP - 1, order);
            top.truncate(TOP);
        }
        top.sort_unstable_by(order);
        let largest = f64::from(logits[top[0]]);
        let share = |logit: f32| libm::exp(f64::from(logit) - largest);
        let sum: f64 = logits.iter().map(|&logit| share(logit)).sum();
        let probabilities = top.iter().map(|&label| share(logits[label]) / sum).collect();
        Some(Prediction { top, probabilities })
    }

    /// The label of the likeliest class.
    pub fn label(&self) -> usize {
        self.top[0]
    }

    /// The row of this image, where `class_names` are those of the classes that were told apart.
    pub fn row<'a>(&self, item: &'a Indexed, class_names: &'a [String]) -> PredictionRow<'a> {
        let top: Vec<String> = self.top.iter().map(ToString::to_string).collect();
        PredictionRow {
            path: item.path.as_str().into(),
            label: item.label,
            class: class_names[item.label].as_str().into(),
            prediction: self.label(),
            predicted_class: class_names[self.label()].as_str().into(),
            top5: top.join(" "),
            probability: self.probabilities[0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;
    use crate::files::csv;

    #[test]
    fn the_likeliest_come_first_and_of_equals_the_lowest_label() {
        let top = |logits: &[f32]| Prediction::new(logits).unwrap().top;
        assert_eq!(top(&[1.0, 3.0, 2.0]), [1, 2, 0]);
        assert_eq!(top(&[0.0; 9]), [0, 1, 2, 3, 4]);
        assert_eq!(top(&[-0.0, 5.0, 0.0, 5.0, 1.0, 0.0, 0.0, 9.0]), [7, 1, 3, 4, 0]);
        assert_eq!(top(&[7.0]), [0]);
        let mut random = crate::data::random::generator(1, "logits", 0, 0);
        for classes in 1..40 {
            let logits: Vec<f32> = crate::data::random::order(&mut random, classes).iter().map(|&n| n as f32).collect();
            let mut sorted: Vec<usize> = (0..classes).collect();
            sorted.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            sorted.truncate(5);
            assert_eq!(top(&logits), sorted);
        }
    }

    #[test]
    fn the_probability_is_the_softmax() {
        let probability = |logits: &[f32]| Prediction::new(logits).unwrap().probabilities[0];
        assert_eq!(probability(&[3.0]), 1.0);
        assert_eq!(probability(&[2.0; 4]), 0.25);
        // 3 / (1 + 2 + 3), and no overflow far from zero.
        assert!((probability(&[1f32.ln(), 2f32.ln(), 3f32.ln()]) - 0.5).abs() < 1e-7);
        assert!((probability(&[1e30, 1e30]) - 0.5).abs() < 1e-15);
        let halves = Prediction::new(&[2f32.ln(), 4f32.ln(), 1f32.ln(), 1f32.ln()]).unwrap().probabilities;
        assert!(halves.iter().zip([0.5, 0.25, 0.125, 0.125]).all(|(found, expected)| (found - expected).abs() < 1e-7));
        for logits in [&[][..], &[1.0, f32::NAN], &[f32::INFINITY, 0.0]] {
            assert_eq!(Prediction::new(logits), None);
        }
    }

    #[test]
    fn a_row_names_image_and_classes() {
        let item = Item { path: "images/a, b.jpg".into(), label: 2, class_name: "of the split".into() };
        let item = Indexed::new(item, String::new());
        let names = ["cat", "dog", "newt"].map(str::to_owned);
        let row = Prediction::new(&[0.0, 1.0, 0.5]).unwrap();
        assert_eq!(
            csv([row.row(&item, &names)]),
            "path,label,class,prediction,predicted_class,top5,probability\n\
             \"images/a, b.jpg\",2,newt,1,dog,1 2 0,0.506480\n"
        );
    }
}
