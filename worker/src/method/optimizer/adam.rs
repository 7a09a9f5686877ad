//! Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), as `torch.optim.Adam` and `torch.optim.AdamW` do them.

use tch::{Device, Kind, Tensor};

use super::rule::{Pace, Rule, wide};

/// Where the weight decay of each tensor acts.
pub(super) enum Decay {
    /// It is added to the gradient: Adam.
    Gradients(Vec<f64>),
    /// It shrinks the tensor itself: AdamW.
    Tensors(Vec<f64>),
}

/// The rule, with the running means of each tensor's gradient and of its square. They are kept in fp32 at least: in 16 bits,
/// as PyTorch has them, the squares of small gradients vanish.
pub(super) struct Adam {
    betas: [f64; 2],
    eps: f64,
    decay: Decay,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    /// How many steps were taken, without axes.
    steps: Tensor,
}

impl Adam {
    pub(super) fn new(tensors: &[Tensor], betas: [f64; 2], eps: f64, decay: Decay) -> Adam {
        let zeros = || tensors.iter().map(|tensor| tensor.to_kind(wide(tensor)).zeros_like()).collect();
        let device = tensors.first().map_or(Device::Cpu, Tensor::device);
        let steps = Tensor::zeros([], (Kind::Int64, device));
        Adam { betas, eps, decay, first: zeros(), second: zeros(), steps }
    }
}

impl Rule for Adam {
    fn step(&mut self, tensors: &[Tensor], gradients: &[Tensor], pace: Pace<'_>) {
        self.steps += pace.count();
        let steps = self.steps.to_kind(Kind::Double);
        let [beta1, beta2] = self.betas;
        let [correction1, correction2] = self.betas.map(|beta| 1.0 - Tensor::pow_scalar(beta, &steps));
        let rate = pace.learning_rate / correction1;
        let moments = self.first.iter().zip(&self.second);
        for (place, ((tensor, gradient), (first, second))) in tensors.iter().zip(gradients).zip(moments).enumerate() {
            let (gradient, values) = (gradient.to_kind(wide(tensor)), tensor.to_kind(wide(tensor)));
            let (gradient, values) = match &self.decay {
                Decay::Gradients(decays) => (gradient + &values * decays[place], values),
                Decay::Tensors(decays) => (gradient, values * (1.0 - pace.learning_rate * decays[place])),
            };
            let next_first = first.lerp(&gradient, 1.0 - beta1);
            let next_second = second.lerp(&gradient.square(), 1.0 - beta2);
            let scale = (&next_second / &correction2).sqrt_() + self.eps;
            let moved = values - &next_first / scale * &rate;
            pace.write(first, &next_first);
            pace.write(second, &next_second);
            pace.write(tensor, &moved);
        }
    }

    fn kept(&self) -> Vec<(&'static str, &[Tensor])> {
        vec![("first", &self.first), ("second", &self.second)]
    }

    fn steps(&self) -> Option<&Tensor> {
        Some(&self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published formulae, on one number: for AdamW decay first, then the step by the corrected moments.
    #[test]
    fn steps_follow_the_formula() {
        const BETAS: [f64; 2] = [0.9, 0.98];
        const EPS: f64 = 1e-6;
        for of_tensors in [false, true] {
            let tensors = [Tensor::from_slice(&[2.0f64])];
            let decay = if of_tensors { Decay::Tensors(vec![0.1]) } else { Decay::Gradients(vec![0.1]) };
            let mut adam = Adam::new(&tensors, BETAS, EPS, decay);
            let (mut x, mut first, mut second) = (2.0f64, 0.0, 0.0);
            for (step, gradient) in [3.0f64, -1.0, 0.5].into_iter().enumerate() {
                let pace = Pace { learning_rate: &Tensor::from(0.01), taken: None };
                adam.step(&tensors, &[Tensor::from_slice(&[gradient])], pace);
                let gradient = if of_tensors { gradient } else { gradient + 0.1 * x };
                first = BETAS[0] * first + (1.0 - BETAS[0]) * gradient;
                second = BETAS[1] * second + (1.0 - BETAS[1]) * gradient * gradient;
                let corrected = |moment: f64, beta: f64| moment / (1.0 - beta.powi(step as i32 + 1));
                if of_tensors {
                    x -= 0.01 * 0.1 * x;
                }
                x -= 0.01 * corrected(first, BETAS[0]) / (corrected(second, BETAS[1]).sqrt() + EPS);
                assert!((tensors[0].double_value(&[0]) - x).abs() < 1e-12);
            }
        }
    }
}
