//! What makes steps of gradients, with a state that can be kept.

mod adam;
mod rule;
mod sgd;

use tch::{Kind, Tensor, no_grad};

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
    groups: Vec<Group>,
    rule: Box<dyn Rule>,
}

/// Learned tensors that move alike. A step computes them as one, one behind the other: element by element it is the same, and a
/// card, for which most of them are small, takes one operation for all of them.
struct Group {
    kind: Kind,
    decay: f64,
    /// Their places among the learned tensors.
    places: Vec<usize>,
}

impl Group {
    /// The tensors as one.
    fn joined(&self, tensors: &[Tensor]) -> Tensor {
        Tensor::cat(&self.places.iter().map(|&place| tensors[place].flatten(0, -1)).collect::<Vec<_>>(), 0)
    }

    /// Those that were joined.
    fn apart(&self, joined: &Tensor, tensors: &[Tensor]) -> Vec<Tensor> {
        let mut start = 0;
        let part = |&place: &usize| {
            let (first, size) = (start, tensors[place].size());
            start += tensors[place].numel() as i64;
            joined.narrow(0, first, start - first).view(size.as_slice())
        };
        self.places.iter().map(part).collect()
    }
}

impl Optimizer {
    /// For these tensors (leaves that ask for gradients), as `training` says.
    pub fn new(learned: Vec<(String, Tensor)>, training: &Training) -> Optimizer {
        let &Training { momentum, weight_decay, betas, eps, .. } = training;
        let decays = vec![weight_decay; learned.len()];
        Optimizer::by(learned, &decays, |tensors, decays| match training.optimizer {
            method::Optimizer::Sgd => Box::new(Sgd::new(tensors, momentum, weight_decay)),
            method::Optimizer::Adam => Box::new(Adam::new(tensors, betas, eps, Decay::Gradients(decays))),
            method::Optimizer::AdamW => Box::new(Adam::new(tensors, betas, eps, Decay::Tensors(decays))),
        })
    }

    /// AdamW with a weight decay for each tensor.
    pub(super) fn adamw(learned: Vec<(String, Tensor)>, betas: [f64; 2], eps: f64, decays: Vec<f64>) -> Optimizer {
        Optimizer::by(learned, &decays, |tensors, decays| {
            Box::new(Adam::new(tensors, betas, eps, Decay::Tensors(decays)))
        })
    }

    /// By a rule for the groups' tensors with the groups' decays.
    fn by(
        learned: Vec<(String, Tensor)>,
        decays: &[f64],
        rule: impl FnOnce(&[Tensor], Vec<f64>) -> Box<dyn Rule>,
    ) -> Optimizer {
        let mut groups: Vec<Group> = Vec::new();
        for (place, ((_, tensor), &decay)) in learned.iter().zip(decays).enumerate() {
            let alike = |group: &&mut Group| group.kind == tensor.kind() && group.decay == decay;
            match groups.iter_mut().find(alike) {
                Some(group) => group.places.push(place),
                None => groups.push(Group { kind: tensor.kind(), decay, places: vec![place] }),
            }
        }
        let tensors: Vec<Tensor> = learned.iter().map(|(_, tensor)| tensor.detach()).collect();
        let joined: Vec<Tensor> = groups.iter().map(|group| group.joined(&tensors)).collect();
        let rule = rule(&joined, groups.iter().map(|group| group.decay).collect());
        Optimizer { learned, groups, rule }
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
        self.step_at(gradients, Pace { learning_rate: &Tensor::from(learning_rate), taken: None });
    }

    /// The same where `taken` holds, and else none, decided where the tensors are. Both numbers are without axes, the
    /// learning rate in fp64.
    pub(super) fn step_if(&mut self, taken: &Tensor, gradients: &[Tensor], learning_rate: &Tensor) {
        self.step_at(gradients, Pace { learning_rate, taken: Some(taken) });
    }

    fn step_at(&mut self, gradients: &[Tensor], pace: Pace<'_>) {
        no_grad(|| {
            let tensors = self.tensors();
            let join =
                |tensors: &[Tensor]| -> Vec<Tensor> { self.groups.iter().map(|group| group.joined(tensors)).collect() };
            let (joined, gradients) = (join(&tensors), join(gradients));
            self.rule.step(&joined, &gradients, pace);
            for (group, joined) in self.groups.iter().zip(&joined) {
                for (&place, moved) in group.places.iter().zip(group.apart(joined, &tensors)) {
                    tensors[place].shallow_clone().copy_(&moved);
                }
            }
        });
    }

    /// The learned tensors.
    fn tensors(&self) -> Vec<Tensor> {
        self.learned.iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
    }

    /// What it moves.
    pub(super) fn learned(&self) -> &[(String, Tensor)] {
        &self.learned
    }

    /// The tensors that a later run needs to go on, by name; what is written to them counts from the next step on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let (tensors, mut state) = (self.tensors(), Vec::new());
        for (part, kept) in self.rule.kept() {
            for (group, kept) in self.groups.iter().zip(kept) {
                let apart = group.places.iter().zip(group.apart(kept, &tensors));
                state.extend(apart.map(|(&place, kept)| (format!("{part}.{}", self.learned[place].0), kept)));
            }
        }
        state.extend(self.rule.steps().map(|steps| ("steps".to_owned(), steps.shallow_clone())));
        state
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
