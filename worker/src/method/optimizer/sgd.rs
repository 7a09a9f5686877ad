//! Stochastic gradient descent as `torch.optim.SGD` does it (no dampening, no Nesterov).

use tch::Tensor;

use super::rule::{Pace, Rule, wide};

/// The rule, and the running sum of each tensor's gradients; zero at the start.
pub(super) struct Sgd {
    momentum: f64,
    weight_decay: f64,
    velocities: Vec<Tensor>,
}

impl Sgd {
    pub(super) fn new(tensors: &[Tensor], momentum: f64, weight_decay: f64) -> Sgd {
        let velocities = tensors.iter().map(Tensor::zeros_like).collect();
        Sgd { momentum, weight_decay, velocities }
    }
}

impl Rule for Sgd {
    /// In 16 bits it rounds where PyTorch does: behind the decay, behind the momentum, and behind the step.
    fn step(&mut self, tensors: &[Tensor], gradients: &[Tensor], pace: Pace<'_>) {
        for ((tensor, velocity), gradient) in tensors.iter().zip(&self.velocities).zip(gradients) {
            let wide = wide(tensor);
            let decayed = (gradient.to_kind(wide) + tensor.to_kind(wide) * self.weight_decay).to_kind(tensor.kind());
            let next = velocity * self.momentum + decayed;
            let moved = tensor.to_kind(wide) - next.to_kind(wide) * pace.learning_rate;
            pace.write(velocity, &next);
            pace.write(tensor, &moved);
        }
    }

    fn kept(&self) -> Vec<(&'static str, &[Tensor])> {
        vec![("velocity", &self.velocities)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: v = 0.9 v + 2 x + 0.01 x, x = x - 0.1 v.
    #[test]
    fn steps_follow_the_formula() {
        let tensors = [Tensor::from_slice(&[1.0f64, -2.0])];
        let mut sgd = Sgd::new(&tensors, 0.9, 0.01);
        let (mut x, mut v) = ([1.0f64, -2.0], [0.0f64; 2]);
        for _ in 0..3 {
            let pace = Pace { learning_rate: &Tensor::from(0.1), taken: None };
            sgd.step(&tensors, &[&tensors[0] * 2.0], pace);
            for i in 0..2 {
                v[i] = 0.9 * v[i] + 2.0 * x[i] + 0.01 * x[i];
                x[i] -= 0.1 * v[i];
                assert!((tensors[0].double_value(&[i as i64]) - x[i]).abs() < 1e-12);
            }
        }
    }
}
