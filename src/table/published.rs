//! Numbers that papers print, to compare one's own with: files like those in `results/published`.

use std::collections::{BTreeSet, HashMap};
use std::mem::discriminant;
use std::path::Path;

use super::metric::Metric;
use crate::error::{Error, Result};

/// PublishedNumbers numbers in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishedNumbers {
    numbers: HashMap<(String, String, Metric), f64>,
}

impl PublishedNumbers {
    /// Adds the numbers of a CSV file with the columns `method`, `dataset`, `metric` and `value`; of two for the same cell,
    /// the first counts.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a column, or has a line that is no number of a known metric.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        const FORMAT: &str = "table of published numbers";
        let wrong = |message: String| Error::format(path, FORMAT, message);
        let mut reader = ::csv::Reader::from_path(path).map_err(|error| wrong(error.to_string()))?;
        let headers = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
        let column = |name: &str| {
            let place = headers.iter().position(|header| header == name);
            place.ok_or_else(|| wrong(format!("it has no column `{name}`")))
        };
        let columns = [column("method")?, column("dataset")?, column("metric")?, column("value")?];
        for record in reader.records() {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let line = record.position().map_or(0, ::csv::Position::line);
            let [method, dataset, metric, value] = columns.map(|column| record[column].to_owned());
            let metric =
                Metric::published(&metric).ok_or_else(|| wrong(format!("line {line}: unknown metric `{metric}`")))?;
            let value = value.parse().map_err(|_| wrong(format!("line {line}: `{value}` is no number")))?;
            self.numbers.entry((method, dataset, metric)).or_insert(value);
        }
        Ok(())
    }

    /// The data sets of which numbers of a metric are known, averages aside; those of any number of shots, since papers
    /// print some for the average alone.
    pub(super) fn datasets(&self, metric: Metric) -> BTreeSet<&str> {
        let is_alike = |known: Metric| discriminant(&known) == discriminant(&metric);
        let of_metric = self.numbers.keys().filter(|(_, _, known)| is_alike(*known));
        of_metric.map(|(_, dataset, _)| dataset.as_str()).filter(|dataset| !dataset.starts_with("Average")).collect()
    }

    /// The number of a cell; nothing where none is known.
    pub(super) fn number(&self, method: &str, dataset: &str, metric: Metric) -> Option<f64> {
        let number = |metric| self.numbers.get(&(method.to_owned(), dataset.to_owned(), metric)).copied();
        // A table by shots calls plain accuracy without training by its number of shots.
        number(metric).or_else(|| number(Metric::Accuracy).filter(|_| metric == Metric::Shots(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_mistakes_are_shown_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut published = PublishedNumbers::default();
            published.add(&path).map(|()| published)
        };
        let text = "table,method,dataset,metric,value\nT3,MaPLe,DTD,base,80.36\nT3,MaPLe,DTD,base,1\nT9,CLIP,DTD,zeroshot_acc,44.56\nT15,CoOp,DTD,acc_16shot,69.87\n";
        let published = read(text).unwrap();
        assert_eq!(published.number("MaPLe", "DTD", Metric::Base), Some(80.36));
        assert_eq!(published.number("MaPLe", "DTD", Metric::Novel), None);
        assert_eq!(published.number("CLIP", "DTD", Metric::Shots(0)), Some(44.56));
        assert_eq!(published.number("CoOp", "DTD", Metric::Shots(16)), Some(69.87));
        for (text, expected) in [
            ("method,dataset,value\n", "it has no column `metric`"),
            ("method,dataset,metric,value\na,b,f1,3\n", "line 2: unknown metric `f1`"),
            ("method,dataset,metric,value\na,b,hm,3\na,b,base,x\n", "line 3: `x` is no number"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
