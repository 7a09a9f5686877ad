//! What `maple-pipe predict` and `maple-pipe features` ask a worker of a person's own pictures, and what that answers.
//!
//! A worker that is started with [`INFER`] reads one [`Request`] from its standard input, and answers with [`Answer`]s, one per
//! line. It ends at once when its standard input does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backbone::BackboneOptions;
use crate::device::Device;
use crate::method::Precision;
use crate::numerics::Numerics;

/// The argument with which a worker looks at pictures.
pub const INFER: &str = "--infer";

/// Pictures, and what is asked of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Request {
    /// [`crate::identity::BUILD`] of who asks.
    pub build: String,
    /// The files of the pictures.
    pub images: Vec<String>,
    /// The file with the weights of the CLIP model.
    pub weights: PathBuf,
    /// What that file does not tell of the model.
    pub backbone: BackboneOptions,
    /// What is asked.
    pub what: What,
    /// Where to compute.
    pub device: Device,
    /// What libtorch is held to.
    pub numerics: Numerics,
    /// Threads, as a node has them.
    pub threads: usize,
}

/// What is asked of pictures.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Which class each shows.
    Classes {
        /// The file of a trained prompt.
        prompt: PathBuf,
        /// The names of the classes.
        class_names: Vec<String>,
    },
    /// Their image features, as a `features` stage has them.
    Features {
        /// What computes them.
        tower: Tower,
        /// The safetensors file to write: a tensor `features`, `(images, embedding)`, and the images' files in its note.
        output: PathBuf,
    },
}

/// What computes image features.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tower {
    /// Plain CLIP's image tower, in this precision.
    Plain(Precision),
    /// The image tower with what this file's trained prompt has learned there, in the precision of its method.
    Prompted(PathBuf),
}

/// What a file of features says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FeaturesNote {
    /// The files of the images, one for each row.
    pub images: Vec<String>,
}

/// A line of the worker's. What it says of images comes in the order of the request; what it leaves out may come later.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The likeliest classes of an image by label, at most five, and their probabilities.
    Classes {
        /// The file.
        image: String,
        /// Labels and probabilities, the likeliest first.
        top: Vec<(usize, f64)>,
    },
    /// So many images are done.
    Progress(usize),
    /// An image that cannot be read or decoded: what is wrong with it, with the name of its file.
    LeftOut(String),
    /// All images have been looked at.
    Done,
    /// Nothing could be computed: message and hint.
    Failed(String, Option<String>),
}
