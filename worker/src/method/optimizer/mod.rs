//! What makes steps of gradients, with a state that can be kept.

mod adam;
mod rule;
mod sgd;

use tch::{Tensor, no_grad};

use super::state::copy_into;
use crate::clip::{Weights, torch};
use adam::{Adam, Decay};
use maple_pipe::error::Result;
use maple_pipe::method::{self, Training};
use rule::{Pace, Rule};
use sgd::Sgd;

/// The optimizer of some learned tensors.
pub struct Optimizer {
    learned: Vec<(String, Tensor)>,
    rule: Box<dyn Rule>,
}

impl Optimizer {
    /// For these tensors (leaves that ask for gradients), as `training` says.
    pub fn new(learned: Vec<(String, Tensor)>, training: &Training) -> Optimizer {
        let &Training { momentum, weight_decay, betas, eps, .. } = training;
        let decays = vec![weight_decay; learned.len()];
        let rule: Box<dyn Rule> = match training.optimizer {
            method::Optimizer::Sgd => Box::new(Sgd::new(&learned, momentum, weight_decay)),
            method::Optimizer::Adam => Box::new(Adam::new(&learned, betas, eps, Decay::Gradients(decays))),
            method::Optimizer::AdamW => Box::new(Adam::new(&learned, betas, eps, Decay::Tensors(decays))),
        };
        Optimizer { learned, rule }
    }

    /// AdamW with a weight decay for each tensor.
    pub(super) fn adamw(learned: Vec<(String, Tensor)>, betas: [f64; 2], eps: f64, decays: Vec<f64>) -> Optimizer {
        let rule = Box::new(Adam::new(&learned, betas, eps, Decay::Tensors(decays)));
        Optimizer { learned, rule }
    }

    /// The gradients of a scalar `loss`, one for each learned tensor in their order.
    ///
    /// # Errors
    /// When a learned tensor has no part in the loss.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let inputs: Vec<&Tensor> = self.learned.iter().map(|(_, tensor)| tensor).collect();
        Tensor::f_run_backward(&[loss], &inputs, false, false).map_err(torch)
    }

    /// One step along these gradients, as [`Optimizer::gradients`] returns them.
    pub fn step(&mut self, gradients: &[Tensor], learning_rate: f64) {
        let pace = Pace { learning_rate: &Tensor::from(learning_rate), taken: None };
        no_grad(|| self.rule.step(&self.learned, gradients, pace));
    }

    /// The same where `taken` holds, and else none, decided where the tensors are. Both numbers are without axes, the
    /// learning rate in fp64.
    pub(super) fn step_if(&mut self, taken: &Tensor, gradients: &[Tensor], learning_rate: &Tensor) {
        let pace = Pace { learning_rate, taken: Some(taken) };
        no_grad(|| self.rule.step(&self.learned, gradients, pace));
    }

    /// What it moves.
    pub(super) fn learned(&self) -> &[(String, Tensor)] {
        &self.learned
    }

    /// The tensors that a later run needs to go on, by name; what is written to them counts from the next step on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.rule.state(&self.learned)
    }

    /// Goes on from what [`Optimizer::state`] returned.
    ///
    /// # Errors
    /// When it is the state of other tensors or of another optimizer; nothing has changed then.
    pub fn load(&mut self, state: &Weights) -> Result<()> {
        copy_into(&self.state(), state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Kind;
    use tch::nn::{self, OptimizerConfig};

    use super::*;

    const RATE: f64 = 0.1;

    fn training(options: serde_json::Value) -> Training {
        let mut training = json!({ "epochs": 1, "batch_size": 1, "learning_rate": RATE, "weight_decay": 0.01 });
        training.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        serde_json::from_value(training).unwrap()
    }

    /// Every optimizer, with other values than the default ones.
    fn every_training() -> [Training; 3] {
        [
            json!({ "optimizer": "sgd", "momentum": 0.8 }),
            json!({ "optimizer": "adam", "betas": [0.8, 0.99], "eps": 1e-3 }),
            json!({ "optimizer": "adamw", "betas": [0.8, 0.99], "eps": 1e-3 }),
        ]
        .map(training)
    }

    fn optimizer(values: &Tensor, training: &Training) -> (Tensor, Optimizer) {
        let tensor = values.detach().copy().set_requires_grad(true);
        let optimizer = Optimizer::new(vec![("x".to_owned(), tensor.shallow_clone())], training);
        (tensor, optimizer)
    }

    /// Some loss whose gradient is not the same in any two steps.
    fn loss(tensor: &Tensor) -> Tensor {
        (tensor * tensor + tensor.sin()).sum(tensor.kind())
    }

    fn step(tensor: &Tensor, optimizer: &mut Optimizer) {
        let gradients = optimizer.gradients(&loss(tensor)).unwrap();
        optimizer.step(&gradients, RATE);
    }

    /// libtorch's own optimizers take the same steps.
    #[test]
    fn steps_are_those_of_libtorch() {
        let values = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0]);
        for training in every_training() {
            let (tensor, mut optimizer) = optimizer(&values, &training);
            let store = nn::VarStore::new(tch::Device::Cpu);
            let theirs = store.root().var_copy("x", &values);
            let (decay, [beta1, beta2], eps) = (training.weight_decay, training.betas, training.eps);
            let mut reference = match training.optimizer {
                method::Optimizer::Sgd => nn::sgd(training.momentum, 0.0, decay, false).build(&store, RATE),
                method::Optimizer::Adam => {
                    nn::Adam { beta1, beta2, wd: decay, eps, amsgrad: false }.build(&store, RATE)
                }
                method::Optimizer::AdamW => {
                    nn::AdamW { beta1, beta2, wd: decay, eps, amsgrad: false }.build(&store, RATE)
                }
            }
            .unwrap();
            for steps in 1..=20 {
                step(&tensor, &mut optimizer);
                reference.backward_step(&loss(&theirs));
                let apart = (&tensor - &theirs).abs().max().double_value(&[]);
                assert!(apart < 1e-5, "{:?}, step {steps}: {apart}", training.optimizer);
            }
            assert!((&tensor - &values).abs().min().double_value(&[]) > 0.1, "nothing has moved");
        }
    }

    #[test]
    fn a_state_goes_on_where_it_was_left() {
        for training in every_training() {
            let (tensor, mut one) = optimizer(&Tensor::from_slice(&[1.0f64, -2.0]), &training);
            step(&tensor, &mut one);
            let state = one.state().into_iter().map(|(name, tensor)| (name, tensor.copy()));
            let (state, values) = (Weights::from_tensors(state), tensor.detach().copy());
            step(&tensor, &mut one);

            let (again, mut resumed) = optimizer(&values, &training);
            resumed.load(&state).unwrap();
            step(&again, &mut resumed);
            assert_eq!(again, tensor);
        }
    }

    #[test]
    fn a_foreign_state_is_refused() {
        let [sgd, adam, _] = every_training();
        let values = Tensor::from_slice(&[1.0f64]);
        let state = optimizer(&values, &adam).1.state();
        let message = optimizer(&values, &sgd).1.load(&Weights::from_tensors(state)).unwrap_err().to_string();
        assert_eq!(message, "the weights do not fit: missing: `velocity.x`; unknown: `first.x`, `second.x`, `steps`");
    }

    /// In 16 bits the squares of small gradients vanish, and with them a step would be a division by zero.
    #[test]
    fn adam_moves_16_bit_tensors_by_small_gradients() {
        let training = training(json!({ "optimizer": "adam", "weight_decay": 0.0 }));
        let (tensor, mut optimizer) = optimizer(&Tensor::from_slice(&[1.0f32]).to_kind(Kind::Half), &training);
        optimizer.step(&[Tensor::from_slice(&[1e-5f32]).to_kind(Kind::Half)], RATE);
        assert_eq!(tensor.kind(), Kind::Half);
        assert!((tensor.double_value(&[0]) - 0.9).abs() < 1e-3, "{tensor:?}");
    }
}
