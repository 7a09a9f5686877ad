//! AdamW (Loshchilov & Hutter 2019) with a state of named tensors, so that a run can be stopped and taken up again.

use crate::clip::{Weights, torch};
use maple_pipe::error::{Error, Result};
use tch::Tensor;

/// Decay rates of the two moments and epsilon, as CLIP's vision transformers were trained (table 20 of its paper).
const BETAS: [f64; 2] = [0.9, 0.98];
const EPSILON: f64 = 1e-6;

/// One trained tensor with the running means of its gradient and of the gradient's square.
struct Trained {
    name: String,
    tensor: Tensor,
    first: Tensor,
    second: Tensor,
    weight_decay: f64,
}

/// The optimizer, and what it trains.
pub(super) struct AdamW {
    trained: Vec<Trained>,
    steps: i32,
}

impl AdamW {
    /// Trains `parameters`; weights (two axes or more) decay, biases, gains and scales do not.
    pub(super) fn new(parameters: &[(String, Tensor)], weight_decay: f64) -> AdamW {
        let trained = parameters.iter().map(|(name, tensor)| Trained {
            name: name.clone(),
            tensor: tensor.shallow_clone(),
            first: tensor.zeros_like(),
            second: tensor.zeros_like(),
            weight_decay: if tensor.dim() >= 2 { weight_decay } else { 0.0 },
        });
        AdamW { trained: trained.collect(), steps: 0 }
    }

    /// One step along these gradients, one for each parameter in their order.
    pub(super) fn step(&mut self, gradients: &[Tensor], learning_rate: f64) {
        self.steps += 1;
        let [first_correction, second_correction] = BETAS.map(|beta| 1.0 - beta.powi(self.steps));
        tch::no_grad(|| {
            for (trained, gradient) in self.trained.iter_mut().zip(gradients) {
                let Trained { tensor, first, second, weight_decay, .. } = trained;
                let _ = first.lerp_(gradient, 1.0 - BETAS[0]);
                let _ = second.lerp_(&gradient.square(), 1.0 - BETAS[1]);
                let scale = (&*second / second_correction).sqrt_() + EPSILON;
                let _ = tensor.g_mul_scalar_(1.0 - learning_rate * *weight_decay);
                *tensor -= &*first / scale * (learning_rate / first_correction);
            }
        });
    }

    /// Everything that [`AdamW::restore`] needs, by name.
    pub(super) fn state(&self) -> Weights {
        let steps = ("steps".to_owned(), Tensor::from(i64::from(self.steps)));
        let tensors = self.trained.iter().flat_map(|trained| {
            let parts = [("tensor", &trained.tensor), ("first", &trained.first), ("second", &trained.second)];
            parts.map(|(part, tensor)| (format!("{part}.{}", trained.name), tensor.detach()))
        });
        Weights::from_tensors(tensors.chain([steps]))
    }

    /// Takes up where [`AdamW::state`] was called; fails if the state is that of other tensors.
    pub(super) fn restore(&mut self, state: &Weights) -> Result<()> {
        let find = |name: String| {
            let message = || Error::invalid(format!("{} lack `{name}`", state.origin()));
            state.get(&name).ok_or_else(message)
        };
        self.steps = i64::try_from(find("steps".to_owned())?).map_err(torch)? as i32;
        tch::no_grad(|| {
            for Trained { name, tensor, first, second, .. } in &mut self.trained {
                for (part, target) in [("tensor", tensor), ("first", first), ("second", second)] {
                    target.f_copy_(find(format!("{part}.{name}"))?).map_err(torch)?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published formula, on one number: decay first, then the step by the corrected moments.
    #[test]
    fn steps_follow_the_formula() {
        let parameters = [("w".to_owned(), Tensor::from_slice(&[2.0f64]).reshape([1, 1]))];
        let mut optimizer = AdamW::new(&parameters, 0.1);
        let (mut x, mut first, mut second) = (2.0f64, 0.0, 0.0);
        for (step, gradient) in [3.0f64, -1.0, 0.5].into_iter().enumerate() {
            optimizer.step(&[Tensor::from_slice(&[gradient]).reshape([1, 1])], 0.01);
            first = BETAS[0] * first + (1.0 - BETAS[0]) * gradient;
            second = BETAS[1] * second + (1.0 - BETAS[1]) * gradient * gradient;
            let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powi(step as i32 + 1));
            x -= 0.01 * 0.1 * x;
            x -= 0.01 * corrected(first, BETAS[0]) / (corrected(second, BETAS[1]).sqrt() + EPSILON);
            assert!((parameters[0].1.double_value(&[0, 0]) - x).abs() < 1e-12);
        }
    }

    #[test]
    fn biases_do_not_decay_and_a_foreign_state_is_refused() {
        let parameters = [("b".to_owned(), Tensor::from_slice(&[2.0f64]))];
        let mut optimizer = AdamW::new(&parameters, 0.1);
        optimizer.step(&[Tensor::from_slice(&[0.0f64])], 0.01);
        assert_eq!(parameters[0].1.double_value(&[0]), 2.0);
        let other = AdamW::new(&[("c".to_owned(), Tensor::from_slice(&[1.0f64]))], 0.1).state();
        assert_eq!(optimizer.restore(&other).unwrap_err().to_string(), "the weights lack `tensor.b`");
    }
}
