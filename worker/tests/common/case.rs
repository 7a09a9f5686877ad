//! A recorded run of the published code, and the method that its configuration describes.

use std::collections::BTreeMap;
use std::path::Path;

use maple_pipe::method::learners::{Cocoop, Coop, Ivlp, Kgcoop, Maple, PromptSrc, Tcp, Vpt, ZeroShot};
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
    /// What was changed to record it.
    #[serde(default)]
    note: String,
    #[serde(default)]
    pub templates_used: Vec<String>,
    #[serde(default)]
    pub labels: Vec<Vec<i64>>,
    #[serde(default)]
    pub learnable: Vec<Named>,
    pub loss0: Option<f64>,
    #[serde(default)]
    pub losses: Vec<f64>,
    /// The terms of these, where there are several, under the names of the published code.
    #[serde(default)]
    pub loss_terms: Vec<BTreeMap<String, f64>>,
    #[serde(default)]
    pub lrs: Vec<f64>,
    pub gpa: Option<Average>,
}

/// What is said of an average over epochs.
#[derive(Deserialize)]
pub struct Average {
    /// Of all epochs of the schedule.
    pub weights: Vec<f64>,
    /// Whether the run went through the whole schedule, so that the average took the place of what was learned.
    pub loaded_into_model: bool,
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
    /// The published method, as tables name it.
    pub fn label(&self) -> &str {
        if self.config.ends_with("_language_only") { "language" } else { &self.trainer }
    }

    /// The case in a folder.
    pub fn read(folder: &Path) -> Case {
        let mut case: Case = serde_json::from_str(&std::fs::read_to_string(folder.join("meta.json")).unwrap()).unwrap();
        // Of some cases the name says the variant, too.
        if let Some(name) = case.name.strip_suffix(&format!("__{}", case.variant)) {
            case.name = name.to_owned();
        }
        case
    }

    /// The method that the published configuration file describes, with the overrides of the case.
    pub fn method(&self) -> Method {
        let (folder, config) = self.config.split_once('/').unwrap();
        let words = config.ends_with("_ctxv1");
        let mut method = read(match (self.trainer.as_str(), folder) {
            ("ZeroshotCLIP" | "ZeroshotCLIP2", _) => "clip",
            (_, "MaPLe") if config.ends_with("_cross_datasets") => "maple_cross_dataset",
            (_, "MaPLe") => "maple",
            (_, "IVLP") if config.ends_with("_language_only") => "language",
            (_, "IVLP") if config.contains("_ep20_") => "ivlp_ep20",
            (_, "IVLP") => "ivlp",
            (_, "PromptSRC") if config.ends_with("_cross_datasets") => "promptsrc_cross_dataset",
            (_, "PromptSRC") if config.ends_with("_few_shot") => "promptsrc_fewshot",
            (_, "PromptSRC") => "promptsrc",
            (_, "VPT") => "vpt",
            (_, "CoOp") if words => "coop",
            (_, "CoOp") => "coop_ep200",
            (_, "CoCoOp") if words => "cocoop",
            (_, "CoCoOp") => "cocoop_random",
            (_, "KgCoOp") => "kgcoop",
            (_, "TCP") => "tcp",
            (trainer, _) => panic!("no method file for `{trainer}` with `{}`", self.config),
        });
        method.precision = match (self.variant.as_str(), folder) {
            ("fp32", _) => Precision::Fp32,
            ("half", _) | ("asis", "VPT") => Precision::PublishedFp32,
            ("asis", _) => Precision::Fp16,
            ("amp", _) => Precision::Mixed,
            (variant, _) => panic!("`{variant}` is unknown"),
        };
        named_options(&mut method, config);
        let section = match self.trainer.as_str() {
            // It has none of its own.
            "KgCoOp" | "TCP" => "TRAINER.COOP.".to_owned(),
            trainer => format!("TRAINER.{}.", trainer.to_uppercase()),
        };
        match (&mut method.learner, self.template.as_deref()) {
            (Learner::Kgcoop(Kgcoop { teacher_template, .. }), Some(template)) => {
                *teacher_template = template.to_owned();
            }
            (Learner::Tcp(Tcp { teacher_template, prompt_template, class_token_block, .. }), Some(templates)) => {
                let (teacher, prompt) = templates.split_once(" | ").unwrap();
                (*teacher_template, *prompt_template) = (teacher.to_owned(), prompt.to_owned());
                // The tiny tower has no block 8.
                let (_, block) = self.note.split_once("text block ").unwrap();
                *class_token_block = block.split(' ').next().unwrap().parse().unwrap();
            }
            _ => {}
        }
        self.opts.chunks_exact(2).for_each(|option| overridden(&mut method, &section, &option[0], &option[1]));
        as_published(&mut method.learner);
        if let Learner::ZeroShot(ZeroShot { templates, dataset_template }) = &mut method.learner
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

/// What a configuration's name says of CoOp and CoCoOp, whose files differ in nothing else: in
/// `vit_b16_c4_ep10_batch1_ctxv1`, four tokens, ten epochs, batches of one. A CoOp that names no epochs has 200.
fn named_options(method: &mut Method, config: &str) {
    let number = |prefix: &str| -> Option<u32> {
        config.split('_').find_map(|part| part.strip_prefix(prefix).and_then(|number| number.parse().ok()))
    };
    match (&mut method.learner, &mut method.training) {
        (Learner::Coop(_), Some(training)) => training.epochs = number("ep").unwrap_or(200),
        (Learner::Cocoop(Cocoop { context_length, .. }), Some(training)) => {
            *context_length = number("c").map_or(*context_length, i64::from);
            training.epochs = number("ep").unwrap_or(training.epochs);
            training.batch_size = number("batch").unwrap_or(training.batch_size);
        }
        _ => {}
    }
}

/// How options begin that decide nothing of what is recorded: that starts from given weights, tensors and pixels, and a
/// trainer does not look at another's options.
const WITHOUT_INFLUENCE: [&str; 20] = [
    "DATALOADER.",
    "DATASET.",
    "INPUT.",
    "MODEL.BACKBONE.",
    "MODEL.HEAD.",
    "OPTIM.ADAM_BETA",
    "OPTIM.BASE_LR_MULT",
    "OPTIM.GAMMA",
    "OPTIM.NEW_LAYERS",
    "OPTIM.RMSPROP_ALPHA",
    "OPTIM.STEPSIZE",
    "OPTIM.WARMUP_MIN_LR",
    "OUTPUT_DIR",
    "SEED",
    "TEST.",
    "TRAIN.",
    "TRAINER.",
    "USE_CUDA",
    "VERBOSE",
    "VERSION",
];

/// Options with the one value that every case is recorded with.
const AS_RECORDED: [(&str, &str); 9] = [
    ("MODEL.INIT_WEIGHTS", ""),
    ("OPTIM.LR_SCHEDULER", "cosine"),
    ("OPTIM.NAME", "sgd"),
    ("OPTIM.SGD_DAMPNING", "0"),
    ("OPTIM.SGD_NESTEROV", "False"),
    ("OPTIM.STAGED_LR", "False"),
    ("OPTIM.WARMUP_RECOUNT", "True"),
    ("OPTIM.WARMUP_TYPE", "constant"),
    ("RESUME", ""),
];

/// Applies an override of the published configuration; `section` is that of the case's trainer.
fn overridden(method: &mut Method, section: &str, option: &str, value: &str) {
    let number = || value.parse::<i64>().unwrap_or_else(|_| panic!("`{option}` is `{value}`, which is no number"));
    let rate = || value.parse::<f64>().unwrap_or_else(|_| panic!("`{option}` is `{value}`, which is no number"));
    if let Some(training) = &mut method.training {
        match option {
            "OPTIM.LR" => return training.learning_rate = rate(),
            "OPTIM.MAX_EPOCH" => return training.epochs = number() as u32,
            "OPTIM.WARMUP_EPOCH" => return training.warmup_epochs = number().max(0) as u32,
            "OPTIM.WARMUP_CONS_LR" => return training.warmup_learning_rate = rate(),
            "OPTIM.WEIGHT_DECAY" => return training.weight_decay = rate(),
            "OPTIM.MOMENTUM" => return training.momentum = rate(),
            "DATALOADER.TRAIN_X.BATCH_SIZE" => return training.batch_size = number() as u32,
            _ => {}
        }
    }
    let untrained = method.training.is_none();
    let own = option.strip_prefix(section);
    match (&mut method.learner, own) {
        // The variant decides it.
        (_, Some("PREC")) => {}
        // The published code does not look at it: the text is always the same.
        (Learner::Vpt(_), Some("CTX_INIT")) => {}
        (Learner::Maple(Maple { depth, .. }), Some("PROMPT_DEPTH"))
        | (
            Learner::Ivlp(Ivlp { depth, .. }) | Learner::PromptSrc(PromptSrc { depth, .. }),
            Some("PROMPT_DEPTH_TEXT"),
        ) => {
            *depth = number();
        }
        (
            Learner::Ivlp(Ivlp { vision_depth, .. })
            | Learner::PromptSrc(PromptSrc { vision_depth, .. })
            | Learner::Vpt(Vpt { vision_depth, .. }),
            Some("PROMPT_DEPTH_VISION"),
        ) => {
            *vision_depth = number();
        }
        (
            Learner::Ivlp(Ivlp { vision_context_length: length, .. })
            | Learner::PromptSrc(PromptSrc { vision_context_length: length, .. })
            | Learner::Vpt(Vpt { vision_context_length: length, .. }),
            Some("N_CTX_VISION"),
        )
        | (
            Learner::Ivlp(Ivlp { context_length: length, .. })
            | Learner::PromptSrc(PromptSrc { context_length: length, .. }),
            Some("N_CTX_TEXT"),
        )
        | (
            Learner::Coop(Coop { context_length: length, .. })
            | Learner::Cocoop(Cocoop { context_length: length, .. })
            | Learner::Kgcoop(Kgcoop { context_length: length, .. })
            | Learner::Tcp(Tcp { context_length: length, .. })
            | Learner::Maple(Maple { context_length: length, .. }),
            Some("N_CTX"),
        ) => *length = number(),
        // Whether the words are "a photo of a", and nothing else.
        (
            Learner::Kgcoop(Kgcoop { context_initial_words, .. }) | Learner::Tcp(Tcp { context_initial_words, .. }),
            Some("CTX_INIT"),
        ) => {
            *context_initial_words = if value == "True" { "a photo of a" } else { "" }.to_owned();
        }
        (Learner::Kgcoop(Kgcoop { teacher_weight, .. }), Some("W")) => *teacher_weight = rate(),
        // The published code does not look at them.
        (Learner::Kgcoop(_) | Learner::Tcp(_), Some("CLASS_TOKEN_POSITION")) | (Learner::Tcp(_), Some("W")) => {}
        (Learner::Kgcoop(_) | Learner::Tcp(_), Some("CSC")) => assert_eq!(value, "False", "`{option}`"),
        (
            Learner::Coop(Coop { context_initial_words, .. })
            | Learner::Cocoop(Cocoop { context_initial_words, .. })
            | Learner::Ivlp(Ivlp { context_initial_words, .. })
            | Learner::Maple(Maple { context_initial_words, .. })
            | Learner::PromptSrc(PromptSrc { context_initial_words, .. }),
            Some("CTX_INIT"),
        ) => *context_initial_words = value.replace('_', " "),
        (Learner::Coop(Coop { class_token_position, .. }), Some("CLASS_TOKEN_POSITION")) => {
            *class_token_position = serde_json::from_value(value.into()).unwrap();
        }
        (Learner::Coop(Coop { class_specific_context, .. }), Some("CSC")) => *class_specific_context = value == "True",
        (Learner::PromptSrc(PromptSrc { aggregation_mean, .. }), Some("GPA_MEAN")) => *aggregation_mean = rate(),
        (Learner::PromptSrc(PromptSrc { aggregation_deviation, .. }), Some("GPA_STD")) => {
            *aggregation_deviation = rate();
        }
        (Learner::PromptSrc(PromptSrc { text_loss_weight, .. }), Some("TEXT_LOSS_WEIGHT")) => {
            *text_loss_weight = rate();
        }
        (Learner::PromptSrc(PromptSrc { image_loss_weight, .. }), Some("IMAGE_LOSS_WEIGHT")) => {
            *image_loss_weight = rate();
        }
        (learner, Some(_)) => panic!("`{option}` is unknown for {learner:?}"),
        (_, None) if untrained && option.starts_with("OPTIM.") => {}
        (_, None) => match AS_RECORDED.iter().find(|(known, _)| *known == option) {
            Some((_, recorded)) => assert_eq!(value, *recorded, "`{option}` is not what every case is recorded with"),
            None => assert!(WITHOUT_INFLUENCE.iter().any(|known| option.starts_with(known)), "`{option}` is unknown"),
        },
    }
}

/// What the published trainers make of options that contradict each other.
fn as_published(learner: &mut Learner) {
    match learner {
        // Words decide the length, and leave no context to a class of its own.
        Learner::Coop(Coop { context_length, context_initial_words, class_specific_context, .. })
            if !context_initial_words.is_empty() =>
        {
            *context_length = context_initial_words.split(' ').count() as i64;
            *class_specific_context = false;
        }
        Learner::Cocoop(Cocoop { context_length, context_initial_words }) if !context_initial_words.is_empty() => {
            *context_length = context_initial_words.split(' ').count() as i64;
        }
        // Words start four tokens at most.
        Learner::Maple(Maple { context_length, context_initial_words, .. }) if *context_length > 4 => {
            context_initial_words.clear()
        }
        Learner::Ivlp(Ivlp { context_length, context_initial_words, vision_context_length, vision_depth, .. })
        | Learner::PromptSrc(PromptSrc {
            context_length,
            context_initial_words,
            vision_context_length,
            vision_depth,
            ..
        }) => {
            if *context_length > 4 {
                context_initial_words.clear();
            }
            if *vision_depth == 0 {
                *vision_context_length = 0;
            }
        }
        _ => {}
    }
}
