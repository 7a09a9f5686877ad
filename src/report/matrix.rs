//! The methods of a table beside each other, each with each.

use crate::comparison::{Comparison, Outcome, compare};
use crate::table::Table;

/// One column of a table: how far its methods are apart.
#[derive(Debug)]
pub struct Matrix {
    /// The column's heading.
    pub metric: String,
    /// What the methods are called, in order.
    pub methods: Vec<String>,
    /// By row and column, the row's method beside the column's; none of a method beside itself, and where no data set has both.
    pub cells: Vec<Vec<Option<Comparison>>>,
}

/// The matrices of a table, the one of its last column first; columns in which no two methods can be compared are left out.
pub(super) fn matrices(table: &Table) -> Vec<Matrix> {
    let outcome = |score: &_| Outcome { score: Clone::clone(score), images: None };
    let outcomes: Vec<Outcome> = table.scores.iter().map(outcome).collect();
    let datasets = table.averaged();
    let methods: Vec<String> = table.methods.iter().map(|label| label.text.clone()).collect();
    let matrix = |&metric| {
        let mut cells: Vec<Vec<Option<Comparison>>> = vec![vec![None; methods.len()]; methods.len()];
        let pairs = (0..methods.len()).flat_map(|first| (first + 1..methods.len()).map(move |second| [first, second]));
        for [first, second] in pairs {
            let names = [first, second].map(|method| table.methods[method].name.as_str());
            let found = compare(&outcomes, &[metric], names, &datasets).pop();
            cells[second][first] = found.as_ref().map(Comparison::turned);
            cells[first][second] = found;
        }
        let is_empty = cells.iter().flatten().all(Option::is_none);
        (!is_empty).then(|| Matrix { metric: metric.heading(), methods: methods.clone(), cells })
    };
    table.metrics.iter().rev().filter_map(matrix).collect()
}
