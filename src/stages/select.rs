//! `select`: the value of an axis, such as a learning rate, with the best mean accuracy on validation images.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::eval;
use crate::coordinates::AxisValue;
use crate::data::SplitPart;
use crate::error::{Error, Result};
use crate::evaluation::read_metrics;
use crate::kind::{Given, Here, Kind, Place, Port, Work, file};
use crate::task::Task;
use crate::text::plural;

/// Chooses a value of an axis by evaluations on validation images.
pub static KIND: Kind = Kind {
    inputs: &[(
        "validation",
        "An `eval` stage on validation images, with the axis; its nodes of all other axes that this stage lacks are averaged.",
    )],
    outputs: &[file("choice", "choice.json")],
    ..Kind::of::<Select>("select", "Chooses the value of an axis that is best on validation images.", 1)
};

/// Parameters of a `select` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The axis of which a value is chosen, e.g. `learning_rate`.
    pub over: String,
}

/// What was chosen, and by what.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Choice {
    /// The axis.
    pub axis: String,
    /// Its value with the highest mean; of several, the first one of the axis.
    pub value: AxisValue,
    /// Of every value, in the order of the axis.
    pub candidates: Vec<Candidate>,
}

/// What validation says of a value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Candidate {
    /// The value.
    pub value: AxisValue,
    /// The mean accuracy of its evaluations, in percent.
    pub mean: f64,
    /// How many there are.
    pub evaluations: usize,
}

/// What is read of an evaluation's metrics; a command's must say of which images they are, too.
#[derive(Deserialize)]
struct Accuracy {
    accuracy: f64,
    #[serde(default)]
    split: SplitPart,
}

impl Work for Select {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        Ok(vec![Port::one("validation", &eval::KIND, vec!["metrics"]).over(&self.over)])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

impl Here for Select {
    fn run(&self, task: &Task) -> Result<String> {
        let mut accuracies: Vec<(AxisValue, Vec<f64>)> = Vec::new();
        for input in task.all("validation.metrics") {
            let value = input.coordinates[&self.over].clone();
            let output = input.output.as_deref().unwrap_or("validation");
            let Accuracy { accuracy, split } =
                read_metrics(&input.path, output, |metrics: &Accuracy| metrics.accuracy)?;
            if split != SplitPart::Val {
                let which = input.coordinates.iter().map(|(axis, value)| format!("{axis} {value}")).collect::<Vec<_>>();
                return Err(Error::hinted(
                    format!(
                        "the evaluation of {} is of {split} images, by which nothing may be chosen",
                        which.join(", ")
                    ),
                    "give that `eval` stage `split = \"val\"`, and `shots` in place of `dataset` for the few-shot list",
                ));
            }
            match accuracies.iter_mut().find(|(known, _)| *known == value) {
                Some((_, all)) => all.push(accuracy),
                None => accuracies.push((value, vec![accuracy])),
            }
        }
        let choice = choose(&self.over, accuracies)?;
        let best = choice.candidates.iter().find(|one| one.value == choice.value).expect("one of them was chosen");
        let evaluations = plural(best.evaluations, "evaluation", "evaluations");
        let note = format!("{} {}: {:.1} on {evaluations}", choice.axis, choice.value, best.mean);
        task.write_json("choice", &choice)?;
        Ok(note)
    }
}

/// Chooses among the values by their accuracies.
fn choose(axis: &str, accuracies: Vec<(AxisValue, Vec<f64>)>) -> Result<Choice> {
    let counts: BTreeMap<usize, &AxisValue> = accuracies.iter().map(|(value, all)| (all.len(), value)).collect();
    if let (Some((few, lacking)), Some((many, other))) = (counts.first_key_value(), counts.last_key_value())
        && few < many
    {
        return Err(Error::hinted(
            format!("`{axis}` {lacking} has {few} evaluations, and {other} has {many}: their means cannot be compared"),
            "every value needs the same evaluations: look at `only`, `exclude` and `extra` of the `eval` stage",
        ));
    }
    let candidate = |(value, all): (AxisValue, Vec<f64>)| {
        let evaluations = all.len();
        Candidate { value, mean: all.into_iter().sum::<f64>() / evaluations as f64, evaluations }
    };
    let candidates: Vec<Candidate> = accuracies.into_iter().map(candidate).collect();
    let better = |best: &Candidate, other: &Candidate| best.mean < other.mean;
    let best = candidates.iter().reduce(|best, other| if better(best, other) { other } else { best });
    let value = best.ok_or_else(|| Error::invalid("there is nothing to choose from"))?.value.clone();
    Ok(Choice { axis: axis.to_owned(), value, candidates })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinates::Float;

    #[test]
    fn the_best_mean_is_chosen_and_of_equal_ones_the_first() {
        let rate = |value| AxisValue::Float(Float::new(value).unwrap());
        let chosen = |accuracies: &[(f64, &[f64])]| {
            let accuracies = accuracies.iter().map(|(value, all)| (rate(*value), all.to_vec())).collect();
            choose("learning_rate", accuracies)
        };
        let choice = chosen(&[(0.1, &[50.0, 60.0]), (0.01, &[70.0, 50.0]), (0.001, &[80.0, 40.0])]).unwrap();
        assert_eq!(choice.value, rate(0.01));
        let means: Vec<f64> = choice.candidates.iter().map(|one| one.mean).collect();
        assert_eq!(means, [55.0, 60.0, 60.0]);
        let error = chosen(&[(0.1, &[50.0, 60.0]), (0.01, &[70.0])]).unwrap_err();
        assert!(error.to_string().starts_with("`learning_rate` 0.01 has 1 evaluations, and 0.1 has 2"), "{error}");
    }
}
