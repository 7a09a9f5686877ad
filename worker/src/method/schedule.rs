//! The learning rate of each epoch or step: constant while warming up, then cosine annealing (Dassl's
//! `ConstantWarmupScheduler` over PyTorch's `CosineAnnealingLR`).

use std::f64::consts::PI;

use maple_pipe::method::{Annealing, Training};

/// The learning rate of a step, counted from 0, where an epoch has so many. The annealing counts its own epochs or steps, from
/// the end of the warm-up, so that what is first behind it runs at the full rate. Its period is that of all epochs, as in
/// Dassl, or that of the steps behind the warm-up.
pub fn learning_rate(training: &Training, steps_of_epoch: usize, step: usize) -> f64 {
    let (epoch, warmup) = (step / steps_of_epoch, training.warmup_epochs as usize);
    if epoch < warmup {
        return training.warmup_learning_rate;
    }
    let before = warmup * steps_of_epoch;
    let (annealed, period) = match training.annealing {
        Annealing::Epoch => (epoch - warmup, training.epochs(steps_of_epoch) as usize),
        Annealing::Step => (step - before, training.steps(steps_of_epoch) - before),
    };
    let turn = PI * annealed as f64 / period as f64;
    let last = training.final_learning_rate;
    last + (training.learning_rate - last) * (1.0 + libm::cos(turn)) / 2.0
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
                let found = learning_rate(&training, 1, epoch);
                assert!((found - expected).abs() < 1e-15, "epoch {epoch}: {found}, not {expected}");
            }
        }
    }

    /// `CosineAnnealingLR(optimizer, 6, eta_min=1e-6)` over a rate of 2e-4, stepped behind every step; and one warm-up epoch
    /// of two steps.
    #[test]
    fn steps_have_rates_of_their_own() {
        let mut training: Training = serde_json::from_value(serde_json::json!({
            "iterations": 6, "batch_size": 4, "learning_rate": 2e-4, "final_learning_rate": 1e-6, "annealing": "step",
            "warmup_epochs": 0,
        }))
        .unwrap();
        let expected = |turn: f64| 1e-6 + (2e-4 - 1e-6) * (1.0 + turn.cos()) / 2.0;
        for step in 0..6 {
            let found = learning_rate(&training, 4, step);
            assert!((found - expected(PI * step as f64 / 6.0)).abs() < 1e-18, "step {step}: {found}");
        }
        assert_eq!((training.steps(4), training.epochs(4)), (6, 2));
        training.warmup_epochs = 1;
        let rates = [0, 1, 2, 3].map(|step| learning_rate(&training, 2, step));
        assert_eq!(rates[..3], [1e-5, 1e-5, 2e-4]);
        assert!((rates[3] - expected(PI / 4.0)).abs() < 1e-18, "{rates:?}");
    }
}
