//! The scale of the loss in mixed precision, which keeps small gradients from vanishing in 16 bits, as
//! `torch.amp.GradScaler` has it: halved when a gradient overflows, doubled after 2,000 steps without that.

use maple_pipe::method::Precision;
use tch::{Device, Kind, Tensor};

const START: f64 = 65_536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const GROWTH_INTERVAL: i64 = 2_000;

/// The scale, and how many steps it has held; both are where the model is, and are not read from there.
#[derive(Debug)]
pub struct LossScale {
    /// In fp32, without axes.
    scale: Tensor,
    /// A whole number, without axes.
    steps: Tensor,
}

impl LossScale {
    /// The scale that a training in this precision starts with; `None` where losses are not scaled.
    pub fn new(precision: Precision, device: Device) -> Option<LossScale> {
        (precision == Precision::Mixed).then(|| LossScale {
            scale: Tensor::full([], START, (Kind::Float, device)),
            steps: Tensor::zeros([], (Kind::Int64, device)),
        })
    }

    /// A loss times the scale.
    pub fn scaled(&self, loss: &Tensor) -> Tensor {
        loss * &self.scale
    }

    /// The gradients of the loss, given those of the scaled one; and whether all are finite, without axes. Where they are not,
    /// the step is to be left out. The scale is that of the next step then.
    pub fn unscaled(&mut self, scaled: Vec<Tensor>) -> (Vec<Tensor>, Tensor) {
        let gradients: Vec<Tensor> = scaled.into_iter().map(|gradient| gradient / &self.scale).collect();
        let sums: Vec<Tensor> = gradients.iter().map(|gradient| gradient.sum(Kind::Float)).collect();
        let finite = Tensor::stack(&sums, 0).isfinite().all();
        self.update(&finite);
        (gradients, finite)
    }

    /// The tensors that it keeps from step to step.
    pub(super) fn state(&self) -> Vec<(String, Tensor)> {
        let named = [("scale", &self.scale), ("steps", &self.steps)];
        named.map(|(name, tensor)| (format!("loss_scale.{name}"), tensor.shallow_clone())).into()
    }

    fn update(&mut self, finite: &Tensor) {
        let held = &self.steps + 1i64;
        let has_held = held.ge(GROWTH_INTERVAL);
        let grown = (&self.scale * GROWTH).where_self(&has_held, &self.scale);
        let scale = grown.where_self(finite, &(&self.scale * BACKOFF));
        self.scale.copy_(&scale);
        let goes_on = finite.logical_and(&has_held.logical_not());
        self.steps.copy_(&(held * goes_on.to_kind(Kind::Int64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;

    fn mixed() -> LossScale {
        LossScale::new(Precision::Mixed, of_tests()).unwrap()
    }

    fn values(scale: &LossScale) -> (f64, i64) {
        (scale.scale.double_value(&[]), scale.steps.int64_value(&[]))
    }

    #[test]
    fn an_overflow_halves_the_scale_and_says_so() {
        let tensor = Tensor::from_slice(&[1.0f32, -2.0]).to_device(of_tests()).set_requires_grad(true);
        // The gradient is 3 in 16 bits, where the largest number is 65,504.
        let loss = || (tensor.to_kind(Kind::Half) * 3.0).sum(Kind::Half).to_kind(Kind::Float);
        let mut scale = mixed();
        let mut attempt = || {
            let scaled = Tensor::run_backward(&[scale.scaled(&loss())], &[&tensor], false, false);
            let (gradients, finite) = scale.unscaled(scaled);
            (gradients, bool::try_from(finite).unwrap(), values(&scale))
        };
        for expected in [32_768.0, 16_384.0] {
            let (_, finite, values) = attempt();
            assert_eq!((finite, values), (false, (expected, 0)));
        }
        let (gradients, finite, values) = attempt();
        assert_eq!(gradients, [Tensor::from_slice(&[3.0f32, 3.0]).to_device(of_tests())]);
        assert_eq!((finite, values), (true, (16_384.0, 1)));
    }

    #[test]
    fn a_scale_that_holds_is_doubled() {
        let mut scale = mixed();
        let finite = Tensor::from(true).to_device(of_tests());
        (0..1_999).for_each(|_| scale.update(&finite));
        assert_eq!(values(&scale), (START, 1_999));
        scale.update(&finite);
        assert_eq!(values(&scale), (2.0 * START, 0));
        assert!(LossScale::new(Precision::Fp16, of_tests()).is_none());
    }
}
