//! A table as a plot: accuracy by shots, base against novel accuracy, or source against target accuracy.

use super::aggregate::{Group, Table};
use super::metric::Metric;
use crate::plot::{Plot, Point, Series};

impl Table {
    /// The plot of the averages over data sets, or of the only data set, as SVG: of few-shot learning a curve a method, of
    /// base-to-novel generalization a point a method, of a transfer a point a method at its accuracy on the source, of
    /// anything else the accuracy on each data set. Error bars are the table's deviation over the seeds. None where there is
    /// nothing to draw.
    pub fn plot(&self) -> Option<String> {
        let source = self.groups.iter().find(|group| group.is_outside);
        match (self.summary(), source) {
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
        let datasets = self.groups.iter().filter(|group| self.summary() != Some(*group));
        datasets.filter(|_| self.has_own_plots()).filter_map(|group| self.plot_of(group)).collect()
    }

    /// The average over data sets, or the only one that would enter it.
    fn summary(&self) -> Option<&Group> {
        self.groups.iter().rfind(|group| !group.is_outside)
    }

    /// Whether every data set has more than one metric to draw.
    fn has_own_plots(&self) -> bool {
        self.has_both_classes() || self.metrics.iter().any(|metric| matches!(metric, Metric::Shots(_)))
    }

    fn has_both_classes(&self) -> bool {
        [Metric::Base, Metric::Novel].iter().all(|metric| self.metrics.contains(metric))
    }

    fn plot_of(&self, group: &Group) -> Option<String> {
        if self.has_both_classes() {
            let title = format!("Base and novel accuracy: {}", group.label.text);
            let series = self.against((group, Metric::Base), (group, Metric::Novel));
            let (x, y) = ("base accuracy (%)", "novel accuracy (%)");
            return Plot { title: &title, x, y, series: &series, joined: false }.svg();
        }
        let title = format!("Accuracy by shots: {}", group.label.text);
        let (x, y) = ("training images a class", "accuracy (%)");
        Plot { title: &title, x, y, series: &self.by_shots(group), joined: true }.svg()
    }

    /// A value and how far its error bar reaches.
    fn drawn(&self, group: &Group, method: usize, metric: Metric) -> Option<(f64, Option<f64>)> {
        let column = self.metrics.iter().position(|known| *known == metric)?;
        let cell = group.rows[method][column].as_ref()?;
        Some((cell.mean?, cell.spread))
    }

    /// A series per method, of those that have a point.
    fn series(&self, points: impl Fn(usize) -> Vec<Point>) -> Vec<Series> {
        let series = |(method, label): (usize, &super::Label)| Series {
            label: label.text.clone(),
            colour: method,
            points: points(method),
            marks: Vec::new(),
        };
        self.methods.iter().enumerate().map(series).filter(|series| !series.points.is_empty()).collect()
    }

    fn by_shots(&self, group: &Group) -> Vec<Series> {
        let point = |method: usize, metric: Metric| match metric {
            Metric::Shots(shots) => Some(above(f64::from(shots), self.drawn(group, method, metric)?)),
            _ => None,
        };
        self.series(|method| self.metrics.iter().filter_map(|&metric| point(method, metric)).collect())
    }

    fn against(&self, x: (&Group, Metric), y: (&Group, Metric)) -> Vec<Series> {
        let point = |method| {
            let [x, y] = [self.drawn(x.0, method, x.1)?, self.drawn(y.0, method, y.1)?];
            Some(Point { x: x.0, y: y.0, error: [x.1, y.1] })
        };
        self.series(|method| point(method).into_iter().collect())
    }

    fn by_dataset(&self) -> Vec<Series> {
        let point = |method: usize, place: usize, group: &Group| {
            Some(above(place as f64 + 1.0, self.drawn(group, method, self.metrics[0])?))
        };
        self.series(|method| {
            self.groups.iter().enumerate().filter_map(|(place, group)| point(method, place, group)).collect()
        })
    }
}

/// The point of a value and its error bar above a place.
fn above(x: f64, (y, error): (f64, Option<f64>)) -> Point {
    Point { x, y, error: [None, error] }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, few_shot, missing, order, score, transfer};
    use super::super::{Score, Table};
    use crate::data::Classes;

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

    fn table(datasets: &[&str], outside_average: &[&str], scores: &[Score]) -> Table {
        let mut order = order(datasets, &["clip", "maple"]);
        order.outside_average = outside_average.iter().map(|&name| name.to_owned()).collect();
        Table::new("table", "", scores, &order).unwrap()
    }

    #[test]
    fn one_half_of_the_classes_has_a_plot_by_data_set() {
        for classes in [Classes::Base, Classes::Novel] {
            let scores = [score("dtd", "clip", None, classes, 60.0), score("pets", "clip", None, classes, 97.0)];
            let table = table(&["dtd", "pets"], &[], &scores);
            let plot = table.plot().unwrap();
            assert!(plot.contains(&format!("{} by data set", table.metrics[0].heading())), "{plot}");
            assert!(plot.contains("<polyline") && table.dataset_plots().is_empty(), "{plot}");
        }
    }

    #[test]
    fn a_table_without_a_point_has_no_plot() {
        // No method has both halves.
        let halves =
            [score("dtd", "clip", None, Classes::Base, 60.0), score("dtd", "maple", None, Classes::Novel, 60.0)];
        let nothing = [Classes::Base, Classes::Novel].map(|classes| missing("dtd", "clip", None, classes));
        let no_shots = [Score { shots: Some(1), ..missing("dtd", "clip", Some(1), Classes::All) }];
        let no_source = [missing("dtd", "clip", None, Classes::All), score("pets", "clip", None, Classes::All, 90.0)];
        for (outside, scores) in
            [(&[][..], &halves[..]), (&[], &nothing), (&[], &nothing[1..]), (&[], &no_shots), (&["dtd"], &no_source)]
        {
            let table = table(&["dtd", "pets"], outside, scores);
            assert_eq!((table.plot(), table.dataset_plots()), (None, Vec::new()));
        }
    }

    #[test]
    fn a_source_is_not_drawn_against_itself() {
        let scores = ["dtd", "pets"].map(|dataset| score(dataset, "clip", None, Classes::All, 60.0));
        let plot = table(&["dtd", "pets"], &["pets"], &scores).plot().unwrap();
        assert!(plot.contains("Source and target accuracy: dtd") && plot.contains("accuracy on pets"), "{plot}");
        let plot = table(&["dtd", "pets"], &["dtd", "pets"], &scores).plot().unwrap();
        assert!(plot.contains("Accuracy by data set"), "{plot}");
    }
}
