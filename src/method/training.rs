//! How a learner is trained.

use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::check::at_least_one;
use crate::error::{Error, Result};

/// How a learner is trained: by an optimizer, with a constant warm-up, then cosine annealing.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Passes over the training images, the warm-up included; either these or `iterations` are given.
    #[serde(default)]
    pub epochs: u32,
    /// Steps, the warm-up included, in place of `epochs`; the last epoch ends with them.
    #[serde(default)]
    pub iterations: u32,
    /// Images per step.
    pub batch_size: u32,
    /// The learning rate from which the annealing starts.
    pub learning_rate: f64,
    /// The learning rate at which the annealing would end, one period behind the warm-up's end.
    #[serde(default)]
    pub final_learning_rate: f64,
    /// What makes a step of a gradient.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Momentum of SGD.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Of Adam and AdamW: how much of the running means of gradients and of their squares is kept a step.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Of Adam and AdamW: what is added to the root of the mean square, so that nothing is divided by zero.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Weight decay, on every learned tensor.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Epochs at `warmup_learning_rate`.
    #[serde(default = "warmup_epochs")]
    pub warmup_epochs: u32,
    /// The constant learning rate of the warm-up.
    #[serde(default = "warmup_learning_rate")]
    pub warmup_learning_rate: f64,
    /// How often the learning rate changes behind the warm-up.
    #[serde(default)]
    pub annealing: Annealing,
    /// Whether the images of an epoch that do not fill a batch make a step, too.
    #[serde(default)]
    pub keep_last_batch: bool,
}

/// How often the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Annealing {
    /// With every epoch.
    #[default]
    Epoch,
    /// With every step.
    Step,
}

/// What makes a step of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    #[default]
    Sgd,
    /// Adam; weight decay is added to the gradient.
    Adam,
    /// AdamW; weight decay shrinks the tensors themselves.
    AdamW,
}

/// Each optimizer has its own options in keys, and those of no other.
impl Serialize for Training {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        // All of them: an option that is not written below is in no key.
        let Training {
            epochs,
            iterations,
            batch_size,
            learning_rate,
            final_learning_rate,
            optimizer,
            momentum,
            betas,
            eps,
            weight_decay,
            warmup_epochs,
            warmup_learning_rate,
            annealing,
            keep_last_batch,
        } = self;
        let mut table = serializer.serialize_map(None)?;
        match iterations {
            0 => table.serialize_entry("epochs", epochs)?,
            _ => table.serialize_entry("iterations", iterations)?,
        }
        table.serialize_entry("batch_size", batch_size)?;
        table.serialize_entry("learning_rate", learning_rate)?;
        if *final_learning_rate != 0.0 {
            table.serialize_entry("final_learning_rate", final_learning_rate)?;
        }
        match optimizer {
            // The first, and so the one that keys do not name.
            Optimizer::Sgd => table.serialize_entry("momentum", momentum)?,
            Optimizer::Adam | Optimizer::AdamW => {
                table.serialize_entry("optimizer", optimizer)?;
                table.serialize_entry("betas", betas)?;
                table.serialize_entry("eps", eps)?;
            }
        }
        table.serialize_entry("weight_decay", weight_decay)?;
        table.serialize_entry("warmup_epochs", warmup_epochs)?;
        table.serialize_entry("warmup_learning_rate", warmup_learning_rate)?;
        if *annealing != Annealing::default() {
            table.serialize_entry("annealing", annealing)?;
        }
        if *keep_last_batch {
            table.serialize_entry("keep_last_batch", keep_last_batch)?;
        }
        table.end()
    }
}

const fn momentum() -> f64 {
    0.9
}

const fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

const fn eps() -> f64 {
    1e-8
}

const fn weight_decay() -> f64 {
    5e-4
}

const fn warmup_epochs() -> u32 {
    1
}

const fn warmup_learning_rate() -> f64 {
    1e-5
}

impl Training {
    /// Images of each step of an epoch with so many images.
    pub fn batch_of(&self, images: usize) -> usize {
        (self.batch_size as usize).min(images).max(1)
    }

    /// Steps of an epoch with so many images. The last incomplete batch is left out, unless it is the only one or kept.
    pub fn steps_of_epoch(&self, images: usize) -> usize {
        let batch = self.batch_of(images);
        if self.keep_last_batch { images.div_ceil(batch) } else { images / batch }
    }

    /// How many steps it has in all, where an epoch has so many; that is at least one.
    pub fn steps(&self, steps_an_epoch: usize) -> usize {
        match self.iterations {
            0 => self.epochs as usize * steps_an_epoch,
            iterations => iterations as usize,
        }
    }

    /// How many epochs it has, where one has so many steps; the last one may be cut.
    pub fn epochs(&self, steps_an_epoch: usize) -> u32 {
        match self.iterations {
            0 => self.epochs,
            iterations => iterations.div_ceil(u32::try_from(steps_an_epoch.max(1)).unwrap_or(u32::MAX)),
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the option that makes no sense, and what would.
    pub(super) fn validate(&self) -> Result<()> {
        if self.iterations > 0 && self.epochs > 0 {
            return Err(
                Error::hinted("both `epochs` and `iterations` are given", "remove one of the two").about("iterations")
            );
        }
        if self.iterations == 0 && self.epochs == 0 {
            let message = "a training needs `epochs` or `iterations`";
            return Err(Error::hinted(message, "give one of the two, from 1 up").about("training"));
        }
        at_least_one("batch_size", i64::from(self.batch_size))?;
        let values = [
            ("learning_rate", self.learning_rate),
            ("final_learning_rate", self.final_learning_rate),
            ("momentum", self.momentum),
            ("betas", self.betas[0]),
            ("betas", self.betas[1]),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("warmup_learning_rate", self.warmup_learning_rate),
        ];
        if let Some((name, value)) = values.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            return Err(Error::hinted(format!("`{name}` is {value}"), "give a number from 0 up").about(*name));
        }
        let kept = [("momentum", self.momentum), ("betas", self.betas[0]), ("betas", self.betas[1])];
        if let Some((name, value)) = kept.iter().find(|(_, value)| *value >= 1.0) {
            let message = format!("`{name}` is {value}, so no gradient is ever forgotten");
            return Err(Error::hinted(message, "give a number below 1").about(*name));
        }
        let of_sgd = self.optimizer == Optimizer::Sgd;
        let unused = [
            ("momentum", !of_sgd && self.momentum != momentum(), "of `sgd` alone", "remove it"),
            ("betas", of_sgd && self.betas != betas(), "of `adam` and `adamw`", "remove it, or set `optimizer`"),
            ("eps", of_sgd && self.eps != eps(), "of `adam` and `adamw`", "remove it, or set `optimizer`"),
        ];
        match unused.iter().find(|(_, unused, ..)| *unused) {
            Some((name, _, whose, hint)) => {
                Err(Error::hinted(format!("`{name}` is an option {whose}"), *hint).about(*name))
            }
            None => Ok(()),
        }
    }
}
