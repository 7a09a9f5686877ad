//! The learning rate of each epoch: constant while warming up, then cosine annealing (Dassl's `ConstantWarmupScheduler`
//! over PyTorch's `CosineAnnealingLR`), or by step.

use std::f64::consts::PI;

use maple_pipe::method::{Annealing, Training};

/// The learning rate of a step, counted from 0 in its `epoch` of `steps` steps, which is counted from 0, too. The annealing by
/// steps has the period of all steps behind the warm-up.
pub fn learning_rate_of_step(training: &Training, epoch: u32, step: usize, steps: usize) -> f64 {
    match (training.annealing, epoch.checked_sub(training.warmup_epochs)) {
        (Annealing::Step, Some(annealed)) => {
            let done = f64::from(annealed) * steps as f64 + step as f64;
            let all = f64::from(training.epochs - training.warmup_epochs) * steps as f64;
            training.learning_rate * (1.0 + libm::cos(PI * done / all)) / 2.0
        }
        (Annealing::Epoch, _) | (_, None) => learning_rate(training, epoch),
    }
}

/// The learning rate of `epoch`, counted from 0. The annealing counts its own epochs, from the end of the warm-up, over
/// a period of `training.epochs`; so the first epoch behind the warm-up runs at the full rate.
pub fn learning_rate(training: &Training, epoch: u32) -> f64 {
    match epoch.checked_sub(training.warmup_epochs) {
        None => training.warmup_learning_rate,
        Some(annealed) => {
            let turn = PI * f64::from(annealed) / f64::from(training.epochs);
            training.learning_rate * (1.0 + libm::cos(turn)) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lrs` of the recorded runs of MaPLe (5 epochs, two steps each) and of its cross-data-set configuration.
    #[test]
    fn equal_to_the_recorded_rates() {
        let maple = [1e-5, 0.0035, 0.0031657797401561582, 0.002290779740156158, 0.001209220259843842];
        let cross_dataset = [1e-5, 0.0026, 0.0013, 0.0, 0.0013];
        for (epochs, learning_rate_at_start, recorded) in [(5, 0.0035, maple), (2, 0.0026, cross_dataset)] {
            let training = serde_json::json!({
                "epochs": epochs, "batch_size": 4, "learning_rate": learning_rate_at_start,
            });
            let training: Training = serde_json::from_value(training).unwrap();
            for (epoch, expected) in recorded.into_iter().enumerate() {
                let found = learning_rate(&training, epoch as u32);
                assert!((found - expected).abs() < 1e-15, "epoch {epoch}: {found}, not {expected}");
            }
        }
    }
}
