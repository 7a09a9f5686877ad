//! Accuracies in, a table out: aggregation over seeds and data sets, then CSV, LaTeX and Markdown.

mod aggregate;
mod csv;
mod deviation;
mod label;
mod latex;
mod layout;
mod markdown;
mod metric;
mod order;
mod plot;
mod published;
mod score;

pub use aggregate::{Cell, Coverage, Group, Table};
pub use csv::{MadeByKeys, means};
pub use deviation::Deviation;
pub use label::Label;
pub use layout::Layout;
pub use metric::Metric;
pub use order::Order;
pub use published::PublishedNumbers;
pub use score::Score;

#[cfg(test)]
mod examples {
    //! Scores that the tests of several modules share.

    use super::{Order, Score, Table};
    use crate::data::Classes;

    pub fn score(dataset: &str, method: &str, seed: Option<i64>, classes: Classes, accuracy: f64) -> Score {
        let (dataset, method, accuracy) = (dataset.to_owned(), method.to_owned(), Some(accuracy));
        Score { dataset, method, seed, shots: None, classes, accuracy, key: None }
    }

    /// A score that is asked for and not there.
    pub fn missing(dataset: &str, method: &str, seed: Option<i64>, classes: Classes) -> Score {
        Score { accuracy: None, ..score(dataset, method, seed, classes, 0.0) }
    }

    pub fn order(datasets: &[&str], methods: &[&str]) -> Order {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Order { datasets: owned(datasets), methods: owned(methods), ..Order::default() }
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
        for (method, seed) in [("coop", 1), ("coop", 2), ("maple", 1)] {
            scores.extend([Classes::Base, Classes::Novel].map(|classes| missing("dtd", method, Some(seed), classes)));
        }
        let mut order = order(&["eurosat", "dtd"], &["clip", "coop", "maple"]);
        order
            .labels
            .extend([("eurosat", "EuroSAT"), ("maple", "MaPLe_%")].map(|(name, label)| (name.into(), label.into())));
        Table::new("base2novel", "Base-to-novel generalization, 16 shots", &scores, &order).unwrap()
    }

    /// One data set outside the average, two inside, one method, one seed; all classes.
    pub fn transfer() -> Table {
        let accuracies = [("imagenet", 70.0), ("dtd", 46.0), ("eurosat", 48.5)];
        let scores = accuracies.map(|(dataset, accuracy)| score(dataset, "maple", Some(1), Classes::All, accuracy));
        let mut order = order(&["imagenet", "dtd", "eurosat"], &["maple"]);
        order.outside_average.push("imagenet".to_owned());
        Table::new("transfer", "", &scores, &order).unwrap()
    }

    /// Zero-shot and one learner at one and two shots, of which one score is missing; with published numbers.
    pub fn few_shot() -> Table {
        let at = |shots: u32, seed: i64, accuracy: Option<f64>| Score {
            shots: Some(shots),
            accuracy,
            ..score("dtd", "coop", Some(seed), Classes::All, 0.0)
        };
        let zero_shot = score("dtd", "clip", None, Classes::All, 44.4);
        let scores = [zero_shot, at(2, 1, Some(52.0)), at(1, 1, Some(50.0)), at(1, 2, Some(51.0)), at(2, 2, None)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.csv");
        let numbers = "CLIP,DTD,zeroshot_acc,44.56\nCoOp,DTD,acc_1shot,50.23\nCoOp,DTD,acc_2shot,53.6\n";
        std::fs::write(&path, format!("method,dataset,metric,value\n{numbers}")).unwrap();
        let mut order = Order { tolerance: 0.5, ..order(&["dtd"], &["clip", "coop"]) };
        order.labels = [("dtd", "DTD"), ("coop", "CoOp")].map(|(name, label)| (name.into(), label.into())).into();
        order.published_as = [("clip".into(), "CLIP".into())].into();
        order.published.add(&path).unwrap();
        Table::new("fewshot", "", &scores, &order).unwrap()
    }
}
