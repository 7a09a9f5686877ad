//! The linear probe of CoOp's comparison (`lpclip/linear_probe.py` of the published code): logistic regression, whose penalty is
//! chosen on validation images.

use tch::{Kind, Tensor};

use super::logistic_regression::{Classifier, Regression};
use crate::clip::Clip;
use crate::method::learner::{Features, Labelled, Learner, Parts, Sample, Text};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::learners::{self, BIAS, C, WEIGHT};

/// The powers of ten that are tried first as the inverse of the penalty's strength, in this order.
const FIRST_TRIED: [f64; 7] = [6.0, 4.0, 2.0, 0.0, -2.0, -4.0, -6.0];

/// The classifier.
pub(super) struct LinearProbe {
    /// `(classes, embedding)`.
    weight: Tensor,
    /// `(classes,)`.
    bias: Tensor,
    /// Without axes.
    c: Tensor,
    halvings: u32,
    tolerance: f64,
    found: Vec<(&'static str, f64)>,
}

impl LinearProbe {
    pub(super) fn new(options: &learners::LinearProbe, parts: &Parts<'_>) -> LinearProbe {
        LinearProbe {
            weight: parts.learned.tensor(WEIGHT),
            bias: parts.learned.tensor(BIAS),
            c: parts.learned.tensor(C),
            halvings: options.halvings,
            tolerance: options.tolerance,
            found: Vec::new(),
        }
    }
}

impl Learner for LinearProbe {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.weight.shallow_clone())
    }

    fn logits(&self, features: &Features<'_>) -> Tensor {
        features.wide_images().linear(&self.weight, Some(&self.bias))
    }

    fn fit(&mut self, _clip: &Clip, sample: Sample, _epochs: u32) -> Result<()> {
        let validation = sample.validation.ok_or_else(|| Error::invalid("a linear probe needs validation images"))?;
        let views = sample.views.size()[0];
        let regression =
            Regression::new(&sample.views.flatten(0, 1), &sample.labels.repeat([views]), self.weight.size()[0]);
        let validation = Labelled { features: validation.features.to_kind(Kind::Double), ..validation };
        let mut search = Search { regression, validation, tolerance: self.tolerance, tried: Vec::new() };
        let (exponent, classifier) = search.run(self.halvings);
        let share = search.correct(&classifier) as f64 / search.validation.labels.size()[0] as f64;
        let c = 10f64.powf(exponent);
        self.weight.copy_(&classifier.weight);
        self.bias.copy_(&classifier.bias);
        let _ = self.c.fill_(c);
        self.found = vec![("C", c), ("validation accuracy", 100.0 * share)];
        Ok(())
    }

    fn found(&self) -> Vec<(&'static str, f64)> {
        self.found.clone()
    }
}

/// The search for the strength of the penalty.
struct Search {
    regression: Regression,
    validation: Labelled,
    tolerance: f64,
    /// The classifiers so far, by the logarithm of C.
    tried: Vec<(f64, Classifier)>,
}

impl Search {
    /// The logarithm of C, to base 10, and its classifier: the best of the powers that are tried first, then the better end of a
    /// range around it that is halved again and again. Of equals, the first, and then the left end.
    fn run(&mut self, halvings: u32) -> (f64, Classifier) {
        let mut peak = FIRST_TRIED[0];
        let mut best = -1;
        for exponent in FIRST_TRIED {
            let (correct, _) = self.attempt(exponent);
            if correct > best {
                (peak, best) = (exponent, correct);
            }
        }
        let (mut left, mut right) = (peak - 1.0, peak + 1.0);
        let mut kept = (peak, self.attempt(peak).1);
        for _ in 0..halvings {
            let ends = [self.attempt(left), self.attempt(right)];
            let middle = 0.5 * (left + right);
            let [(of_left, at_left), (of_right, at_right)] = ends;
            if of_left < of_right {
                kept = (right, at_right);
                left = middle;
            } else {
                kept = (left, at_left);
                right = middle;
            }
        }
        kept
    }

    /// The classifier of this C, and how many validation images it tells rightly.
    fn attempt(&mut self, exponent: f64) -> (i64, Classifier) {
        let known = self.tried.iter().find(|(tried, _)| *tried == exponent);
        let classifier = match known {
            Some((_, classifier)) => classifier.clone(),
            None => {
                let classifier = self.regression.fit(10f64.powf(exponent), self.tolerance);
                self.tried.push((exponent, classifier.clone()));
                classifier
            }
        };
        (self.correct(&classifier), classifier)
    }

    fn correct(&self, classifier: &Classifier) -> i64 {
        self.validation.correct(&classifier.logits(&self.validation.features)).int64_value(&[])
    }
}
