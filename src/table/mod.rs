//! Accuracies in, a table out: aggregation over seeds and data sets, then CSV, LaTeX and Markdown.

mod aggregate;
mod csv;
mod latex;
mod markdown;
mod metric;
mod order;
mod score;

pub use aggregate::{Cell, Coverage, Group, Label, Table};
pub use csv::means;
pub use metric::Metric;
pub use order::Order;
pub use score::Score;

#[cfg(test)]
mod examples {
    //! Scores that the tests of several modules share.

    use super::{Order, Score, Table};
    use crate::data::Classes;

    pub fn score(dataset: &str, method: &str, seed: Option<i64>, classes: Classes, accuracy: f64) -> Score {
        Score { dataset: dataset.to_owned(), method: method.to_owned(), seed, classes, accuracy }
    }

    pub fn order(datasets: &[&str], methods: &[&str], seeds: &[i64]) -> Order {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Order { datasets: owned(datasets), methods: owned(methods), seeds: seeds.to_vec(), ..Order::default() }
    }

    /// Two data sets, three methods; one seed of `maple` on `dtd` is missing, and so is `coop` on `dtd`.
    pub fn base2novel() -> Table {
        let mut scores = Vec::new();
        let mut add = |dataset, method, seed, base, novel| {
            scores.push(score(dataset, method, seed, Classes::Base, base));
            scores.push(score(dataset, method, seed, Classes::Novel, novel));
        };
        add("eurosat", "clip", None, 56.0, 64.0);
        add("dtd", "clip", None, 53.0, 60.0);
        add("eurosat", "coop", Some(1), 92.0, 55.0);
        add("eurosat", "coop", Some(2), 92.0, 53.0);
        add("eurosat", "maple", Some(1), 94.0, 72.0);
        add("eurosat", "maple", Some(2), 92.0, 74.0);
        add("dtd", "maple", Some(2), 80.0, 59.0);
        let mut order = order(&["eurosat", "dtd"], &["clip", "coop", "maple"], &[1, 2]);
        order
            .labels
            .extend([("eurosat", "EuroSAT"), ("maple", "MaPLe_%")].map(|(name, label)| (name.into(), label.into())));
        Table::new("base2novel", "Base-to-novel generalization, 16 shots", &scores, &order).unwrap()
    }

    /// One data set outside the average, two inside, one method, one seed; all classes.
    pub fn transfer() -> Table {
        let accuracies = [("imagenet", 70.0), ("dtd", 46.0), ("eurosat", 48.5)];
        let scores = accuracies.map(|(dataset, accuracy)| score(dataset, "maple", Some(1), Classes::All, accuracy));
        let mut order = order(&["imagenet", "dtd", "eurosat"], &["maple"], &[1]);
        order.outside_average.push("imagenet".to_owned());
        Table::new("transfer", "", &scores, &order).unwrap()
    }
}
