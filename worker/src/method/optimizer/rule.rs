//! What an optimizer is.

use tch::Tensor;

/// How a step follows from gradients.
pub(super) trait Rule {
    /// One step of these tensors along their gradients, without a record for gradients of its own.
    fn step(&mut self, tensors: &[(String, Tensor)], gradients: &[Tensor], learning_rate: f64);

    /// The tensors that it keeps from step to step; `names` are those of what it moves, in their order.
    fn state(&self, names: &[(String, Tensor)]) -> Vec<(String, Tensor)>;
}
