//! `fewshot`: draws the few-shot sample of a data set as the published code does: over all classes first, then cut.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset;
use super::dataset::Index;
use crate::data::sampling::{Generator, small_classes};
use crate::data::{Classes, Split, few_shot, few_shot_of_probe};
use crate::error::{Error, Result};
use crate::kind::{Given, Here, Kind, Place, Port, Work, file};
use crate::task::Task;
use crate::text::plural;

/// Draws the few-shot sample.
pub static KIND: Kind = Kind {
    inputs: &[("dataset", "A `dataset` stage.")],
    outputs: &[file("train", "train.json"), file("val", "val.json"), file("classes", "classes.json")],
    location: Some("dataset"),
    provenance: Some(("split", Some("train"))),
    ..Kind::of::<FewShot>("fewshot", "Draws the few-shot sample of a data set, as the published code draws it.", 1)
};

/// Parameters of a `fewshot` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// Training images per class.
    pub shots: NonZeroUsize,
    /// For the generator, as in the published code.
    pub seed: u64,
    /// The classes that are kept.
    #[serde(default)]
    pub classes: Classes,
    /// What draws the sample.
    #[serde(default, skip_serializing_if = "is_python")]
    pub generator: Generator,
}

fn is_python(generator: &Generator) -> bool {
    *generator == Generator::Python
}

impl Work for FewShot {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        if self.generator == Generator::Numpy {
            self.numpy_seed()?;
        }
        Ok(vec![Port::one("dataset", &dataset::KIND, vec!["classes", "train", "val"]).with_location()])
    }

    fn place(&self) -> Place<'_> {
        Place::Here(self)
    }
}

impl FewShot {
    fn numpy_seed(&self) -> Result<u32> {
        u32::try_from(self.seed).map_err(|_| {
            Error::hinted(format!("`seed` is {}", self.seed), "numpy's generator takes seeds below 4294967296")
                .about("seed")
        })
    }
}

impl Here for FewShot {
    fn run(&self, task: &Task) -> Result<String> {
        let class_names: Vec<String> = task.json("dataset.classes")?;
        let (train, val): (Index, Index) = (task.json("dataset.train")?, task.json("dataset.val")?);
        if train.is_empty() {
            return Err(Error::hinted(
                "the data set has no training images to draw from",
                "it is for testing only: draw the sample from another one, such as `imagenet`",
            ));
        }
        let split = Split { train, val, test: Vec::new() };
        let sample = match self.generator {
            Generator::Python => few_shot(&split, self.shots, self.seed),
            Generator::Numpy => few_shot_of_probe(&split, self.shots, self.numpy_seed()?),
        };
        let train = self.classes.select(&sample.train, class_names.len());
        let kept = self.classes.names(&class_names);
        check(&train, kept).map_err(|message| {
            let folder = task.one("dataset.location").path.display();
            Error::hinted(
                format!(
                    "there is nothing to learn {} classes from: the data set in `{folder}` {message}",
                    self.classes
                ),
                "leave this data set out of the stage with `exclude`, or give every class at least one training image",
            )
        })?;
        task.write_json("train", &train)?;
        task.write_json("val", &self.classes.select(&sample.val, class_names.len()))?;
        task.write_json("classes", &kept)?;
        let small = small_classes(&train, kept, self.shots).map(|small| format!("; {small}")).unwrap_or_default();
        Ok(plural(train.len(), "image", "images") + &small)
    }
}

/// What is missing of a sample that something can be learned from: every class has an image.
fn check(train: &Index, class_names: &[String]) -> Result<(), String> {
    if class_names.is_empty() {
        return Err("has none".to_owned());
    }
    let present: HashSet<usize> = train.iter().map(|item| item.label).collect();
    let lacking: Vec<&String> =
        class_names.iter().enumerate().filter(|(label, _)| !present.contains(label)).map(|(_, name)| name).collect();
    match lacking[..] {
        [] => Ok(()),
        _ if train.is_empty() => Err("has no training images of them".to_owned()),
        [one] => Err(format!("has no training image of `{one}`")),
        [one, two] => Err(format!("has no training images of `{one}` and `{two}`")),
        [one, two, ..] => Err(format!("has no training images of `{one}`, `{two}` and {} more", lacking.len() - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Indexed, Item};

    #[test]
    fn every_class_needs_a_training_image() {
        let names = ["cat", "dog", "newt"].map(str::to_owned);
        let check = |labels: &[usize], classes: usize| {
            let item = |&label: &usize| Item { path: String::new(), label, class_name: String::new() };
            let train = labels.iter().map(|label| Indexed::new(item(label), String::new())).collect();
            check(&train, &names[..classes]).err().unwrap_or_default()
        };
        assert_eq!(check(&[2, 0, 1, 0], 3), "");
        assert_eq!(check(&[2, 0, 0], 3), "has no training image of `dog`");
        assert_eq!(check(&[2], 3), "has no training images of `cat` and `dog`");
        assert_eq!(check(&[3], 3), "has no training images of `cat`, `dog` and 1 more");
        assert_eq!(check(&[], 3), "has no training images of them");
        assert_eq!(check(&[], 0), "has none");
    }
}
