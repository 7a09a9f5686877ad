//! What an evaluation leaves: `metrics.json`, a row of `per-class.csv` for each class, one of `predictions.csv` for each
//! image. Each is one type, with which it is written and read.

mod attention;
mod calibration;
mod metrics;
mod prediction;

pub use attention::AttentionMap;
pub use calibration::{BINS, Bin, Calibration};
pub use metrics::{ClassMetrics, Metrics, read_metrics};
pub use prediction::{Prediction, PredictionRow};
