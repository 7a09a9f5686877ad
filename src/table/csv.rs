//! A table as tidy CSV: one row a number, under the names that the pipeline uses.

use std::collections::BTreeMap;

use super::aggregate::{Cell, Table};

const HEADER: [&str; 11] =
    ["table", "method", "dataset", "metric", "mean", "std", "seeds", "note", "published", "delta", "nodes"];

/// What computed the evaluations of these keys, in words.
pub type MadeByKeys<'a> = dyn Fn(&[String]) -> String + 'a;

/// So many hexadecimal digits of a key tell it from all others.
const KEY_DIGITS: usize = 16;

impl Table {
    /// The table as CSV with a header and a row for each number asked for. Values are percentages with four decimals, and
    /// so is the difference to the published one; `seeds` counts the seeds behind the value and is empty for a method
    /// without seeds; `note` says what is missing, such as `2 of 3 seeds`; `nodes` has the start of the key of each
    /// evaluation behind the value.
    pub fn csv(&self) -> String {
        self.csv_rows(None)
    }

    /// The same with a column more: what computed each value, of the keys of the evaluations behind it.
    pub fn csv_with_origins(&self, made_by: &MadeByKeys<'_>) -> String {
        self.csv_rows(Some(made_by))
    }

    fn csv_rows(&self, made_by: Option<&MadeByKeys<'_>>) -> String {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        let mut write = |record: [&str; 11], origin: Option<&str>| {
            writer.write_record(record.into_iter().chain(origin)).expect("a vector takes all writes");
        };
        write(HEADER, made_by.map(|_| "made_by"));
        for group in &self.groups {
            for (method, row) in self.methods.iter().zip(&group.rows) {
                for (metric, cell) in self.metrics.iter().zip(row) {
                    let Some(cell) = cell else { continue };
                    let values = values(cell);
                    let [mean, std, seeds, note, published, delta, nodes] = values.each_ref().map(String::as_str);
                    let place = [&self.name, &method.name, &group.label.name].map(String::as_str);
                    let [table, method, dataset] = place;
                    let metric = metric.name();
                    let origin = made_by.map(|made_by| made_by(&cell.keys));
                    let row = [table, method, dataset, &metric, mean, std, seeds, note, published, delta, nodes];
                    write(row, origin.as_deref());
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

/// What a cell says, from its mean to its nodes.
fn values(cell: &Cell) -> [String; 7] {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    let keys: Vec<&str> = cell.keys.iter().map(|key| key.get(..KEY_DIGITS).unwrap_or(key)).collect();
    [
        number(cell.mean),
        number(cell.std),
        cell.seeds.map_or(String::new(), |seeds| seeds.present.to_string()),
        cell.note().unwrap_or_default(),
        cell.published.map_or(String::new(), |published| format!("{published:.2}")),
        cell.delta().map_or(String::new(), |delta| format!("{delta:+.4}")),
        keys.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::examples::{base2novel, few_shot, transfer};
    use super::means;

    #[test]
    fn writes_one_row_a_number() {
        let expected = "\
table,method,dataset,metric,mean,std,seeds,note,published,delta,nodes
transfer,maple,imagenet,accuracy,70.0000,,1,,,,
transfer,maple,dtd,accuracy,46.0000,,1,,,,
transfer,maple,eurosat,accuracy,48.5000,,1,,,,
transfer,maple,average,accuracy,47.2500,,1,,,,
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
            "base2novel,clip,dtd,base,53.0000,,,,,,",
            "base2novel,clip,dtd,novel,60.0000,,,,,,",
            "base2novel,clip,dtd,hm,56.2832,,,,,,",
            "base2novel,coop,dtd,base,,,0,missing,,,",
            "base2novel,coop,dtd,novel,,,0,missing,,,",
            "base2novel,coop,dtd,hm,,,0,missing,,,",
            "base2novel,maple,dtd,base,80.0000,,1,1 of 2 seeds,,,",
            "base2novel,maple,dtd,novel,59.0000,,1,1 of 2 seeds,,,",
            "base2novel,maple,dtd,hm,67.9137,,1,1 of 2 seeds,,,",
            "base2novel,clip,average,base,54.5000,,,,,,",
            "base2novel,clip,average,novel,62.0000,,,,,,",
            "base2novel,clip,average,hm,58.0086,,,,,,",
            "base2novel,coop,average,base,92.0000,,2,1 of 2 data sets,,,",
            "base2novel,coop,average,novel,54.0000,,2,1 of 2 data sets,,,",
            "base2novel,coop,average,hm,68.0548,,2,1 of 2 data sets,,,",
            "base2novel,maple,average,base,86.5000,,1,some data sets with 1 of 2 seeds,,,",
            "base2novel,maple,average,novel,66.0000,,1,some data sets with 1 of 2 seeds,,,",
            "base2novel,maple,average,hm,74.8721,,1,some data sets with 1 of 2 seeds,,,",
        ];
        assert_eq!(rows, expected);
        assert!(csv.contains("\nbase2novel,maple,eurosat,novel,73.0000,1.0000,2,,,,\n"));
    }

    #[test]
    fn tells_how_far_from_the_published_numbers_it_is() {
        let csv = few_shot().csv();
        let rows: Vec<_> = csv.lines().skip(1).collect();
        let expected = [
            "fewshot,clip,dtd,accuracy_0_shots,44.4000,,,,44.56,-0.1600,",
            "fewshot,coop,dtd,accuracy_1_shots,50.5000,0.5000,2,,50.23,+0.2700,",
            "fewshot,coop,dtd,accuracy_2_shots,52.0000,,1,1 of 2 seeds,53.60,-1.6000,",
        ];
        assert_eq!(rows, expected);
    }
}
