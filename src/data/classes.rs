//! The class subsets of base-to-novel generalization.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::item::Labelled;

/// Which classes of a data set take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Classes {
    /// Every class.
    #[default]
    All,
    /// The first ceil(n/2) classes by label.
    Base,
    /// The classes after those.
    Novel,
}

impl std::fmt::Display for Classes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Classes::All => "all",
            Classes::Base => "base",
            Classes::Novel => "novel",
        })
    }
}

impl Classes {
    /// The labels of this subset, where the data set's labels are `0..classes`.
    pub fn labels(self, classes: usize) -> Range<usize> {
        let base = classes.div_ceil(2);
        match self {
            Classes::All => 0..classes,
            Classes::Base => 0..base,
            Classes::Novel => base..classes,
        }
    }

    /// The items of this subset in their order, relabelled from 0 (which changes nothing for all and base), where the
    /// data set has `classes` classes.
    ///
    /// Few-shot samples are drawn from all classes first and cut with this afterwards, as in the published code; the
    /// other order would give another sample.
    pub fn select<T: Labelled>(self, items: &[T], classes: usize) -> Vec<T> {
        let labels = self.labels(classes);
        let taken = items.iter().filter(|item| labels.contains(&item.label()));
        taken.map(|item| item.relabelled(item.label() - labels.start)).collect()
    }

    /// The names of this subset's classes by their new label, out of the names of all.
    pub fn names(self, all: &[String]) -> &[String] {
        &all[self.labels(all.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::item::Item;

    #[test]
    fn the_first_half_rounded_up_is_base() {
        let halves = |classes| (Classes::Base.labels(classes), Classes::Novel.labels(classes));
        assert_eq!(halves(101), (0..51, 51..101));
        assert_eq!(halves(100), (0..50, 50..100));
        assert_eq!(halves(1), (0..1, 1..1));
        assert_eq!(Classes::All.labels(37), 0..37);
    }

    #[test]
    fn a_selection_keeps_the_order_and_counts_labels_from_zero() {
        let item = |label: usize| Item { path: format!("{label}.jpg"), label, class_name: format!("class {label}") };
        let items: Vec<Item> = [4, 0, 3, 1, 2, 3].map(item).to_vec();
        let labels = |classes: Classes| {
            let selected = classes.select(&items, 5);
            selected.iter().map(|item| (item.path.clone(), item.label)).collect::<Vec<_>>()
        };
        let pairs =
            |pairs: &[(&str, usize)]| pairs.iter().map(|(path, label)| (path.to_string(), *label)).collect::<Vec<_>>();
        assert_eq!(labels(Classes::Base), pairs(&[("0.jpg", 0), ("1.jpg", 1), ("2.jpg", 2)]));
        assert_eq!(labels(Classes::Novel), pairs(&[("4.jpg", 1), ("3.jpg", 0), ("3.jpg", 0)]));
        assert_eq!(Classes::All.select(&items, 5), items);
        let names: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(Classes::Base.names(&names), ["a", "b"]);
        assert_eq!(Classes::Novel.names(&names), ["c"]);
    }

    #[test]
    fn the_names_are_lower_case_in_files() {
        assert_eq!(
            serde_json::to_string(&[Classes::All, Classes::Base, Classes::Novel]).unwrap(),
            r#"["all","base","novel"]"#
        );
    }
}
