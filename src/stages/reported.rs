//! `reported`: what the log of another program says of its accuracy, as an evaluation's metrics.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::data::Classes;
use crate::error::{Error, Result};
use crate::files::read_foreign_text;
use crate::kind::{Given, Here, Kind, Place, Port, Work, file};
use crate::task::Task;
use crate::text::visible;

/// Reads metrics out of a log.
pub static KIND: Kind = Kind {
    inputs: &[(LOG, "What the program printed: an output of a `command` stage, or a file.")],
    outputs: &[file("metrics", "metrics.json")],
    ..Kind::of::<Reported>("reported", "Reads the accuracy that another program reports in its log.", 1)
};

/// The input.
const LOG: &str = "log";
/// The metric that a log must have.
const ACCURACY: &str = "accuracy";
/// What stands for the number in a line.
const NUMBER: &str = "{}";

/// Parameters of a `reported` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// The classes that the program told apart.
    #[serde(default)]
    pub classes: Classes,
    /// How a line reports each metric, with `{}` for its number; the last such line of the log counts. Without them, as Dassl's
    /// evaluator writes them. `accuracy` is needed and in percent.
    #[serde(default = "dassl")]
    pub lines: BTreeMap<String, String>,
}

/// Dassl's `Classification.evaluate`, of which newer versions write one line more than older ones.
fn dassl() -> BTreeMap<String, String> {
    let lines = [
        (ACCURACY, "* accuracy: {}%"),
        ("macro_f1", "* macro_f1: {}%"),
        ("total", "* total: {}"),
        ("correct", "* correct: {}"),
    ];
    lines.map(|(name, line)| (name.to_owned(), line.to_owned())).into()
}

impl Work for Reported {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        if !self.lines.contains_key(ACCURACY) {
            return Err(Error::hinted(
                format!("`lines` does not say how the log reports `{ACCURACY}`"),
                "for example `lines = { accuracy = \"* accuracy: {}%\" }`",
            )
            .about("lines"));
        }
        if let Some((name, line)) = self.lines.iter().find(|(_, line)| line.matches(NUMBER).count() != 1) {
            return Err(Error::hinted(
                format!("`lines.{name}` does not hold `{NUMBER}` once: `{line}`"),
                "`{}` stands for the number, as in `* accuracy: {}%`",
            )
            .about(format!("lines.{name}")));
        }
        Ok(vec![Port::file(LOG)])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

impl Here for Reported {
    fn run(&self, task: &Task) -> Result<String> {
        let path = &task.one(LOG).path;
        let text = read_foreign_text(path, "log")?;
        let mut metrics = Map::from_iter([("classes".to_owned(), Value::from(self.classes.to_string()))]);
        for (name, line) in &self.lines {
            match last_number(&text, line) {
                Some(Ok(number)) => drop(metrics.insert(name.clone(), number)),
                Some(Err(found)) => {
                    return Err(Error::hinted(
                        format!("the log reports no number as `{name}`: `{}`", visible(&found)),
                        "the last line counts that looks as `lines` says",
                    ));
                }
                None => {}
            }
        }
        let Some(accuracy) = metrics.get(ACCURACY) else {
            let last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(1).collect();
            let end = last.first().map_or("it is empty".to_owned(), |line| format!("it ends with `{}`", visible(line)));
            return Err(Error::hinted(
                format!("the log reports no accuracy: no line has `{}`; {end}", self.lines[ACCURACY]),
                "say in `lines` how the program reports it, with `{}` for the number",
            ));
        };
        let note = format!("{accuracy} %");
        if !accuracy.as_f64().is_some_and(|accuracy| (0.0..=100.0).contains(&accuracy)) {
            return Err(Error::hinted(
                format!("the log reports an accuracy of {accuracy}, which is not a percentage"),
                "`lines.accuracy` must match a line with percent, such as `* accuracy: 82.3%`",
            ));
        }
        task.write_json("metrics", &metrics)?;
        Ok(note)
    }
}

/// The number in the last line of a log that looks like this one, or that line where it has none. Thousands may be parted by
/// commas.
fn last_number(log: &str, line: &str) -> Option<Result<Value, String>> {
    let (before, after) = line.split_once(NUMBER)?;
    let number = |text: &str| -> Option<Result<Value, String>> {
        let (_, rest) = text.rsplit_once(before)?;
        let word =
            if after.is_empty() { rest.trim_start().split(' ').next()? } else { rest.split_once(after)?.0.trim() };
        let word = word.trim_end_matches([',', ';', '.']).replace(',', "");
        let whole = word.parse::<u64>().map(Value::from).ok();
        let value = whole.or_else(|| word.parse::<f64>().ok().filter(|value| value.is_finite()).map(Value::from));
        Some(value.ok_or_else(|| text.to_owned()))
    };
    log.lines().rev().find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "epoch [5/5] loss 1.2e-1\n=> result\n* total: 3,669\n* correct: 3,021\n* accuracy: 82.3%\n* error: 17.7%\n\
                       * macro_f1: 81.95%\nElapsed: 0:01:02\n";

    #[test]
    fn the_last_report_of_a_log_counts() {
        let twice = LOG.replace("82.3%", "10.0%") + LOG;
        let expected: [(&str, Value); 4] =
            [("accuracy", 82.3.into()), ("macro_f1", 81.95.into()), ("total", 3669.into()), ("correct", 3021.into())];
        for (name, value) in expected {
            assert_eq!(last_number(&twice, &dassl()[name]), Some(Ok(value)), "{name}");
        }
        assert_eq!(last_number(LOG, "loss {}"), Some(Ok(0.12.into())));
        assert_eq!(last_number(LOG, "top-1 {}"), None);
        assert_eq!(last_number("top-1 71.25, top-5 93.10", "top-1 {}"), Some(Ok(71.25.into())));
        // What is no number does not make an earlier one count.
        let line = "* accuracy: nan%".to_owned();
        assert_eq!(last_number(&format!("{LOG}{line}"), "* accuracy: {}%"), Some(Err(line)));
    }
}
