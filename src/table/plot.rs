//! A table as a plot: accuracy by shots, base against novel accuracy, or source against target accuracy.

use super::aggregate::{Group, Table};
use super::metric::Metric;
use crate::error::Result;
use crate::plot::{Plot, Series};

impl Table {
    /// The plot of the averages over data sets, or of the only data set, as SVG: of few-shot learning a curve a method, of
    /// base-to-novel generalization a point a method, of a transfer a point a method at its accuracy on the source, of
    /// anything else the accuracy on each data set.
    ///
    /// # Errors
    /// There is nothing to draw.
    pub fn plot(&self) -> Result<String> {
        let source = self.groups.iter().find(|group| group.is_outside);
        match (self.groups.last(), source) {
            (Some(summary), _) if self.has_own_plots() => self.plot_of(summary),
            (Some(summary), Some(source)) => {
                let title = format!("Source and target accuracy: {}", summary.label.text);
                let series = self.against((source, self.metrics[0]), (summary, self.metrics[0]));
                let x = format!("accuracy on {} (%)", source.label.text);
                Plot { title: &title, x: &x, y: "target accuracy (%)", series: &series, joined: false }.svg()
            }
            _ => {
                let title = format!("{} by data set", self.metrics[0].heading());
                let (x, y) = ("data sets in the order of the table", "accuracy (%)");
                Plot { title: &title, x, y, series: &self.by_dataset(), joined: true }.svg()
            }
        }
    }

    /// The plot of each data set beside that of their average, where they have some of their own: those that have a point.
    pub fn dataset_plots(&self) -> Vec<String> {
        let datasets = self.groups.split_last().map_or(&[][..], |(_, datasets)| datasets);
        let own = datasets.iter().filter(|_| self.has_own_plots());
        own.filter_map(|group| self.plot_of(group).ok()).collect()
    }

    /// Whether every data set has more than one metric to draw.
    fn has_own_plots(&self) -> bool {
        self.metrics.contains(&Metric::Novel) || self.metrics.iter().any(|metric| matches!(metric, Metric::Shots(_)))
    }

    fn plot_of(&self, group: &Group) -> Result<String> {
        if self.metrics.contains(&Metric::Novel) {
            let title = format!("Base and novel accuracy: {}", group.label.text);
            let series = self.against((group, Metric::Base), (group, Metric::Novel));
            let (x, y) = ("base accuracy (%)", "novel accuracy (%)");
            return Plot { title: &title, x, y, series: &series, joined: false }.svg();
        }
        let title = format!("Accuracy by shots: {}", group.label.text);
        let (x, y) = ("training images a class", "accuracy (%)");
        Plot { title: &title, x, y, series: &self.by_shots(group), joined: true }.svg()
    }

    fn mean(&self, group: &Group, method: usize, metric: Metric) -> Option<f64> {
        let column = self.metrics.iter().position(|known| *known == metric)?;
        group.rows[method][column].as_ref()?.mean
    }

    /// A series a method, of those that have a point.
    fn series(&self, points: impl Fn(usize) -> Vec<(f64, f64)>) -> Vec<Series> {
        let series = |(method, label): (usize, &super::Label)| Series {
            label: label.text.clone(),
            colour: method,
            points: points(method),
        };
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
        let table = base2novel();
        let plot = table.plot().unwrap();
        assert!(plot.contains("Base and novel accuracy: Average") && plot.contains("MaPLe_%"), "{plot}");
        let datasets = table.dataset_plots();
        assert_eq!(datasets.len(), 2);
        assert!(datasets[0].contains("Base and novel accuracy: EuroSAT"), "{datasets:?}");
        let table = transfer();
        assert!(table.plot().unwrap().contains("Source and target accuracy: Average"));
        assert!(table.dataset_plots().is_empty());
    }
}
