//! How sure a model is, beside how often it is right.

/// Into so many bins of equal width confidences are sorted, as in Guo et al., "On Calibration of Modern Neural Networks"
/// (ICML 2017).
pub const BINS: usize = 15;

/// Predictions by the probability that the model gave them: bin m of M holds those above (m - 1) / M and up to m / M.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// From the least to the most sure.
    pub bins: [Bin; BINS],
}

/// The predictions of one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub images: usize,
    /// How many of them are right.
    pub right: usize,
    /// The sum of their probabilities.
    pub confidence: f64,
}

impl Bin {
    /// The share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }

    /// The mean of the predictions' probabilities.
    pub fn mean_confidence(&self) -> f64 {
        self.confidence / self.images.max(1) as f64
    }

    fn add(&mut self, other: &Bin) {
        self.images += other.images;
        self.right += other.right;
        self.confidence += other.confidence;
    }
}

impl Calibration {
    /// Sorts predictions: of each its probability, and whether it is right.
    pub fn of(predictions: impl IntoIterator<Item = (f64, bool)>) -> Calibration {
        let mut calibration = Calibration::default();
        for (confidence, is_right) in predictions {
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            calibration.bins[bin].add(&Bin { images: 1, right: usize::from(is_right), confidence });
        }
        calibration
    }

    /// Adds the predictions of another evaluation.
    pub fn add(&mut self, other: &Calibration) {
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, other)| bin.add(other));
    }

    /// All predictions as one bin.
    pub fn whole(&self) -> Bin {
        let mut whole = Bin::default();
        self.bins.iter().for_each(|bin| whole.add(bin));
        whole
    }

    /// The expected calibration error in percent: over all bins, how far accuracy and mean confidence are apart, weighted by the
    /// bin's share of the images. None where there are no predictions.
    pub fn error(&self) -> Option<f64> {
        let images = self.whole().images;
        let apart = |bin: &Bin| (bin.right as f64 - bin.confidence).abs();
        (images > 0).then(|| 100.0 * self.bins.iter().map(apart).sum::<f64>() / images as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}, {expected}");
    }

    // By hand: |1 - 1.5| in the bin up to 0.8, |1 - 0.1| in the second, of three images.
    #[test]
    fn the_error_is_the_mean_gap_weighted_by_images() {
        let predictions = [(0.75, true), (0.75, false), (0.1, true)];
        let calibration = Calibration::of(predictions);
        near(calibration.error(), 100.0 * (0.5 + 0.9) / 3.0);
        let Bin { images, right, confidence } = calibration.whole();
        assert_eq!((images, right, confidence), (3, 2, 1.6));
        let filled: Vec<usize> = (0..BINS).filter(|&bin| calibration.bins[bin].images > 0).collect();
        assert_eq!(filled, [1, 11]);
        // The sum of two halves is the whole.
        let mut sum = Calibration::of(predictions[..1].iter().copied());
        sum.add(&Calibration::of(predictions[1..].iter().copied()));
        assert_eq!(sum, calibration);
    }

    #[test]
    fn a_bin_holds_its_upper_edge() {
        let bin = |confidence: f64| {
            let calibration = Calibration::of([(confidence, true)]);
            calibration.bins.iter().position(|bin| bin.images > 0).unwrap()
        };
        assert_eq!([0.0, 1e-9, 0.2, 0.200_001, 0.8, 1.0].map(bin), [0, 0, 2, 3, 11, 14]);
    }

    #[test]
    fn who_is_as_sure_as_right_has_no_error_and_nobody_has_none() {
        let sure = (0..100).map(|place| (0.75, place % 4 != 0));
        near(Calibration::of(sure).error(), 0.0);
        near(Calibration::of([(1.0, false)]).error(), 100.0);
        assert_eq!(Calibration::default().error(), None);
    }
}
