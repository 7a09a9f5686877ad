//! What a table shows of the spread over the seeds.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands behind `±`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Deviation {
    /// The standard deviation with divisor n, as numpy and the published `parse_test_res.py` compute it.
    #[default]
    Population,
    /// The standard deviation with divisor n - 1.
    Sample,
    /// Half the 95 % interval of the published `parse_test_res.py --ci95`: 1.96 times the population's standard deviation,
    /// by the square root of n.
    Interval,
}

impl Deviation {
    /// What it is, in words.
    pub fn says(self) -> &'static str {
        match self {
            Deviation::Population => "the standard deviation over the seeds (divisor n)",
            Deviation::Sample => "the standard deviation over the seeds (divisor n - 1)",
            Deviation::Interval => "half the 95 % interval of the mean over the seeds",
        }
    }

    /// The deviation of several values.
    pub fn of(self, values: &[f64]) -> f64 {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        match self {
            Deviation::Population => (squares / count).sqrt(),
            Deviation::Sample => (squares / (count - 1.0)).sqrt(),
            Deviation::Interval => 1.96 * (squares / count).sqrt() / count.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // numpy: np.std(x), np.std(x, ddof=1), 1.96 * np.std(x) / np.sqrt(3) for x = [91.8, 92.0, 92.2].
    #[test]
    fn deviations_are_numpys() {
        let values = [91.8, 92.0, 92.2];
        let expected = [(Deviation::Population, 0.163_299), (Deviation::Sample, 0.2), (Deviation::Interval, 0.184_790)];
        for (deviation, expected) in expected {
            assert!((deviation.of(&values) - expected).abs() < 1e-6, "{deviation:?}");
        }
    }
}
