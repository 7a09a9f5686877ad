//! A table as tidy CSV: one row a number, under the names that the pipeline uses.

use std::collections::BTreeMap;

use super::aggregate::{Cell, Table};

const HEADER: [&str; 8] = ["table", "method", "dataset", "metric", "mean", "std", "seeds", "note"];

impl Table {
    /// The table as CSV with a header. Values are percentages with four decimals; `seeds` counts the seeds behind the
    /// value and is empty for a method without seeds; `note` says what is missing, such as `2 of 3 seeds`.
    pub fn csv(&self) -> String {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        let mut write = |record: [&str; 8]| writer.write_record(record).expect("a vector takes all writes");
        write(HEADER);
        for group in &self.groups {
            for (method, row) in self.methods.iter().zip(&group.rows) {
                for (metric, cell) in self.metrics.iter().zip(row) {
                    let [mean, std, seeds, note] = values(cell.as_ref());
                    write([&self.name, &method.name, &group.label.name, metric.name(), &mean, &std, &seeds, &note]);
                }
            }
        }
        String::from_utf8(writer.into_inner().expect("a vector takes all writes")).expect("only text was written")
    }
}

/// The values in a table that [`Table::csv`] wrote, as `maple/eurosat/hm`.
pub fn means(text: &str) -> BTreeMap<String, f64> {
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let rows = reader.deserialize::<(String, String, String, String, Option<f64>)>().flatten();
    rows.filter_map(|(_, method, dataset, metric, mean)| Some((format!("{method}/{dataset}/{metric}"), mean?)))
        .collect()
}

/// Mean, standard deviation, number of seeds and note of a cell.
fn values(cell: Option<&Cell>) -> [String; 4] {
    let Some(cell) = cell else {
        return ["", "", "", "no score"].map(str::to_owned);
    };
    [
        format!("{:.4}", cell.mean),
        cell.std.map_or(String::new(), |std| format!("{std:.4}")),
        cell.seeds.map_or(String::new(), |seeds| seeds.present.to_string()),
        cell.note().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, transfer};
    use super::means;

    #[test]
    fn writes_one_row_a_number() {
        let expected = "\
table,method,dataset,metric,mean,std,seeds,note
transfer,maple,imagenet,accuracy,70.0000,,1,
transfer,maple,dtd,accuracy,46.0000,,1,
transfer,maple,eurosat,accuracy,48.5000,,1,
transfer,maple,average,accuracy,47.2500,,1,
";
        assert_eq!(transfer().csv(), expected);
    }

    #[test]
    fn reads_the_means_back() {
        let means: Vec<String> = means(&transfer().csv()).iter().map(|(name, mean)| format!("{name} {mean}")).collect();
        let expected = [
            "maple/average/accuracy 47.25",
            "maple/dtd/accuracy 46",
            "maple/eurosat/accuracy 48.5",
            "maple/imagenet/accuracy 70",
        ];
        assert_eq!(means, expected);
    }

    #[test]
    fn says_what_is_missing() {
        let csv = base2novel().csv();
        let rows: Vec<_> = csv.lines().skip(10).collect();
        let expected = [
            "base2novel,clip,dtd,base,53.0000,,,",
            "base2novel,clip,dtd,novel,60.0000,,,",
            "base2novel,clip,dtd,hm,56.2832,,,",
            "base2novel,coop,dtd,base,,,,no score",
            "base2novel,coop,dtd,novel,,,,no score",
            "base2novel,coop,dtd,hm,,,,no score",
            "base2novel,maple,dtd,base,80.0000,,1,1 of 2 seeds",
            "base2novel,maple,dtd,novel,59.0000,,1,1 of 2 seeds",
            "base2novel,maple,dtd,hm,67.9137,,1,1 of 2 seeds",
            "base2novel,clip,average,base,54.5000,,,",
            "base2novel,clip,average,novel,62.0000,,,",
            "base2novel,clip,average,hm,58.0086,,,",
            "base2novel,coop,average,base,92.0000,,2,1 of 2 data sets",
            "base2novel,coop,average,novel,54.0000,,2,1 of 2 data sets",
            "base2novel,coop,average,hm,68.0548,,2,1 of 2 data sets",
            "base2novel,maple,average,base,86.5000,,1,some data sets with 1 of 2 seeds",
            "base2novel,maple,average,novel,66.0000,,1,some data sets with 1 of 2 seeds",
            "base2novel,maple,average,hm,74.8721,,1,some data sets with 1 of 2 seeds",
        ];
        assert_eq!(rows, expected);
        assert!(csv.contains("\nbase2novel,maple,eurosat,novel,73.0000,1.0000,2,\n"));
    }
}
