//! How sure methods are beside how often they are right, by data set.

use super::materials::{Evaluations, Materials};
use crate::error::Result;
use crate::evaluation::{Calibration, PredictionRow};
use crate::table::Deviation;

/// A method on some classes of a data set, over all seeds.
#[derive(Debug)]
pub struct MethodCalibration {
    /// What the method is called.
    pub method: String,
    /// What else tells its evaluations apart, e.g. `novel` or `16 shots`; may be empty.
    pub setting: String,
    /// The expected calibration error in percent: the mean over the evaluations, and their population deviation, where there are
    /// several.
    pub error: (f64, Option<f64>),
    /// The predictions of all evaluations.
    pub whole: Calibration,
}

/// Those of the evaluations of a data set, which are by method.
pub(super) fn calibrations(materials: &Materials<'_>, methods: &[&Evaluations<'_>]) -> Result<Vec<MethodCalibration>> {
    let mut all = Vec::new();
    for evaluations in methods {
        let mut settings: Vec<(String, Vec<Calibration>)> = Vec::new();
        for &(index, record) in &evaluations.nodes {
            let rows: Vec<PredictionRow<'static>> = materials.rows(record, "predictions")?;
            let found = Calibration::of(rows.iter().map(|row| (row.probability, row.label == row.prediction)));
            let setting = materials.setting(index);
            match settings.iter_mut().find(|(known, _)| *known == setting) {
                Some((_, calibrations)) => calibrations.push(found),
                None => settings.push((setting, vec![found])),
            }
        }
        for (setting, calibrations) in settings {
            let errors: Vec<f64> = calibrations.iter().filter_map(Calibration::error).collect();
            if errors.is_empty() {
                continue;
            }
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let deviation = (errors.len() > 1).then(|| Deviation::Population.of(&errors));
            let mut whole = Calibration::default();
            calibrations.iter().for_each(|one| whole.add(one));
            let method = materials.label(&evaluations.method);
            all.push(MethodCalibration { method, setting, error: (mean, deviation), whole });
        }
    }
    Ok(all)
}
