//! The number formats in which a method computes.

use std::fmt::{self, Display, Formatter};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The precision of a method, in training and in evaluation. It changes numbers, so it is a part of what a method is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    Fp32,
    /// 32 bits, but the prompts of the vision tower and the deep ones of the text tower are rounded to 16: what the
    /// published code computes with `PREC: "fp32"`, and for deep visual prompts whatever `PREC` says.
    PublishedFp32,
    /// CLIP in 16-bit floating point, layer norms in 32: the published `PREC: "fp16"`. The context, MaPLe's first
    /// projection and CoCoOp's network are learned in 16 bits, deep prompts and all else in 32.
    Fp16,
    /// CLIP in bfloat16, layer norms in 32 bits; what is learned is kept in 32.
    Bf16,
    /// Products in 16-bit floating point, sums along the residual stream in 32, and a loss that is scaled so that small
    /// gradients survive: the published `PREC: "amp"`. What is learned is kept in 32 bits.
    Mixed,
}

impl Display for Precision {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.pad(self.to_possible_value().expect("no value is left out").get_name())
    }
}
