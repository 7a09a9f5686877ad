//! Tip-Adapter and Tip-Adapter-F.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::SplitPart;
use crate::error::{Error, Result};
use crate::method::check::{at_least_one, check_templates, from_zero_up, plain_templates};
use crate::method::learnable::{Learned, Length, Start, TensorShapes};
use crate::method::options::{Options, Steps};

/// Features of the sample's images, in the order of their classes.
pub const KEYS: &str = "cache.keys";
/// How many of them each class has.
pub const COUNTS: &str = "cache.counts";
/// What the cache's part in the logits is multiplied by.
pub const ALPHA: &str = "cache.alpha";
/// How fast an image of the cache loses weight with its distance.
pub const BETA: &str = "cache.beta";

/// Tip-Adapter: the images of the sample vote for their classes; with a table `[training]`, Tip-Adapter-F, which moves their
/// features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TipAdapter {
    /// Texts with `{}` for the class name; a class has the mean of their normalised features.
    #[serde(default = "plain_templates")]
    pub templates: Vec<String>,
    /// The weight of the votes in training.
    #[serde(default = "one")]
    pub alpha: f64,
    /// How fast votes lose weight with distance, in training.
    #[serde(default = "one")]
    pub beta: f64,
    /// The end of the values of `alpha` that are tried on validation images behind the training; the first is 0.1.
    #[serde(default = "alpha_end")]
    pub alpha_end: f64,
    /// The end of the values of `beta` that are tried; the first is 0.1.
    #[serde(default = "beta_end")]
    pub beta_end: f64,
    /// How many values of `alpha` are tried.
    #[serde(default = "alpha_values")]
    pub alpha_values: i64,
    /// How many values of `beta` are tried with each.
    #[serde(default = "beta_values")]
    pub beta_values: i64,
    /// Whether the epoch that is kept is chosen on test images, as the published code does, and the initial `alpha` and `beta`
    /// stay where they are better there. Such a result says less than one that was chosen on validation images.
    #[serde(default)]
    pub chosen_on_test: bool,
}

const fn one() -> f64 {
    1.0
}

const fn alpha_end() -> f64 {
    3.0
}

const fn beta_end() -> f64 {
    7.0
}

const fn alpha_values() -> i64 {
    20
}

const fn beta_values() -> i64 {
    200
}

impl Options for TipAdapter {
    const STEMS: &'static [&'static str] = &[KEYS, COUNTS, ALPHA, BETA];
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        check_templates(&self.templates)?;
        from_zero_up("alpha", self.alpha)?;
        from_zero_up("beta", self.beta)?;
        at_least_one("alpha_values", self.alpha_values)?;
        at_least_one("beta_values", self.beta_values)?;
        for (name, value) in [("alpha_end", self.alpha_end), ("beta_end", self.beta_end)] {
            if !(value.is_finite() && value >= 0.1) {
                return Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 0.1 up").about(name));
            }
        }
        Ok(())
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn works_on_features(&self) -> bool {
        true
    }

    fn steps(&self) -> Steps {
        Steps::Maybe
    }

    fn chooses_by(&self) -> &'static [SplitPart] {
        if self.chosen_on_test { &[SplitPart::Val, SplitPart::Test] } else { &[SplitPart::Val] }
    }

    fn texts_per_class(&self) -> usize {
        self.templates.len()
    }

    fn learned(&self) -> Vec<Learned> {
        vec![
            Learned::free(KEYS, &[Length::Images, Length::Embedding], Start::Given),
            Learned::free(COUNTS, &[Length::Classes], Start::Fixed),
            Learned::free(ALPHA, &[], Start::Fixed),
            Learned::free(BETA, &[], Start::Fixed),
        ]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<TipAdapter> {
        [KEYS, COUNTS].iter().find_map(|name| shapes.get(name))?;
        Some(TipAdapter {
            templates: plain_templates(),
            alpha: one(),
            beta: one(),
            alpha_end: alpha_end(),
            beta_end: beta_end(),
            alpha_values: alpha_values(),
            beta_values: beta_values(),
            chosen_on_test: false,
        })
    }
}
