//! Stochastic gradient descent as `torch.optim.SGD` does it (no dampening, no Nesterov), with a state that can be kept.

use tch::{Kind, Tensor, no_grad};

use crate::clip::{Weights, torch};
use maple_pipe::error::Result;
use maple_pipe::method::Training;

/// The optimiser of some learned tensors.
#[derive(Debug)]
pub struct Sgd {
    learnable: Vec<(String, Tensor)>,
    momentum: f64,
    weight_decay: f64,
    /// The running sum of each tensor's gradients; zero at the start.
    velocities: Vec<Tensor>,
}

impl Sgd {
    /// For these tensors (leaves that ask for gradients), with the momentum and weight decay of `training`.
    pub fn new(learnable: Vec<(String, Tensor)>, training: &Training) -> Sgd {
        let velocities = learnable.iter().map(|(_, tensor)| tensor.detach().zeros_like()).collect();
        Sgd { learnable, momentum: training.momentum, weight_decay: training.weight_decay, velocities }
    }

    /// The gradients of a scalar `loss`, one for each learned tensor in their order.
    ///
    /// # Errors
    /// When a learned tensor has no part in the loss.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let inputs: Vec<&Tensor> = self.learnable.iter().map(|(_, tensor)| tensor).collect();
        Tensor::f_run_backward(&[loss], &inputs, false, false).map_err(torch)
    }

    /// One step along these gradients, as [`Sgd::gradients`] returns them. In 16 bits it rounds where PyTorch does: behind
    /// the decay, behind the momentum, and behind the step.
    pub fn step(&mut self, gradients: &[Tensor], learning_rate: f64) {
        no_grad(|| {
            for (((_, tensor), velocity), gradient) in
                self.learnable.iter_mut().zip(&mut self.velocities).zip(gradients)
            {
                let kind = tensor.kind();
                let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
                let decayed = (gradient.to_kind(wide) + tensor.to_kind(wide) * self.weight_decay).to_kind(kind);
                let slowed = &*velocity * self.momentum;
                *velocity = slowed + decayed;
                let moved = tensor.to_kind(wide) - velocity.to_kind(wide) * learning_rate;
                tensor.copy_(&moved);
            }
        });
    }

    /// What a later run needs to go on: the running sums, under the tensors' names.
    pub fn state(&self) -> Weights {
        let names = self.learnable.iter().map(|(name, _)| name.clone());
        Weights::from_tensors(names.zip(self.velocities.iter().map(Tensor::copy)))
    }

    /// Goes on from a state that [`Sgd::state`] returned.
    ///
    /// # Errors
    /// When it is the state of other tensors; nothing has changed then.
    pub fn load(&mut self, state: &Weights) -> Result<()> {
        super::model::copy_into(&self.learnable, &self.velocities, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training() -> Training {
        Training {
            epochs: 1,
            batch_size: 1,
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 0.01,
            warmup_epochs: 0,
            warmup_learning_rate: 0.0,
        }
    }

    fn optimiser() -> (Tensor, Sgd) {
        let tensor = Tensor::from_slice(&[1.0f64, -2.0]).set_requires_grad(true);
        let optimiser = Sgd::new(vec![("x".to_owned(), tensor.shallow_clone())], &training());
        (tensor, optimiser)
    }

    fn step(tensor: &Tensor, optimiser: &mut Sgd) {
        let gradients = optimiser.gradients(&(tensor * tensor).sum(tensor.kind())).unwrap();
        optimiser.step(&gradients, 0.1);
    }

    /// By hand: v = 0.9 v + 2 x + 0.01 x, x = x - 0.1 v.
    #[test]
    fn steps_follow_the_formula() {
        let (tensor, mut optimiser) = optimiser();
        let (mut x, mut v) = ([1.0f64, -2.0], [0.0f64; 2]);
        for _ in 0..3 {
            step(&tensor, &mut optimiser);
            for i in 0..2 {
                v[i] = 0.9 * v[i] + 2.0 * x[i] + 0.01 * x[i];
                x[i] -= 0.1 * v[i];
                assert!((tensor.double_value(&[i as i64]) - x[i]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_state_goes_on_where_it_was_left() {
        let (tensor, mut optimiser) = optimiser();
        step(&tensor, &mut optimiser);
        let (state, values) = (optimiser.state(), tensor.detach().copy());
        step(&tensor, &mut optimiser);

        let again = values.set_requires_grad(true);
        let mut resumed = Sgd::new(vec![("x".to_owned(), again.shallow_clone())], &training());
        resumed.load(&state).unwrap();
        step(&again, &mut resumed);
        assert_eq!(again, tensor);

        let other = Weights::from_tensors([("y".to_owned(), Tensor::from_slice(&[1.0f64]))]);
        let message = resumed.load(&other).unwrap_err().to_string();
        assert_eq!(message, "the weights do not fit: missing: `x`; unknown: `y`");
    }
}
