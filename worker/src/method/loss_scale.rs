//! The scale of the loss in mixed precision, which keeps small gradients from vanishing in 16 bits, as
//! `torch.amp.GradScaler` has it: halved when a gradient overflows, doubled after 2,000 steps without that.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Optimizer;
use crate::clip::torch;
use maple_pipe::error::Result;
use maple_pipe::method::Precision;

const START: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const GROWTH_INTERVAL: u32 = 2_000;

/// The scale, and how many steps it has held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    steps: u32,
}

impl LossScale {
    /// The scale that a training in this precision starts with; `None` where losses are not scaled.
    pub fn new(precision: Precision) -> Option<LossScale> {
        (precision == Precision::Mixed).then_some(LossScale { scale: START, steps: 0 })
    }

    /// The gradients of `loss` as [`Optimizer::gradients`] returns them; `None` when they overflowed, in which case the step
    /// is to be left out.
    ///
    /// # Errors
    /// When a learned tensor has no part in the loss.
    pub fn gradients(&mut self, optimizer: &Optimizer, loss: &Tensor) -> Result<Option<Vec<Tensor>>> {
        let scaled = optimizer.gradients(&(loss * self.scale))?;
        let gradients: Vec<Tensor> = scaled.into_iter().map(|gradient| gradient / self.scale).collect();
        let sums: Vec<Tensor> = gradients.iter().map(|gradient| gradient.sum(Kind::Float)).collect();
        let finite = bool::try_from(Tensor::stack(&sums, 0).isfinite().all()).map_err(torch)?;
        self.update(finite);
        Ok(finite.then_some(gradients))
    }

    fn update(&mut self, finite: bool) {
        let held = self.steps + 1;
        (self.scale, self.steps) = match (finite, held) {
            (false, _) => (self.scale * BACKOFF, 0),
            (true, GROWTH_INTERVAL) => (self.scale * GROWTH, 0),
            (true, _) => (self.scale, held),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maple_pipe::method::Training;

    #[test]
    fn an_overflow_halves_the_scale_and_leaves_the_step_out() {
        let values = Tensor::from_slice(&[1.0f32, -2.0]).set_requires_grad(true);
        let training = serde_json::json!({ "epochs": 1, "batch_size": 1, "learning_rate": 0.1 });
        let training: Training = serde_json::from_value(training).unwrap();
        let optimizer = Optimizer::new(vec![("x".to_owned(), values.shallow_clone())], &training);
        // The gradient is 3 in 16 bits, where the largest number is 65,504.
        let loss = || (values.to_kind(Kind::Half) * 3.0).sum(Kind::Half).to_kind(Kind::Float);
        let mut scale = LossScale::new(Precision::Mixed).unwrap();
        for expected in [32_768.0, 16_384.0] {
            assert!(scale.gradients(&optimizer, &loss()).unwrap().is_none());
            assert_eq!(scale, LossScale { scale: expected, steps: 0 });
        }
        let gradients = scale.gradients(&optimizer, &loss()).unwrap().unwrap();
        assert_eq!(gradients, [Tensor::from_slice(&[3.0f32, 3.0])]);
        assert_eq!(scale, LossScale { scale: 16_384.0, steps: 1 });
    }

    #[test]
    fn a_scale_that_holds_is_doubled() {
        let mut scale = LossScale::new(Precision::Mixed).unwrap();
        (0..1_999).for_each(|_| scale.update(true));
        assert_eq!(scale, LossScale { scale: START, steps: 1_999 });
        scale.update(true);
        assert_eq!(scale, LossScale { scale: 2.0 * START, steps: 0 });
        assert_eq!(LossScale::new(Precision::Fp16), None);
    }
}
