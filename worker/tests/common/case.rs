//! A recorded run of the published code, and the method that its configuration describes.

use std::path::Path;

use maple_pipe::method::{Learner, Method, Precision};
use serde::Deserialize;
use tch::Kind;

/// What `meta.json` of a case says.
#[derive(Deserialize)]
pub struct Case {
    pub name: String,
    pub variant: String,
    pub trainer: String,
    config: String,
    opts: Vec<String>,
    pub classes: Vec<String>,
    #[serde(default)]
    pub new_classes: Vec<String>,
    #[serde(default)]
    pub batch: i64,
    pub template: Option<String>,
    #[serde(default)]
    pub templates_used: Vec<String>,
    #[serde(default)]
    pub labels: Vec<Vec<i64>>,
    #[serde(default)]
    pub learnable: Vec<Named>,
    pub loss0: Option<f64>,
    #[serde(default)]
    pub losses: Vec<f64>,
    #[serde(default)]
    pub lrs: Vec<f64>,
}

#[derive(Deserialize)]
pub struct Named {
    pub name: String,
    pub shape: Vec<i64>,
    dtype: String,
}

impl Named {
    /// The number format that it is learned in.
    pub fn kind(&self) -> Kind {
        match self.dtype.as_str() {
            "torch.float32" => Kind::Float,
            "torch.float16" => Kind::Half,
            other => panic!("`{other}` is unknown"),
        }
    }
}

impl Case {
    /// The case in a folder.
    pub fn read(folder: &Path) -> Case {
        serde_json::from_str(&std::fs::read_to_string(folder.join("meta.json")).unwrap()).unwrap()
    }

    /// The method that the published configuration file describes, with the overrides of the case.
    pub fn method(&self) -> Method {
        let (folder, config) = self.config.split_once('/').unwrap();
        let mut method = match (self.trainer.as_str(), folder) {
            ("ZeroshotCLIP" | "ZeroshotCLIP2", _) => read("clip"),
            (_, "MaPLe") if config.ends_with("_cross_datasets") => read("maple_cross_dataset"),
            (_, "MaPLe") => read("maple"),
            (_, "IVLP") if config.ends_with("_language_only") => read("language"),
            (_, "IVLP") => read("ivlp"),
            (_, "VPT") => read("vpt"),
            (_, "CoOp") => read("coop"),
            (_, "CoCoOp") => read("cocoop"),
            (trainer, _) => panic!("no method file for `{trainer}` with `{}`", self.config),
        };
        method.precision = match (self.variant.as_str(), folder) {
            ("fp32", _) => Precision::Fp32,
            ("half", _) | ("asis", "VPT") => Precision::PublishedFp32,
            ("asis", _) => Precision::Fp16,
            (variant, _) => panic!("`{variant}` is unknown"),
        };
        let name = config.split('_').collect::<Vec<_>>();
        name.iter().for_each(|part| named_option(&mut method, folder, part));
        self.opts.chunks_exact(2).for_each(|option| overridden(&mut method, &option[0], &option[1]));
        if let Learner::ZeroShot { templates, dataset_template } = &mut method.learner
            && !self.templates_used.is_empty()
        {
            *templates =
                self.templates_used.iter().filter(|used| Some(*used) != self.template.as_ref()).cloned().collect();
            *dataset_template = self.template.as_ref().is_some_and(|own| self.templates_used.contains(own));
        }
        method.validate().unwrap();
        method
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = if self.variant == "fp32" { self.name.clone() } else { format!("{}__{}", self.name, self.variant) };
        formatter.pad(&name)
    }
}

fn read(file: &str) -> Method {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../pipelines/methods/{file}.toml"));
    Method::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What a part of a configuration's name says: in `vit_b16_c4_ep10_batch1_ctxv1`, four tokens, ten epochs, batches of
/// one, and a context that starts from "a photo of a". Only CoOp and CoCoOp have several such files.
fn named_option(method: &mut Method, folder: &str, part: &str) {
    let number = |prefix: &str| part.strip_prefix(prefix).and_then(|number| number.parse::<i64>().ok());
    let (Some(training), "CoOp" | "CoCoOp") = (&mut method.training, folder) else { return };
    if let Some(epochs) = number("ep") {
        training.epochs = epochs as u32;
    }
    if let Some(batch_size) = number("batch") {
        training.batch_size = batch_size as u32;
    }
    let (Learner::Coop { context_length, context_initial_words, .. }
    | Learner::Cocoop { context_length, context_initial_words }) = &mut method.learner
    else {
        return;
    };
    match part {
        "vit" | "rn50" | "rn101" => {
            context_initial_words.clear();
            if folder == "CoOp" {
                training.epochs = 200;
            }
        }
        "ctxv1" => (*context_length, *context_initial_words) = (4, "a photo of a".to_owned()),
        _ => *context_length = number("c").unwrap_or(*context_length),
    }
}

/// Applies an override of the published configuration.
fn overridden(method: &mut Method, option: &str, value: &str) {
    let number = || value.parse::<i64>().unwrap();
    let words = |length: &mut i64, words: &mut String| {
        *words = value.to_owned();
        // As many tokens as there are words, whatever the configuration says.
        if !value.is_empty() {
            *length = value.split(' ').count() as i64;
        }
    };
    let training = method.training.as_mut();
    match (&mut method.learner, option.rsplit('.').next().unwrap(), training) {
        // The variant decides it.
        (_, "PREC", _) => {}
        (_, "LR", Some(training)) => training.learning_rate = value.parse().unwrap(),
        (_, "MAX_EPOCH", Some(training)) => training.epochs = number() as u32,
        (_, "BATCH_SIZE", Some(training)) => training.batch_size = number() as u32,
        (_, "WARMUP_EPOCH", Some(training)) => training.warmup_epochs = number() as u32,
        (_, "WARMUP_CONS_LR", Some(training)) => training.warmup_learning_rate = value.parse().unwrap(),
        (_, "WEIGHT_DECAY", Some(training)) => training.weight_decay = value.parse().unwrap(),
        (_, "MOMENTUM", Some(training)) => training.momentum = value.parse().unwrap(),
        (Learner::Maple { depth, .. }, "PROMPT_DEPTH", _) => *depth = number(),
        (Learner::Maple { context_length, .. }, "N_CTX", _) => *context_length = number(),
        (Learner::Ivlp { depth, .. }, "PROMPT_DEPTH_TEXT", _) => *depth = number(),
        (Learner::Ivlp { context_length, .. }, "N_CTX_TEXT", _) => *context_length = number(),
        (Learner::Ivlp { vision_depth, .. } | Learner::Vpt { vision_depth, .. }, "PROMPT_DEPTH_VISION", _) => {
            *vision_depth = number();
        }
        (
            Learner::Ivlp { vision_context_length: length, .. } | Learner::Vpt { vision_context_length: length, .. },
            "N_CTX_VISION",
            _,
        ) => *length = number(),
        (Learner::Maple { context_initial_words, .. } | Learner::Ivlp { context_initial_words, .. }, "CTX_INIT", _) => {
            *context_initial_words = value.to_owned();
        }
        (Learner::Coop { context_length, .. } | Learner::Cocoop { context_length, .. }, "N_CTX", _) => {
            *context_length = number();
        }
        (
            Learner::Coop { context_length, context_initial_words, .. }
            | Learner::Cocoop { context_length, context_initial_words },
            "CTX_INIT",
            _,
        ) => words(context_length, context_initial_words),
        (Learner::Coop { class_token_position, .. }, "CLASS_TOKEN_POSITION", _) => {
            *class_token_position = serde_json::from_value(value.into()).unwrap();
        }
        (Learner::Coop { class_specific_context, .. }, "CSC", _) => *class_specific_context = value == "True",
        (learner, ..) => panic!("`{option}` is unknown for {learner:?}"),
    }
}
