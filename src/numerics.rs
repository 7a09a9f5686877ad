//! How far the last bits of a result may depend on what computes it.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a stage that computes with libtorch holds the libraries below it to.
///
/// A processor's instructions decide in which order sums are made, so results differ in their last bits from one kind of
/// processor to another, and ten steps of training make that visible.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    /// The fastest that the processor has.
    #[default]
    Native,
    /// The same bits on every x86-64 processor with AVX2 and FMA, of whatever make. On a graphics card it changes nothing.
    Portable,
    /// Native, but a graphics card multiplies 32-bit numbers in NVIDIA's TF32, which keeps as many digits as fp16. So did the
    /// published code on an A100: it asks for PyTorch 1.9 (`docs/INSTALL.md`), where that was the default. On a processor it
    /// changes nothing.
    Tf32,
}

impl Numerics {
    /// Whether this is the default, which stands in no key.
    pub fn is_native(&self) -> bool {
        *self == Numerics::Native
    }

    /// The environment of a process that computes so: what ATen, MKL, oneDNN and NVIDIA's libraries read at their start.
    pub fn environment(self) -> &'static [(&'static str, &'static str)] {
        const FP32_IS_FP32: (&str, &str) = ("NVIDIA_TF32_OVERRIDE", "0");
        match self {
            Numerics::Native => &[FP32_IS_FP32],
            Numerics::Portable => {
                &[FP32_IS_FP32, ("ATEN_CPU_CAPABILITY", "avx2"), ("MKL_CBWR", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")]
            }
            Numerics::Tf32 => &[],
        }
    }
}
