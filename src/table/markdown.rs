//! A table as Markdown whose columns are aligned, so that it reads well on a terminal too.

use super::aggregate::{Cell, Table};
use super::metric::Metric;

impl Table {
    /// The table as Markdown: the caption, the methods' rows grouped by data set, and notes on incomplete numbers.
    /// Values are percentages with two decimals, `mean ± std` where there are several seeds, then the difference to the
    /// published number, with a `!` where that is more than the table tolerates; `-` where there is no score.
    pub fn markdown(&self) -> String {
        let notes = self.notes();
        let headings = ["Data set", "Method"].map(str::to_owned);
        let metrics = self.metrics.iter().copied().map(Metric::heading);
        let mut lines: Vec<Vec<String>> = vec![headings.into_iter().chain(metrics).collect()];
        for group in &self.groups {
            for (index, (method, row)) in self.methods.iter().zip(&group.rows).enumerate() {
                let dataset = if index == 0 { escape(&group.label.text) } else { String::new() };
                let cells = row.iter().map(|cell| self.value(cell.as_ref(), &notes));
                lines.push([dataset, escape(&method.text)].into_iter().chain(cells).collect());
            }
        }
        let mut text = String::new();
        if !self.caption.is_empty() {
            text.push_str(&format!("{}\n\n", self.caption));
        }
        text.push_str(&align(&lines));
        for (index, note) in notes.iter().enumerate() {
            let gap = if index == 0 { "\n" } else { "  \n" };
            text.push_str(&format!("{gap}[{}] {note}", index + 1));
        }
        if !notes.is_empty() {
            text.push('\n');
        }
        if self.is_compared() {
            text.push_str(&format!(
                "\nIn brackets the difference to the published number; `!`: more than {:.2}.\n",
                self.tolerance
            ));
        }
        text
    }

    /// One value, with its deviation, its difference to the published one, and the number of its note.
    fn value(&self, cell: Option<&Cell>, notes: &[String]) -> String {
        let Some(cell) = cell else {
            return "-".to_owned();
        };
        let mut text = cell.mean.map_or("-".to_owned(), |mean| format!("{mean:.2}"));
        text += &cell.std.map_or(String::new(), |std| format!(" ± {std:.2}"));
        let flag = if self.is_off(cell) { "!" } else { "" };
        text += &cell.delta().map_or(String::new(), |delta| format!(" ({delta:+.2}{flag})"));
        text += &cell.note_number(notes).map_or(String::new(), |number| format!(" [{number}]"));
        text
    }
}

/// A Markdown table of the lines, the first of which is the heading: two columns of names, then columns of numbers.
fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let is_name = |column: usize| column < 2;
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            text.push_str(&if is_name(column) { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") });
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                text.push_str(&if is_name(column) { format!("|:{dashes}") } else { format!("|{dashes}:") });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Keeps a label inside its column.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::examples::{base2novel, few_shot, order, score, transfer};
    use crate::data::Classes;

    #[test]
    fn aligns_columns_and_numbers_notes() {
        let expected = "\
Base-to-novel generalization, 16 shots

| Data set | Method  |         Base |        Novel |        HM |
|:---------|:--------|-------------:|-------------:|----------:|
| EuroSAT  | clip    |        56.00 |        64.00 |     59.73 |
|          | coop    | 92.00 ± 0.00 | 54.00 ± 1.00 |     68.05 |
|          | MaPLe_% | 93.00 ± 1.00 | 73.00 ± 1.00 |     81.80 |
| dtd      | clip    |        53.00 |        60.00 |     56.28 |
|          | coop    |        - [1] |        - [1] |     - [1] |
|          | MaPLe_% |    80.00 [2] |    59.00 [2] | 67.91 [2] |
| Average  | clip    |        54.50 |        62.00 |     58.01 |
|          | coop    |    92.00 [3] |    54.00 [3] | 68.05 [3] |
|          | MaPLe_% |    86.50 [4] |    66.00 [4] | 74.87 [4] |

[1] missing\x20\x20
[2] 1 of 2 seeds\x20\x20
[3] 1 of 2 data sets\x20\x20
[4] some data sets with 1 of 2 seeds
";
        assert_eq!(base2novel().markdown(), expected);
    }

    #[test]
    fn writes_a_single_metric() {
        let expected = "\
| Data set | Method | Accuracy |
|:---------|:-------|---------:|
| imagenet | maple  |    70.00 |
| dtd      | maple  |    46.00 |
| eurosat  | maple  |    48.50 |
| Average  | maple  |    47.25 |
";
        assert_eq!(transfer().markdown(), expected);
    }

    #[test]
    fn labels_stay_in_their_column() {
        let scores = [score("d", "a|b", None, Classes::Base, 50.0)];
        let table = Table::new("t", "", &scores, &order(&["d"], &["a|b"])).unwrap();
        let expected = "\
| Data set | Method |  Base |
|:---------|:-------|------:|
| d        | a\\|b   | 50.00 |
";
        assert_eq!(table.markdown(), expected);
    }

    #[test]
    fn compares_with_published_numbers() {
        let expected = "\
| Data set | Method |     Zero-shot |               1 shot |            2 shots |
|:---------|:-------|--------------:|---------------------:|-------------------:|
| DTD      | clip   | 44.40 (-0.16) |                    - |                  - |
|          | CoOp   |             - | 50.50 ± 0.50 (+0.27) | 52.00 (-1.60!) [1] |

[1] 1 of 2 seeds

In brackets the difference to the published number; `!`: more than 0.50.
";
        assert_eq!(few_shot().markdown(), expected);
    }
}
