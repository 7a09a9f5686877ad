//! The learners against numbers recorded from the published PyTorch code on a tiny CLIP: initial logits, loss,
//! gradients, ten training steps, and what the trained prompt says about the same and about new classes.
//!
//! `MAPLE_PIPE_GOLDEN` may name another folder of cases.

mod common;

use std::path::PathBuf;

use common::case::Case;
use maple_pipe::method::{Description, Learner, Method, Precision};
use maple_pipe_worker::clip::{Clip, Tokenizer, Weights, normalised};
use maple_pipe_worker::method::{LossScale, Model, Sgd, cross_entropy, learning_rate, prompt};
use tch::{Device, Kind, Tensor, no_grad};

/// Largest allowed differences.
struct Bounds {
    /// Of logits before training, absolute; their scale is 100.
    initial_logits: f64,
    /// Of the first loss, relative.
    initial_loss: f64,
    /// Of a gradient, relative to its norm.
    gradient: f64,
    /// Of a tensor after some steps, relative to how far it moved.
    change: f64,
    /// Of any loss, relative.
    loss: f64,
    /// Of logits after ten steps, absolute.
    final_logits: f64,
}

/// Of the learning rates, relative.
const LEARNING_RATE: f64 = 1e-12;

const FP32: Bounds =
    Bounds { initial_logits: 1e-3, initial_loss: 1e-5, gradient: 1e-4, change: 1e-4, loss: 1e-2, final_logits: 1e-2 };

/// Deep prompts rounded to half, whose unit roundoff u is 2^-11 = 4.9e-4. The values are the published ones, so logits and
/// the first loss differ as in fp32. A gradient is rounded too: the published code does so for every text and then sums,
/// the text tower that runs sums the shared rows and then rounds, which makes two roundings, 2u. What ten steps make of
/// that is what they make of any difference: in the recorded fp32 runs they turn gradients that are 3.5e-6 apart
/// into logits 2.5e-3 apart (`ivlp_2_2_cfg`), 700 times as much, hence 700 * 2u in logits and a tenth of it in losses.
const HALF_PROMPTS: Bounds = Bounds { gradient: 1e-3, loss: 5e-2, final_logits: 0.7, ..FP32 };

/// Everything in half. A residual stream is rounded twice a block, 14 times in the tiny towers, and features, their norms
/// and their product are again: about sqrt(20) roundings of u each way, times the scale of 100: 0.22 in logits. (The
/// recorded runs in half and in fp32 are up to 0.14 apart.) The loss is at most that much off, of 3 to 11; a gradient is
/// the difference of probabilities from labels, whose relative error is that of the logits, spread over a batch, and u in
/// each product behind it. Ten steps multiply that as above: the recorded runs in half and in fp32 end up to 1.4 apart in
/// logits, where the first gradients were 7e-3 apart.
const FP16: Bounds =
    Bounds { initial_logits: 0.25, initial_loss: 2e-2, gradient: 3e-2, change: 3e-2, loss: 0.25, final_logits: 12.0 };

/// bfloat16 has three bits fewer than half; what ten steps make of that is not bounded by anything.
const BF16: Bounds = Bounds {
    initial_logits: 8.0 * FP16.initial_logits,
    initial_loss: 8.0 * FP16.initial_loss,
    gradient: 8.0 * FP16.gradient,
    change: 8.0 * FP16.change,
    loss: f64::INFINITY,
    final_logits: f64::INFINITY,
};

fn bounds(method: &Method) -> Bounds {
    match (method.precision, &method.learner) {
        (Precision::PublishedFp32, Learner::Ivlp { .. } | Learner::Maple { .. }) => HALF_PROMPTS,
        (Precision::Fp32 | Precision::PublishedFp32, _) => FP32,
        (Precision::Fp16 | Precision::Mixed, _) => FP16,
        (Precision::Bf16, _) => BF16,
    }
}

/// The differences of one case, each with its bound.
struct Report<'a> {
    case: &'a Case,
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
        println!("{:32} {}", self.case, shown.join("  "));
        let beyond = self.worst.into_iter().filter(|(_, worst, bound)| worst > bound);
        beyond.map(|(name, worst, bound)| format!("{}: {name} {worst:.2e} > {bound:.0e}", self.case)).collect()
    }
}

/// Largest absolute difference; infinite for unequal shapes.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    if a.size() != b.size() { f64::INFINITY } else { (wide(a) - wide(b)).abs().max().double_value(&[]) }
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
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
    fn new(precision: Precision) -> Setting {
        let clip = Clip::from_weights(&common::tiny_weights(), Device::Cpu, precision).unwrap();
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
    let mut report = Report { case, worst: Vec::new() };
    let model = setting.model(&case.method(), &case.classes, case.template.as_deref().unwrap_or_default());
    let images = setting.images("test_images");
    let features = model.image_features(images);
    let get = |name| recorded.get(name).unwrap();
    report.note("image features", difference(&features, get("image_features_unnormalised")), 1e-5);
    report.note("logits", difference(&model.evaluator().logits(images), get("test_logits")), FP32.initial_logits);
    report.finish()
}

fn trained(setting: &Setting, case: &Case, method: &Method, recorded: &Weights) -> Vec<String> {
    let mut report = Report { case, worst: Vec::new() };
    let (training, bound) = (method.training.as_ref().unwrap(), bounds(method));
    let mut model = setting.model(method, &case.classes, "");
    let learnable = model.learnable();
    let found = learnable.iter().map(|(name, tensor)| (name.as_str(), tensor.size(), tensor.kind()));
    let expected = case.learnable.iter().map(|named| (named.name.as_str(), named.shape.clone(), named.kind()));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{case}");
    // What an import expects of a checkpoint is what the model learns.
    let names = method.learner.learnable().into_iter().map(|(name, axes)| (name, axes.len()));
    let learned = learnable.iter().map(|(name, tensor)| (name.clone(), tensor.dim()));
    assert_eq!(names.collect::<Vec<_>>(), learned.collect::<Vec<_>>(), "{case}");
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
    report.note("logits", difference(&evaluated, get("logits0")), bound.initial_logits);
    let evaluated = model.evaluator().logits(test_images);
    report.note("logits", difference(&evaluated, get("test_logits0")), bound.initial_logits);

    let mut optimiser = Sgd::new(model.learnable(), training);
    let mut loss_scale = LossScale::new(method.precision);
    // In the cross-data-set case the recorded run went on behind the end of its schedule.
    let meaningful = (training.epochs as usize * 2).min(case.losses.len());
    for step in 0..case.losses.len() {
        let (images, labels) = batch(step);
        let loss = || cross_entropy(&model.logits(&images), &labels);
        let gradients = match &mut loss_scale {
            // A training would leave the steps out in which the scale is still too large.
            Some(scale) => (0..16).find_map(|_| scale.gradients(&optimiser, &loss()).unwrap()).unwrap(),
            None => optimiser.gradients(&loss()).unwrap(),
        };
        let loss = loss();
        let rate = learning_rate(training, step as u32 / 2);
        report.note("learning rate", (rate - case.lrs[step]).abs() / training.learning_rate, LEARNING_RATE);
        let loss_difference = (loss.double_value(&[]) - case.losses[step]).abs() / case.losses[step];
        if step < meaningful {
            report.note("losses", loss_difference, bound.loss);
        }
        if step == 0 {
            assert_eq!(case.loss0, Some(case.losses[0]));
            report.note("loss", loss_difference, bound.initial_loss);
            for ((name, _), gradient) in learnable.iter().zip(&gradients) {
                let expected = get(&format!("grad.{name}"));
                report.note("gradient", norm(&(gradient - expected)) / norm(expected), bound.gradient);
            }
        }
        optimiser.step(&gradients, rate);
        if [0, 2].contains(&step) {
            for (name, tensor) in &learnable {
                // Recorded in fp32 alone.
                let Some(expected) = recorded.get(&format!("after_step{}.{name}", step + 1)) else { continue };
                let moved = expected - initial.get(name).unwrap();
                // A step may be so small that rounding the values to fp32 shows.
                let rounding = norm(expected) * f64::from(f32::EPSILON) / 2.0;
                let difference = (norm(&(tensor - expected)) - rounding).max(0.0) / norm(&moved);
                report.note(&format!("step {}", step + 1), difference, bound.change);
            }
        }
    }
    if meaningful == case.losses.len() {
        let evaluated = model.evaluator().logits(test_images);
        report.note("final", difference(&evaluated, get("test_logits_final")), bound.final_logits);
    }
    new_classes(setting, case, method, recorded, &mut report);
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
    let description = Description::new(method, 5, &case.classes);
    prompt::pack(&model, &description).unwrap().write(&path).unwrap();
    let file = Weights::read(&path).unwrap();

    let mut novel = setting.model(method, &case.new_classes, "");
    assert_eq!(prompt::describe(&file).unwrap(), description);
    let unpacked = prompt::unpack(&file, &description, &mut novel, &case.new_classes);
    match recorded.get("test_logits_new_classes_final") {
        Some(expected) => {
            unpacked.unwrap();
            let logits = novel.evaluator().logits(setting.images("test_images"));
            report.note("new classes", difference(&logits, expected), bounds(method).final_logits);
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
    let mut beyond = Vec::new();
    let mut run = 0;
    for folder in cases() {
        let case = Case::read(&folder);
        let setting = Setting::new(case.method().precision);
        let recorded = Weights::read(&folder.join("tensors.safetensors")).unwrap();
        run += 1;
        beyond.extend(match case.trainer.as_str() {
            "ZeroshotCLIP" | "ZeroshotCLIP2" => zero_shot(&setting, &case, &recorded),
            _ => trained(&setting, &case, &case.method(), &recorded),
        });
    }
    assert!(run >= 32, "only {run} cases");
    assert!(beyond.is_empty(), "\n{}", beyond.join("\n"));
}

/// Nobody recorded these precisions; they stay near what was recorded in fp32.
#[test]
fn mixed_precision_and_bfloat16_stay_near_the_recorded_numbers() {
    let mut beyond = Vec::new();
    for precision in [Precision::Mixed, Precision::Bf16] {
        println!("{precision:?}");
        let setting = Setting::new(precision);
        for name in ["coop_4ctx_end_csc0", "cocoop_ctxv1", "vpt_4ctx_deep", "ivlp_2_2_cfg", "lang_only_4ctx", "maple"] {
            let folder = common::reference().join("cases").join(name);
            let (case, recorded) = (Case::read(&folder), Weights::read(&folder.join("tensors.safetensors")).unwrap());
            let method = Method { precision, ..case.method() };
            beyond.extend(trained(&setting, &case, &method, &recorded));
        }
    }
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
    let setting = Setting::new(Precision::Fp32);
    let of_length = |tokens: usize, word: &str| vec![word; tokens].join(" ");
    let lengths: Vec<String> = (1..=30).map(|tokens| of_length(tokens, "dog")).collect();
    let many: Vec<String> = (0..1000).map(|class| format!("{} {class}", of_length(1 + class % 4, "cat"))).collect();
    let learned_text = |method: &&Method| !matches!(method.learner, Learner::ZeroShot { .. } | Learner::Vpt { .. });
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
    let setting = Setting::new(Precision::Fp32);
    let classes: Vec<String> = (0..40).map(|class| vec!["sea_lion"; 1 + class % 20].join(" ")).collect();
    let padded = |class: &String| {
        let text = format!("a centered satellite photo of {}.", class.replace('_', " "));
        let mut ids = setting.tokenizer.tokenize(&text, 77, &text).unwrap();
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

/// Several templates: normalised features of each, their mean, normalised again (`ZeroshotCLIP2`).
#[test]
fn templates_are_averaged_as_published() {
    let setting = Setting::new(Precision::Fp32);
    let classes = ["cat", "sea_lion"].map(str::to_owned);
    let file = |name: &str| {
        let path = format!("{}/../pipelines/methods/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        Method { precision: Precision::Fp32, ..Method::parse(&std::fs::read_to_string(path).unwrap()).unwrap() }
    };
    for (name, count) in [("clip_7_templates", 8), ("clip_80_templates", 80)] {
        let method = file(name);
        let Learner::ZeroShot { templates, dataset_template } = &method.learner else { panic!("{name}") };
        let own = dataset_template.then_some("a centered satellite photo of {}.");
        let templates: Vec<&str> = templates.iter().map(String::as_str).chain(own).collect();
        assert_eq!(templates.len(), count);
        let features = templates.iter().map(|template| {
            let ids = classes.iter().map(|class| {
                let text = template.replace("{}", &class.replace('_', " "));
                let mut ids = setting.tokenizer.tokenize(&text, 77, &text).unwrap();
                ids.resize(77, 0);
                Tensor::from_slice(&ids)
            });
            normalised(&setting.clip.text_features(&Tensor::stack(&ids.collect::<Vec<_>>(), 0)))
        });
        let mean = Tensor::stack(&features.collect::<Vec<_>>(), 0).mean_dim([0i64].as_slice(), false, None);
        let images = setting.images("test_images");
        let expected = normalised(&setting.clip.image_features(images)).matmul(&normalised(&mean).tr()) * 100.0;
        let model = setting.model(&method, &classes, "a centered satellite photo of {}.");
        let found = model.evaluator().logits(images);
        assert!(difference(&(found * 100.0 / setting.clip.logit_scale()), &expected) < 1e-3, "{name}");
    }
}

#[test]
fn an_evaluation_equals_training_whatever_its_batches() {
    let setting = Setting::new(Precision::Fp32);
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
    let setting = Setting::new(Precision::Fp32);
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
        prompt::pack(&model, &Description::new(method, 4, &classes)).unwrap().to_bytes().unwrap()
    };
    for method in &every_learner()[1..] {
        assert_eq!(train(method), train(method), "{:?}", method.learner);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let setting = Setting::new(Precision::Fp32);
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
    let expected = "long` with a context of 4 has 83 tokens, more than the 77 that the text tower reads";
    assert!(message.ends_with(expected), "{message}");
    let marked = ["cat <|endoftext|>".to_owned()];
    let expected = "the prompt of class `cat <|endoftext|>` with a context of 4 holds `<|startoftext|>` or `<|endoftext|>`, \
                    which mark the start and the end of a text";
    assert_eq!(refused(coop, &marked, ""), expected);
    assert_eq!(refused(coop, &[], ""), "there is no class to write a prompt for");
    let with_words = |length: i64, words: &str| {
        let mut changed = maple.clone();
        if let Learner::Maple { context_length, context_initial_words, .. } = &mut changed.learner {
            (*context_length, *context_initial_words) = (length, words.to_owned());
        }
        changed
    };
    let message = refused(&with_words(4, "a photo of"), &classes, "");
    assert_eq!(message, "`a photo of` has 3 tokens, fewer than the context of 4");
    let message = refused(&with_words(8, "a photo of a"), &classes, "");
    assert_eq!(message, "`context_length` is 8, but initial words start 4 tokens at most");
    assert_eq!(refused(&with_words(8, ""), &classes, ""), "");

    let model = setting.model(coop, &classes, "");
    let packed = prompt::pack(&model, &Description::new(coop, 3, &classes)).unwrap();
    let message = prompt::describe(&common::tiny_weights()).unwrap_err().to_string();
    assert_eq!(message, "the weights are no trained prompt: they name no method");
    let message = setting.model(maple, &classes, "").load(&packed).unwrap_err().to_string();
    assert!(message.contains("missing: `prompt_learner.compound_prompt_projections.0.bias`"), "{message}");
}
