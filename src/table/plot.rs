//! A table as a plot: accuracy by shots, base against novel accuracy, or source against target accuracy.

use super::aggregate::{Group, Table};
use super::metric::Metric;
use crate::error::Result;
use crate::plot::{Plot, Series};

const SIZE: (u32, u32) = (640, 380);

impl Table {
    /// The plot of the averages over data sets, or of the only data set, as SVG: of few-shot learning a curve a method, of
    /// base-to-novel generalization a point a method, of a transfer a point a method at its accuracy on the source, of
    /// anything else the accuracy on each data set.
    ///
    /// # Errors
    /// There is nothing to draw.
    pub fn plot(&self) -> Result<String> {
        let summary = self.groups.last();
        let shots = self.metrics.iter().any(|metric| matches!(metric, Metric::Shots(_)));
        let base = self.metrics.contains(&Metric::Base) && self.metrics.contains(&Metric::Novel);
        let source = self.groups.iter().find(|group| group.is_outside);
        let draw = |title: String, x: &str, y: &str, joined: bool, series: Vec<Series>| {
            Plot { title: &title, x, y, series: &series, joined, size: SIZE }.svg()
        };
        match (summary, source) {
            (Some(summary), _) if shots => {
                let title = format!("Accuracy by shots: {}", summary.label.text);
                draw(title, "training images a class", "accuracy (%)", true, self.by_shots(summary))
            }
            (Some(summary), _) if base => {
                let title = format!("Base and novel accuracy: {}", summary.label.text);
                let series = self.against((summary, Metric::Base), (summary, Metric::Novel));
                draw(title, "base accuracy (%)", "novel accuracy (%)", false, series)
            }
            (Some(summary), Some(source)) => {
                let title = format!("Source and target accuracy: {}", summary.label.text);
                let series = self.against((source, self.metrics[0]), (summary, self.metrics[0]));
                draw(title, &format!("accuracy on {} (%)", source.label.text), "target accuracy (%)", false, series)
            }
            _ => {
                let title = format!("{} by data set", self.metrics[0].heading());
                let x = "data sets in the order of the table";
                draw(title, x, "accuracy (%)", true, self.by_dataset())
            }
        }
    }

    fn mean(&self, group: &Group, method: usize, metric: Metric) -> Option<f64> {
        let column = self.metrics.iter().position(|known| *known == metric)?;
        group.rows[method][column].as_ref()?.mean
    }

    /// A series a method, of those that have a point.
    fn series(&self, points: impl Fn(usize) -> Vec<(f64, f64)>) -> Vec<Series> {
        let series =
            |(method, label): (usize, &super::Label)| Series { label: label.text.clone(), points: points(method) };
        self.methods.iter().enumerate().map(series).filter(|series| !series.points.is_empty()).collect()
    }

    fn by_shots(&self, group: &Group) -> Vec<Series> {
        let point = |method: usize, metric: Metric| match metric {
            Metric::Shots(shots) => Some((f64::from(shots), self.mean(group, method, metric)?)),
            _ => None,
        };
        self.series(|method| self.metrics.iter().filter_map(|&metric| point(method, metric)).collect())
    }

    fn against(&self, x: (&Group, Metric), y: (&Group, Metric)) -> Vec<Series> {
        let point = |method| Some((self.mean(x.0, method, x.1)?, self.mean(y.0, method, y.1)?));
        self.series(|method| point(method).into_iter().collect())
    }

    fn by_dataset(&self) -> Vec<Series> {
        let point = |method: usize, place: usize, group: &Group| {
            Some((place as f64 + 1.0, self.mean(group, method, self.metrics[0])?))
        };
        self.series(|method| {
            self.groups.iter().enumerate().filter_map(|(place, group)| point(method, place, group)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, few_shot, transfer};

    #[test]
    fn each_kind_of_table_has_its_plot() {
        let few_shot = few_shot().plot().unwrap();
        assert!(few_shot.contains("Accuracy by shots: DTD") && few_shot.contains("<polyline"), "{few_shot}");
        let base2novel = base2novel().plot().unwrap();
        assert!(base2novel.contains("Base and novel accuracy: Average") && base2novel.contains("MaPLe_%"));
        let transfer = transfer().plot().unwrap();
        assert!(transfer.contains("Source and target accuracy: Average"), "{transfer}");
    }
}
