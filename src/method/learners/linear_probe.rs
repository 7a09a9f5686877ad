//! The linear probe of CoOp's comparison.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::SplitPart;
use crate::error::Result;
use crate::method::check::from_zero_up;
use crate::method::learnable::{Learned, Length, Start, TensorShapes};
use crate::method::options::{Options, Steps};

/// The weights of the classes.
pub const WEIGHT: &str = "classifier.weight";
/// What is added to their products with image features.
pub const BIAS: &str = "classifier.bias";
/// The inverse of the penalty's strength that was chosen.
pub const C: &str = "classifier.c";

/// Logistic regression on image features of any length, as CoOp measures it; the strength of its L2 penalty is chosen on the
/// validation images of the sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearProbe {
    /// After the best of seven powers of ten, how often the range around it is halved.
    #[serde(default = "halvings")]
    pub halvings: u32,
    /// A regression is done when no derivative of its mean loss exceeds this; a smaller number takes longer.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
}

const fn halvings() -> u32 {
    8
}

const fn tolerance() -> f64 {
    1e-4
}

impl Options for LinearProbe {
    const STEMS: &'static [&'static str] = &[WEIGHT, BIAS, C];
    const TOLD: &'static [&'static str] = &[];

    fn validate(&self) -> Result<()> {
        from_zero_up("tolerance", self.tolerance)
    }

    fn has_plain_vision(&self) -> bool {
        true
    }

    fn works_on_features(&self) -> bool {
        true
    }

    fn steps(&self) -> Steps {
        Steps::Never
    }

    fn chooses_by(&self) -> &'static [SplitPart] {
        &[SplitPart::Val]
    }

    fn texts_per_class(&self) -> usize {
        0
    }

    fn learned(&self) -> Vec<Learned> {
        vec![
            Learned::free(WEIGHT, &[Length::Classes, Length::Embedding], Start::Fixed),
            Learned::free(BIAS, &[Length::Classes], Start::Fixed),
            Learned::free(C, &[], Start::Fixed),
        ]
    }

    fn of_tensors(shapes: &TensorShapes) -> Option<LinearProbe> {
        [WEIGHT, BIAS].iter().find_map(|name| shapes.get(name))?;
        Some(LinearProbe { halvings: halvings(), tolerance: tolerance() })
    }
}
