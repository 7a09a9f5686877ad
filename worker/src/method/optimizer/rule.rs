//! What an optimizer is.

use tch::{Kind, Tensor};

/// How a step follows from gradients.
pub(super) trait Rule {
    /// One step of these tensors along their gradients, without a record for gradients of its own. Nothing is read from the
    /// device.
    fn step(&mut self, tensors: &[Tensor], gradients: &[Tensor], pace: Pace<'_>);

    /// What it keeps of each tensor from step to step, under what it is called; of the tensors' shapes and in their order.
    fn kept(&self) -> Vec<(&'static str, &[Tensor])>;

    /// How many steps it has taken, without axes, if it counts them.
    fn steps(&self) -> Option<&Tensor> {
        None
    }
}

/// How far a step goes.
#[derive(Clone, Copy)]
pub(super) struct Pace<'a> {
    /// In fp64, without axes.
    pub(super) learning_rate: &'a Tensor,
    /// Whether there is a step at all, without axes; always where it is absent.
    pub(super) taken: Option<&'a Tensor>,
}

impl Pace<'_> {
    /// Writes what a step makes of a tensor, if there is a step.
    pub(super) fn write(self, tensor: &Tensor, value: &Tensor) {
        let mut tensor = tensor.shallow_clone();
        match self.taken {
            Some(taken) => tensor.copy_(&value.where_self(taken, &tensor.to_kind(value.kind()))),
            None => tensor.copy_(value),
        }
    }

    /// The number of steps that this one is.
    pub(super) fn count(self) -> Tensor {
        match self.taken {
            Some(taken) => taken.to_kind(Kind::Int64),
            None => Tensor::from(1i64),
        }
    }
}

/// The number format in which a tensor's step is computed.
pub(super) fn wide(tensor: &Tensor) -> Kind {
    if tensor.kind() == Kind::Double { Kind::Double } else { Kind::Float }
}
