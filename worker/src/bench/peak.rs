//! How many floating-point operations the machine does in a second at most: a product of two matrices.

use maple_pipe::error::Result;
use maple_pipe::method::Precision;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::clock;
use crate::clip::Kinds;

/// The greatest side of a matrix.
const GREATEST: i64 = 8192;
/// Seconds that a product is to take, so that what is around it does not count.
const LONG: f64 = 0.05;

/// Floating-point operations per second of the fastest product of square matrices, in the number format in which models of
/// this precision multiply: on a card, or on so many threads of the processor, each with a product of its own.
pub(super) fn flops_per_second(device: Device, precision: Precision, threads: usize, runs: usize) -> Result<f64> {
    let kind = Kinds::of(precision).products;
    let threads = if device == Device::Cpu { threads } else { 1 };
    let mut side = 256;
    loop {
        let matrix = || Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
        let mut pairs: Vec<[Tensor; 2]> = (0..threads).map(|_| [matrix(), matrix()]).collect();
        let mut multiply = || {
            clock::seconds(device, || {
                pairs.par_iter_mut().for_each(|[left, right]| drop(left.matmul(right)));
                Ok(())
            })
        };
        multiply()?;
        let seconds = multiply()?;
        if seconds >= LONG || side >= GREATEST {
            let again = (0..runs.max(3)).map(|_| multiply());
            let best = again.collect::<Result<Vec<f64>>>()?.into_iter().fold(seconds, f64::min);
            return Ok(2.0 * (side as f64).powi(3) * threads as f64 / best);
        }
        side *= 2;
    }
}
