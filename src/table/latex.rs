//! A table as a LaTeX `tabular` that a paper can `\input`; it needs the package booktabs.
//!
//! Data sets stand side by side, each with all its metrics, in as many bands of rows as that takes.

use std::collections::BTreeSet;

use super::aggregate::{Cell, Group, Table};
use super::label::Label;
use super::layout::Layout;
use super::metric::Metric;

/// Columns of values in a band: ten columns of two-decimal numbers fit a page's width.
const VALUE_COLUMNS: usize = 9;

impl Table {
    /// The table as a complete `tabular`. Values are percentages with two decimals, `-` where there is no score; among
    /// complete values of a column the best is bold and, of three or more, the second underlined. Rows below the table
    /// say what incomplete numbers lack.
    pub fn latex(&self) -> String {
        self.tabular(false)
    }

    /// The same with the deviation over the seeds behind each value that has one.
    pub fn latex_with_deviations(&self) -> String {
        self.tabular(true)
    }

    fn tabular(&self, deviations: bool) -> String {
        let notes = self.notes();
        let groups_in_band = self.groups_in_band();
        let columns = groups_in_band * self.metrics.len();
        let mut lines = vec![format!("% {}; needs \\usepackage{{booktabs}}", self.name)];
        lines.extend(self.caption.lines().map(|line| format!("% {line}")));
        lines.push(format!("\\begin{{tabular}}{{l*{{{columns}}}{{c}}}}"));
        for (number, band) in self.groups.chunks(groups_in_band).enumerate() {
            lines.push(if number == 0 { "\\toprule" } else { "\\midrule" }.to_owned());
            lines.extend(self.headings(band));
            lines.push("\\midrule".to_owned());
            lines.extend(self.rows(band, &notes, deviations));
        }
        lines.push("\\bottomrule".to_owned());
        for (index, note) in notes.iter().enumerate() {
            let span = columns + 1;
            let mark = superscript(index + 1);
            lines.push(format!("\\multicolumn{{{span}}}{{l}}{{\\footnotesize {mark} {note}}} \\\\"));
        }
        lines.push("\\end{tabular}\n".to_owned());
        lines.join("\n")
    }

    /// How many data sets stand side by side: bands as few as the width allows, and as equal as possible.
    fn groups_in_band(&self) -> usize {
        let widest = match self.layout {
            Layout::Bands => (VALUE_COLUMNS / self.metrics.len()).max(1),
            Layout::Wide => self.groups.len().max(1),
        };
        let bands = self.groups.len().div_ceil(widest).max(1);
        self.groups.len().div_ceil(bands).max(1)
    }

    /// The heading lines of a band: data sets above metrics, or data sets alone where there is a single metric.
    fn headings(&self, band: &[Group]) -> Vec<String> {
        let names = band.iter().map(|group| escape(&group.label.text));
        let span = self.metrics.len();
        if span == 1 {
            return vec![line("Method", names)];
        }
        let spanning = names.map(|name| format!("\\multicolumn{{{span}}}{{c}}{{{name}}}"));
        let rules =
            (0..band.len()).map(|index| format!("\\cmidrule(lr){{{}-{}}}", index * span + 2, index * span + span + 1));
        let metrics = band.iter().flat_map(|_| self.metrics.iter().copied().map(Metric::heading));
        vec![line("", spanning), rules.collect(), line("Method", metrics)]
    }

    /// The methods' lines of a band.
    fn rows(&self, band: &[Group], notes: &[String], deviations: bool) -> Vec<String> {
        let row = |(method, label): (usize, &Label)| {
            let cells = band.iter().flat_map(|group| {
                let cells = group.rows[method].iter().enumerate();
                cells.map(|(metric, cell)| {
                    let rank = Rank::of(cell.as_ref(), group, metric);
                    value(cell.as_ref(), rank, notes, deviations)
                })
            });
            line(&escape(&label.text), cells)
        };
        self.methods.iter().enumerate().map(row).collect()
    }
}

/// A value's place in its column.
#[derive(Clone, Copy, PartialEq)]
enum Rank {
    Best,
    Second,
    Other,
}

impl Rank {
    /// The rank, as printed, among the complete values of a column; an incomplete value has none.
    fn of(cell: Option<&Cell>, group: &Group, metric: usize) -> Rank {
        let complete = |cell: &&Cell| cell.note().is_none();
        let printed = |cell: &Cell| format!("{:06.2}", cell.mean.unwrap_or_default());
        let column = group.rows.iter().filter_map(|row| row[metric].as_ref()).filter(complete);
        let values: Vec<String> = column.map(printed).collect();
        let Some(value) = cell.filter(complete).map(printed) else {
            return Rank::Other;
        };
        let better: BTreeSet<&String> = values.iter().filter(|&other| *other > value).collect();
        match better.len() {
            0 if values.len() > 1 => Rank::Best,
            1 if values.len() > 2 => Rank::Second,
            _ => Rank::Other,
        }
    }
}

/// One value, with its deviation, if wanted, and the mark of its note.
fn value(cell: Option<&Cell>, rank: Rank, notes: &[String], deviations: bool) -> String {
    let Some(cell) = cell else {
        return "-".to_owned();
    };
    let mean = cell.mean.map_or("-".to_owned(), |mean| format!("{mean:.2}"));
    let ranked = match rank {
        Rank::Best => format!("\\textbf{{{mean}}}"),
        Rank::Second => format!("\\underline{{{mean}}}"),
        Rank::Other => mean,
    };
    let std = cell.std.filter(|_| deviations).map_or(String::new(), |std| format!(" $\\pm$ {std:.2}"));
    let mark = cell.note_number(notes).map_or(String::new(), superscript);
    format!("{ranked}{std}{mark}")
}

fn superscript(number: usize) -> String {
    format!("\\textsuperscript{{{number}}}")
}

/// A line of the tabular.
fn line(first: &str, cells: impl Iterator<Item = String>) -> String {
    format!("{first}{} \\\\", cells.map(|cell| format!(" & {cell}")).collect::<String>())
}

/// Text as LaTeX prints it literally.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', character]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            // At the start of a line these would belong to the `\\` before it.
            '[' | '*' => escaped.extend(['{', character, '}']),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::examples::{base2novel, order, score, transfer};
    use super::*;
    use crate::data::Classes;

    #[test]
    fn data_sets_stand_side_by_side() {
        let expected = r"% base2novel; needs \usepackage{booktabs}
% Base-to-novel generalization, 16 shots
\begin{tabular}{l*{9}{c}}
\toprule
 & \multicolumn{3}{c}{EuroSAT} & \multicolumn{3}{c}{dtd} & \multicolumn{3}{c}{Average} \\
\cmidrule(lr){2-4}\cmidrule(lr){5-7}\cmidrule(lr){8-10}
Method & Base & Novel & HM & Base & Novel & HM & Base & Novel & HM \\
\midrule
clip & 56.00 & \underline{64.00} & 59.73 & 53.00 & 60.00 & 56.28 & 54.50 & 62.00 & 58.01 \\
coop & \underline{92.00} & 54.00 & \underline{68.05} & -\textsuperscript{1} & -\textsuperscript{1} & -\textsuperscript{1} & 92.00\textsuperscript{3} & 54.00\textsuperscript{3} & 68.05\textsuperscript{3} \\
MaPLe\_\% & \textbf{93.00} & \textbf{73.00} & \textbf{81.80} & 80.00\textsuperscript{2} & 59.00\textsuperscript{2} & 67.91\textsuperscript{2} & 86.50\textsuperscript{4} & 66.00\textsuperscript{4} & 74.87\textsuperscript{4} \\
\bottomrule
\multicolumn{10}{l}{\footnotesize \textsuperscript{1} missing} \\
\multicolumn{10}{l}{\footnotesize \textsuperscript{2} 1 of 2 seeds} \\
\multicolumn{10}{l}{\footnotesize \textsuperscript{3} 1 of 2 data sets} \\
\multicolumn{10}{l}{\footnotesize \textsuperscript{4} some data sets with 1 of 2 seeds} \\
\end{tabular}
";
        assert_eq!(base2novel().latex(), expected);
    }

    #[test]
    fn writes_a_single_metric() {
        let expected = r"% transfer; needs \usepackage{booktabs}
\begin{tabular}{l*{4}{c}}
\toprule
Method & imagenet & dtd & eurosat & Average \\
\midrule
maple & 70.00 & 46.00 & 48.50 & 47.25 \\
\bottomrule
\end{tabular}
";
        assert_eq!(transfer().latex(), expected);
    }

    #[test]
    fn ranks_by_what_is_printed() {
        let accuracies = [("a", 80.001), ("b", 80.0), ("c", 79.0), ("d", 79.0), ("e", 100.0)];
        let scores = |count: usize| {
            accuracies
                .into_iter()
                .take(count)
                .map(|(method, accuracy)| score("d", method, None, Classes::All, accuracy))
        };
        let ranks = |count: usize| {
            let order = order(&["d"], &["a", "b", "c", "d", "e"]);
            let table = Table::new("t", "", &scores(count).collect::<Vec<_>>(), &order).unwrap();
            let group = &table.groups[0];
            let rank = |row: &Vec<Option<Cell>>| match Rank::of(row[0].as_ref(), group, 0) {
                Rank::Best => 'b',
                Rank::Second => 's',
                Rank::Other => '-',
            };
            group.rows.iter().map(rank).collect::<String>()
        };
        assert_eq!(ranks(5), "ss--b");
        assert_eq!(ranks(4), "bbss-");
        assert_eq!(ranks(2), "bb---");
        assert_eq!(ranks(1), "-----");
    }

    #[test]
    fn bands_are_few_and_equal() {
        let across = |datasets: usize, classes: &[Classes]| {
            let names: Vec<_> = (0..datasets).map(|number| format!("d{number}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let scores: Vec<_> = classes.iter().map(|&classes| score("d0", "m", None, classes, 50.0)).collect();
            Table::new("t", "", &scores, &order(&names, &["m"])).unwrap().groups_in_band()
        };
        let both = [Classes::Base, Classes::Novel];
        assert_eq!([1, 2, 3, 4, 11].map(|datasets| across(datasets, &both)), [1, 3, 2, 3, 3]);
        assert_eq!([3, 11].map(|datasets| across(datasets, &[Classes::All])), [4, 6]);
        let wide = Table { layout: Layout::Wide, ..base2novel() };
        assert_eq!(wide.groups_in_band(), 3);
    }

    #[test]
    fn special_characters_print_literally() {
        assert_eq!(escape("[a] <b|c>*"), r"{[}a] \textless{}b\textbar{}c\textgreater{}{*}");
        assert_eq!(
            escape(r"a_b & 5% #1 $x {y} ~ ^ \z"),
            r"a\_b \& 5\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
        );
    }
}
