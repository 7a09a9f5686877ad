//! The learners against numbers recorded from the published PyTorch code on a tiny CLIP: initial logits, loss,
//! gradients, ten training steps, and what the trained prompt says about the same and about new classes.
//!
//! `MAPLE_PIPE_GOLDEN` may name another folder of cases.

mod common;

use std::path::{Path, PathBuf};

use maple_pipe::method::{Learner, Method};
use maple_pipe_worker::clip::{Clip, Tokenizer, Weights, normalised};
use maple_pipe_worker::method::{Model, Sgd, cross_entropy, learning_rate, prompt};
use serde::Deserialize;
use tch::{Device, Kind, Tensor, no_grad};

/// Largest allowed differences.
mod bound {
    /// Of logits before training, absolute.
    pub const INITIAL_LOGITS: f64 = 1e-3;
    /// Of the first loss, relative.
    pub const INITIAL_LOSS: f64 = 1e-5;
    /// Of a gradient, relative to its norm.
    pub const GRADIENT: f64 = 1e-4;
    /// Of a tensor after some steps, relative to how far it moved.
    pub const CHANGE: f64 = 1e-4;
    /// Of any loss, relative.
    pub const LOSS: f64 = 1e-2;
    /// Of logits after ten steps, absolute.
    pub const FINAL_LOGITS: f64 = 1e-2;
    /// Of the learning rates, relative.
    pub const LEARNING_RATE: f64 = 1e-12;
}

/// What `meta.json` of a case says.
#[derive(Deserialize)]
struct Case {
    name: String,
    variant: String,
    trainer: String,
    config: String,
    opts: Vec<String>,
    classes: Vec<String>,
    new_classes: Vec<String>,
    batch: i64,
    template: Option<String>,
    #[serde(default)]
    labels: Vec<Vec<i64>>,
    #[serde(default)]
    learnable: Vec<Named>,
    loss0: Option<f64>,
    #[serde(default)]
    losses: Vec<f64>,
    #[serde(default)]
    lrs: Vec<f64>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    shape: Vec<i64>,
}

/// The method that a published configuration file describes, with the overrides of the case.
fn method(case: &Case) -> Method {
    let file = match case.config.split_once('/').unwrap() {
        _ if case.trainer == "ZeroshotCLIP" => "clip",
        ("IVLP", config) if config.ends_with("language_only") => "language",
        ("IVLP", _) => "ivlp",
        ("CoOp", _) => "coop",
        ("CoCoOp", _) => "cocoop",
        ("VPT", _) => "vpt",
        ("MaPLe", _) => "maple",
        (other, _) => panic!("no method file for `{other}`"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../pipelines/methods/{file}.toml"));
    let mut method = Method::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    published_variant(&mut method, &case.config);
    case.opts.chunks_exact(2).for_each(|option| overridden(&mut method.learner, &option[0], &option[1]));
    method.validate().unwrap();
    method
}

/// Where a published configuration differs from the one in the method file.
fn published_variant(method: &mut Method, config: &str) {
    match (config, &mut method.learner, &mut method.training) {
        ("MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets", Learner::Maple { depth, .. }, Some(training)) => {
            *depth = 3;
            training.epochs = 2;
            training.learning_rate = 0.0026;
        }
        ("CoCoOp/vit_b16_c4_ep10_batch1", Learner::Cocoop { context_initial_words, .. }, _) => {
            context_initial_words.clear();
        }
        _ => {}
    }
}

/// Applies an override of the published configuration.
fn overridden(learner: &mut Learner, option: &str, value: &str) {
    let number = || value.parse::<i64>().unwrap();
    let name = option.rsplit('.').next().unwrap();
    match (learner, name) {
        (_, "PREC") => assert_eq!(value, "fp32"),
        (Learner::Maple { depth, .. }, "PROMPT_DEPTH") => *depth = number(),
        (Learner::Ivlp { depth, .. }, "PROMPT_DEPTH_TEXT") => *depth = number(),
        (Learner::Ivlp { vision_depth, .. } | Learner::Vpt { vision_depth, .. }, "PROMPT_DEPTH_VISION") => {
            *vision_depth = number();
        }
        (Learner::Vpt { vision_context_length, .. }, "N_CTX_VISION") => *vision_context_length = number(),
        (Learner::Coop { context_length, .. }, "N_CTX") => *context_length = number(),
        (Learner::Coop { class_token_position, .. }, "CLASS_TOKEN_POSITION") => {
            *class_token_position = serde_json::from_value(value.into()).unwrap();
        }
        (Learner::Coop { class_specific_context, .. }, "CSC") => *class_specific_context = value == "True",
        (Learner::Coop { context_length, context_initial_words, .. }, "CTX_INIT") => {
            *context_length = value.split(' ').count() as i64;
            *context_initial_words = value.to_owned();
        }
        (learner, _) => panic!("`{option}` is unknown for {learner:?}"),
    }
}

/// The differences of one case, each with its bound.
struct Report<'a> {
    case: &'a str,
    worst: Vec<(String, f64, f64)>,
}

impl Report<'_> {
    /// Keeps the worst difference of that name.
    fn note(&mut self, name: &str, difference: f64, bound: f64) {
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        match self.worst.iter_mut().find(|(known, ..)| known == name) {
            Some((_, worst, _)) => *worst = worst.max(difference),
            None => self.worst.push((name.to_owned(), difference, bound)),
        }
    }

    /// Prints all, and says which are beyond their bounds.
    fn finish(self) -> Vec<String> {
        let shown: Vec<String> = self.worst.iter().map(|(name, worst, _)| format!("{name} {worst:.1e}")).collect();
        println!("{:24} {}", self.case, shown.join("  "));
        let beyond = self.worst.into_iter().filter(|(_, worst, bound)| worst > bound);
        beyond.map(|(name, worst, bound)| format!("{}: {name} {worst:.2e} > {bound:.0e}", self.case)).collect()
    }
}

/// Largest absolute difference; infinite for unequal shapes.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    if a.size() != b.size() { f64::INFINITY } else { (a - b).abs().max().double_value(&[]) }
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.norm().double_value(&[])
}

/// The tensors whose names begin with `prefix`, without it.
fn under(tensors: &Weights, prefix: &str) -> Weights {
    let names = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    Weights::from_tensors(names.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())))
}

struct Setting {
    clip: Clip,
    tokenizer: Tokenizer,
    inputs: Weights,
}

impl Setting {
    fn new() -> Setting {
        let clip = Clip::from_weights(&common::tiny_weights(), Device::Cpu, Kind::Float).unwrap();
        let inputs = Weights::read(&common::reference().join("inputs.safetensors")).unwrap();
        Setting { clip, tokenizer: Tokenizer::new(), inputs }
    }

    fn images(&self, name: &str) -> &Tensor {
        self.inputs.get(name).unwrap()
    }

    fn model(&self, method: &Method, classes: &[String], template: &str) -> Model<'_> {
        Model::new(&self.clip, &self.tokenizer, method, classes, template, 1).unwrap()
    }
}

fn zero_shot(setting: &Setting, case: &Case, recorded: &Weights) -> Vec<String> {
    let mut report = Report { case: &case.name, worst: Vec::new() };
    let model = setting.model(&method(case), &case.classes, case.template.as_deref().unwrap());
    let images = setting.images("test_images");
    let features = model.image_features(images);
    let get = |name| recorded.get(name).unwrap();
    report.note("image features", difference(&features, get("image_features_unnormalised")), 1e-5);
    report.note("logits", difference(&model.evaluator().logits(images), get("test_logits")), bound::INITIAL_LOGITS);
    report.finish()
}

fn trained(setting: &Setting, case: &Case, recorded: &Weights) -> Vec<String> {
    let mut report = Report { case: &case.name, worst: Vec::new() };
    let method = method(case);
    let training = method.training.as_ref().unwrap();
    let mut model = setting.model(&method, &case.classes, "");
    let learnable = model.learnable();
    let names: Vec<(&str, Vec<i64>)> = learnable.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
    let expected: Vec<(&str, Vec<i64>)> = case.learnable.iter().map(|n| (n.name.as_str(), n.shape.clone())).collect();
    assert_eq!(names, expected, "{}", case.name);
    let initial = under(recorded, "init.");
    let get = |name: &str| recorded.get(name).unwrap_or_else(|| panic!("`{name}` in {}", case.name));
    starts_as_recorded(&learnable, &initial);
    model.load(&initial).unwrap();

    let batch = |step: usize| {
        let images = setting.images(&format!("train_images.{}", step % 2)).narrow(0, 0, case.batch);
        (images, Tensor::from_slice(&case.labels[step % 2]))
    };
    let test_images = setting.images("test_images");
    let evaluated = model.evaluator().logits(&batch(0).0);
    report.note("logits", difference(&evaluated, get("logits0")), bound::INITIAL_LOGITS);
    let evaluated = model.evaluator().logits(test_images);
    report.note("logits", difference(&evaluated, get("test_logits0")), bound::INITIAL_LOGITS);

    let mut optimiser = Sgd::new(model.learnable(), training);
    // In the cross-data-set case the recorded run went on behind the end of its schedule.
    let meaningful = (training.epochs as usize * 2).min(case.losses.len());
    for step in 0..case.losses.len() {
        let (images, labels) = batch(step);
        let loss = cross_entropy(&model.logits(&images), &labels);
        let gradients = optimiser.gradients(&loss).unwrap();
        let rate = learning_rate(training, step as u32 / 2);
        report.note("learning rate", (rate - case.lrs[step]).abs() / training.learning_rate, bound::LEARNING_RATE);
        let loss_difference = (loss.double_value(&[]) - case.losses[step]).abs() / case.losses[step];
        if step < meaningful {
            report.note("losses", loss_difference, bound::LOSS);
        }
        if step == 0 {
            assert_eq!(case.loss0, Some(case.losses[0]));
            report.note("loss", loss_difference, bound::INITIAL_LOSS);
            for ((name, _), gradient) in learnable.iter().zip(&gradients) {
                let expected = get(&format!("grad.{name}"));
                report.note("gradient", norm(&(gradient - expected)) / norm(expected), bound::GRADIENT);
            }
        }
        optimiser.step(&gradients, rate);
        if [0, 2].contains(&step) {
            for (name, tensor) in &learnable {
                let expected = get(&format!("after_step{}.{name}", step + 1));
                let moved = expected - initial.get(name).unwrap();
                // A step may be so small that rounding the values to fp32 shows.
                let rounding = norm(expected) * f64::from(f32::EPSILON) / 2.0;
                let difference = (norm(&(tensor - expected)) - rounding).max(0.0) / norm(&moved);
                report.note(&format!("step {}", step + 1), difference, bound::CHANGE);
            }
        }
    }
    if meaningful == case.losses.len() {
        let evaluated = model.evaluator().logits(test_images);
        report.note("final", difference(&evaluated, get("test_logits_final")), bound::FINAL_LOGITS);
    }
    new_classes(setting, case, &method, recorded, &mut report);
    report.finish()
}

/// Contexts that start from words start from the recorded embeddings; all others are drawn, and only loaded here.
fn starts_as_recorded(learnable: &[(String, Tensor)], recorded: &Weights) {
    for (name, tensor) in learnable {
        let expected = recorded.get(name).unwrap();
        let spread = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        let equal = difference(tensor, expected) < 1e-7;
        let alike = (0.4..2.5).contains(&(spread(tensor) / spread(expected)));
        assert!(equal || alike, "{name} starts at {} instead of {}", spread(tensor), spread(expected));
    }
}

/// The prompt that the published code ended with, written to a file and read into a model of new classes.
fn new_classes(setting: &Setting, case: &Case, method: &Method, recorded: &Weights, report: &mut Report) {
    let mut model = setting.model(method, &case.classes, "");
    model.load(&under(recorded, "final.")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt.safetensors");
    let description = prompt::Description::new(method, 5, &case.classes);
    prompt::pack(&model, &description).unwrap().write(&path).unwrap();
    let file = Weights::read(&path).unwrap();

    let mut novel = setting.model(method, &case.new_classes, "");
    assert_eq!(prompt::describe(&file).unwrap(), description);
    let unpacked = prompt::unpack(&file, &description, &mut novel, &case.new_classes);
    match recorded.get("test_logits_new_classes_final") {
        Some(expected) => {
            unpacked.unwrap();
            let logits = novel.evaluator().logits(setting.images("test_images"));
            report.note("new classes", difference(&logits, expected), bound::FINAL_LOGITS);
        }
        None => {
            let message = unpacked.unwrap_err().to_string();
            assert!(message.contains("class-specific context, which serves its own classes alone"), "{message}");
        }
    }
}

/// The folders of cases: the fixture's, and the one that the environment names.
fn cases() -> Vec<PathBuf> {
    let more = std::env::var_os("MAPLE_PIPE_GOLDEN").map(PathBuf::from);
    let folders = [Some(common::reference().join("cases")), more];
    let entries = folders.iter().flatten().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_recorded_case_is_matched() {
    let setting = Setting::new();
    let mut beyond = Vec::new();
    let mut run = 0;
    for folder in cases() {
        let case: Case = serde_json::from_str(&std::fs::read_to_string(folder.join("meta.json")).unwrap()).unwrap();
        if case.variant != "fp32" {
            println!("skipped: {} ({} is another precision)", folder.display(), case.variant);
            continue;
        }
        let recorded = Weights::read(&folder.join("tensors.safetensors")).unwrap();
        run += 1;
        beyond.extend(match case.trainer.as_str() {
            "ZeroshotCLIP" => zero_shot(&setting, &case, &recorded),
            _ => trained(&setting, &case, &recorded),
        });
    }
    assert!(run >= 19, "only {run} cases");
    assert!(beyond.is_empty(), "\n{}", beyond.join("\n"));
}

/// Every learner of the method files, in depths that the tiny model has.
fn every_learner() -> Vec<Method> {
    let parse = |text: &str| {
        let training = "[training]\nepochs = 1\nbatch_size = 1\nlearning_rate = 0.1\n";
        Method::parse(&format!("{text}\n{}", if text.contains("zero-shot") { "" } else { training })).unwrap()
    };
    [
        "learner = 'zero-shot'",
        "learner = 'coop'\ncontext_length = 4\ncontext_initial_words = 'a photo of a'",
        "learner = 'coop'\ncontext_length = 16\nclass_token_position = 'middle'",
        "learner = 'coop'\ncontext_length = 5\nclass_token_position = 'front'",
        "learner = 'coop'\ncontext_length = 4\nclass_token_position = 'middle'\nclass_specific_context = true",
        "learner = 'cocoop'\ncontext_length = 4\ncontext_initial_words = 'a photo of a'",
        "learner = 'vpt'\nvision_context_length = 8\nvision_depth = 4",
        "learner = 'ivlp'\ncontext_length = 2\ncontext_initial_words = 'a photo of a'\ndepth = 3\n\
         vision_context_length = 2\nvision_depth = 3",
        "learner = 'ivlp'\ncontext_length = 4\ndepth = 3\nvision_context_length = 0\nvision_depth = 0",
        "learner = 'maple'\ncontext_length = 2\ncontext_initial_words = 'a photo of a'\ndepth = 3",
    ]
    .map(parse)
    .into()
}

/// Largest difference of the logits, over the scale of the logits, between the text tower that runs and the published
/// one; and the largest relative difference of a gradient, where gradients are on.
fn towers_differ(setting: &Setting, method: &Method, classes: &[String], images: i64) -> (f64, f64) {
    let model = setting.model(method, classes, "a photo of a {}.");
    let images = setting.images("train_images.0").narrow(0, 0, images);
    let (fast, plain) = (model.logits(&images), model.logits_reference(&images));
    let logits = difference(&fast, &plain) / setting.clip.logit_scale().double_value(&[]);
    let Some(training) = method.training.as_ref().filter(|_| fast.requires_grad()) else { return (logits, 0.0) };
    let labels = Tensor::zeros([images.size()[0]], (Kind::Int64, Device::Cpu));
    let optimiser = Sgd::new(model.learnable(), training);
    let gradients = |logits: &Tensor| optimiser.gradients(&cross_entropy(logits, &labels)).unwrap();
    let pairs = gradients(&fast).into_iter().zip(gradients(&plain));
    // One class alone has a loss of 0 and no gradient.
    let apart = pairs.map(|(fast, plain)| norm(&(fast - &plain)) / norm(&plain).max(1e-6));
    (logits, apart.fold(0.0, f64::max))
}

#[test]
fn the_text_tower_that_runs_equals_the_published_one() {
    let setting = Setting::new();
    let of_length = |tokens: usize, word: &str| vec![word; tokens].join(" ");
    let lengths: Vec<String> = (1..=30).map(|tokens| of_length(tokens, "dog")).collect();
    let many: Vec<String> = (0..1000).map(|class| format!("{} {class}", of_length(1 + class % 4, "cat"))).collect();
    let learned_text = |method: &&Method| !matches!(method.learner, Learner::ZeroShot {} | Learner::Vpt { .. });
    for method in every_learner().iter().filter(learned_text) {
        let mut worst = no_grad(|| (towers_differ(&setting, method, &many, 1).0, 0.0));
        for classes in [&lengths[..], &lengths[..1], &lengths[29..], &lengths[4..6]] {
            let (logits, gradients) = towers_differ(&setting, method, classes, 2);
            worst = (logits.max(worst.0), gradients.max(worst.1));
        }
        let (logits, gradients) = worst;
        println!("logits {logits:.1e}, gradients {gradients:.1e}, {:?}", method.learner);
        assert!(logits < 1e-5 && gradients < 1e-3, "{:?}", method.learner);
    }
}

/// Fixed texts take the same way; here against the token ids, padded with zeros to 77.
#[test]
fn fixed_texts_equal_the_published_text_tower() {
    let setting = Setting::new();
    let classes: Vec<String> = (0..40).map(|class| vec!["sea_lion"; 1 + class % 20].join(" ")).collect();
    let padded = |class: &String| {
        let text = format!("a centered satellite photo of {}.", class.replace('_', " "));
        let mut ids = setting.tokenizer.tokenize(&text, 77).unwrap();
        ids.resize(77, 0);
        Tensor::from_slice(&ids)
    };
    let ids = Tensor::stack(&classes.iter().map(padded).collect::<Vec<_>>(), 0);
    let images = normalised(&setting.clip.image_features(setting.images("test_images")));
    let expected = images.matmul(&normalised(&setting.clip.text_features(&ids)).tr());
    let model = setting.model(&every_learner()[0], &classes, "a centered satellite photo of {}.");
    let found = model.logits(setting.images("test_images")) / setting.clip.logit_scale();
    assert!(difference(&found, &expected) < 1e-5);
}

#[test]
fn an_evaluation_equals_training_whatever_its_batches() {
    let setting = Setting::new();
    let images = setting.images("test_images");
    for method in every_learner() {
        // CoCoOp has prompts for each image; with so many classes it takes a few images at a time.
        let count = if matches!(method.learner, Learner::Cocoop { .. }) { 3000 } else { 20 };
        let classes: Vec<String> = (0..count).map(|class| format!("thing {class}")).collect();
        let model = setting.model(&method, &classes, "a {}.");
        let evaluator = model.evaluator();
        let expected = model.logits(images);
        assert!(difference(&evaluator.logits(images), &expected) < 1e-3, "{:?}", method.learner);
        if model.has_plain_vision() {
            let features = setting.clip.image_features(images);
            assert!(difference(&evaluator.logits_of_features(&features), &expected) < 1e-3, "{:?}", method.learner);
        }
        assert!(!evaluator.logits(images).requires_grad());
    }
}

#[test]
fn training_twice_gives_the_same_bits() {
    let setting = Setting::new();
    let classes = ["cat", "sea lion", "annual crop land"].map(str::to_owned);
    let labels = Tensor::from_slice(&[0i64, 2, 1, 0]);
    let train = |method: &Method| {
        let model = setting.model(method, &classes, "");
        let mut optimiser = Sgd::new(model.learnable(), method.training.as_ref().unwrap());
        for step in 0..4 {
            let images = setting.images(&format!("train_images.{}", step % 2));
            let gradients = optimiser.gradients(&cross_entropy(&model.logits(images), &labels)).unwrap();
            optimiser.step(&gradients, 0.01);
        }
        prompt::pack(&model, &prompt::Description::new(method, 4, &classes)).unwrap().to_bytes().unwrap()
    };
    for method in &every_learner()[1..] {
        assert_eq!(train(method), train(method), "{:?}", method.learner);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let setting = Setting::new();
    let classes = ["cat".to_owned(), "dog".to_owned()];
    let refused = |method: &Method, classes: &[String], template: &str| {
        let model = Model::new(&setting.clip, &setting.tokenizer, method, classes, template, 1);
        model.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let methods = every_learner();
    let (zero_shot, coop, maple) = (&methods[0], &methods[1], &methods[9]);
    assert_eq!(refused(zero_shot, &classes, "a photo"), "the template `a photo` does not hold `{}` once");
    let long = [classes[0].clone(), "very ".repeat(75) + "long"];
    let message = refused(coop, &long, "");
    assert!(message.contains("long.` has 83 tokens, more than the 77 that the text tower reads"), "{message}");
    assert_eq!(refused(coop, &[], ""), "there is no class to write a prompt for");
    let mut longer = maple.clone();
    if let Learner::Maple { context_length, .. } = &mut longer.learner {
        *context_length = 5;
    }
    assert_eq!(refused(&longer, &classes, ""), "`a photo of a` has 4 tokens, fewer than the context of 5");

    let model = setting.model(coop, &classes, "");
    let packed = prompt::pack(&model, &prompt::Description::new(coop, 3, &classes)).unwrap();
    let message = prompt::describe(&common::tiny_weights()).unwrap_err().to_string();
    assert_eq!(message, "the weights are no trained prompt: they name no method");
    let message = setting.model(maple, &classes, "").load(&packed).unwrap_err().to_string();
    assert!(message.contains("missing: `prompt_learner.compound_prompt_projections.0.bias`"), "{message}");
}
