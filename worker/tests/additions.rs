//! Learners that change the blocks of both towers, against towers that are written out in float64: low-rank updates as weights
//! `W + s B A`, adapters as the published formula; and what dropout leaves out, whatever the parts, the threads and the stops.

// Each test program uses some of what they share.
#[allow(dead_code)]
mod common;

use std::collections::BTreeMap;

use maple_pipe::backbone::Backbone;
use maple_pipe::data::random;
use maple_pipe::method::{Description, Learner, Method, Precision};
use maple_pipe_worker::clip::{Clip, Tokenizer, Weights};
use maple_pipe_worker::method::{
    Inputs, Model, Optimizer, Parts, Seen, StepLosses, Trainer, cross_entropy, prompt, total,
};
use tch::{Device, Kind, Tensor};

const LORA: &str = "learner = 'clip-lora'\nrank = 3\nalpha = 2.0\nproducts = ['query', 'value', 'output']\n\
                    text_blocks = [1, 3]\nvision_blocks = [2, 4]";
const PUBLISHED_LORA: &str = "learner = 'clip-lora'\nrank = 2\ntext_blocks = [1, 3]\nvision_blocks = [1, 4]";
const TEXT_LORA: &str = "learner = 'clip-lora'\nrank = 2\ntemplate = 'a {}, a kind of thing.'\ntext_blocks = [3, 3]";
const VISION_LORA: &str = "learner = 'clip-lora'\nrank = 2\nproducts = ['key']\nvision_blocks = [4, 4]";
const MMA: &str = "learner = 'mma'\nblocks = [2, 3]\nwidth = 8\nscale = 0.05";
const FIRST_MMA: &str = "learner = 'mma'\nblocks = [1, 1]\nwidth = 8\nscale = 0.001";

/// An image a part, and as few classes.
const SMALLEST: Parts = Parts { images: 1, rows: 8 };

fn method(options: &str, training: &str) -> Method {
    let training = format!("[training]\nepochs = 2\nbatch_size = 4\nlearning_rate = 0.01\n{training}");
    Method::parse(&format!("{options}\n{training}")).unwrap()
}

/// Names of all lengths that begin alike, alike for a while, or otherwise.
fn classes() -> Vec<String> {
    let name = |class: usize| format!("{}thing {class}", "big ".repeat(class % 4));
    (0..13).map(name).chain(["sea_lion".to_owned()]).collect()
}

fn images() -> Tensor {
    let inputs = common::on_device(&Weights::read(&common::reference().join("inputs.safetensors")).unwrap());
    inputs.get("train_images.0").unwrap().narrow(0, 0, 3)
}

fn labels() -> Tensor {
    Tensor::from_slice(&[0i64, 13, 7]).to_device(common::device())
}

fn clip(precision: Precision) -> Clip {
    common::clip(&common::tiny_weights(), precision)
}

/// A model that has learned something: every tensor is off its start.
fn model<'a>(clip: &'a Clip, method: &Method, parts: Parts) -> Model<'a> {
    let inputs = Inputs::default();
    let mut model = Model::in_parts(clip, &Tokenizer::new(), method, &classes(), &inputs, 1, parts).unwrap();
    let moved = model.learnable().into_iter().map(|(name, tensor)| {
        // libtorch's own generator is one for all threads.
        let drawn = random::normals(random::generator(1, &name, 0, 0)).take(tensor.numel());
        let noise = Tensor::from_slice(&drawn.collect::<Vec<f64>>()).reshape(tensor.size()).to_device(tensor.device());
        (name, tensor.detach() + noise.to_kind(tensor.kind()) * 0.05)
    });
    let moved = Weights::from_tensors(moved.collect::<Vec<_>>());
    model.load(&moved).unwrap();
    model
}

/// Both towers, written out.
struct Plain {
    backbone: Backbone,
    /// In float64, with the changes of a low-rank update in them.
    weights: BTreeMap<String, Tensor>,
    /// Of the blocks that have one, by name: its layers and its scale.
    adapters: BTreeMap<String, (Vec<[Tensor; 2]>, f64)>,
}

impl Plain {
    /// Towers that a learner has changed, and what it has learned, by name.
    fn new(clip: &Clip, method: &Method, learned: &BTreeMap<String, Tensor>) -> Plain {
        let weights = common::tiny_weights();
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let weights = weights.iter().map(|(name, tensor)| (name.to_owned(), wide(tensor))).collect();
        let mut plain = Plain { backbone: *clip.backbone(), weights, adapters: BTreeMap::new() };
        for (name, down) in learned {
            let Some(update) = name.strip_suffix(".w_lora_A") else { continue };
            let Learner::ClipLora(options) = &method.learner else { unreachable!() };
            let (attention, product) = update.rsplit_once('.').unwrap();
            let up = &learned[&format!("{update}.w_lora_B")];
            let change = up.matmul(down) * (options.alpha / (options.rank as f64).sqrt());
            plain.change(attention, product, &change);
        }
        if let Learner::Mma(options) = &method.learner {
            for (tower, blocks) in [("text", "transformer"), ("visual", "visual.transformer")] {
                for block in options.blocks.numbers() {
                    let number = block + 1;
                    let names = [
                        format!("{tower}_adapter.{number}.down.0"),
                        format!("shared_adapter.{number}.0"),
                        format!("{tower}_adapter.{number}.up"),
                    ];
                    let layer = |name: &String| {
                        ["weight", "bias"].map(|part| learned[&format!("{name}.{part}")].shallow_clone())
                    };
                    let adapter = (names.iter().map(layer).collect(), options.scale);
                    plain.adapters.insert(format!("{blocks}.resblocks.{block}"), adapter);
                }
            }
        }
        plain
    }

    /// Adds to the weight of a product.
    fn change(&mut self, attention: &str, product: &str, change: &Tensor) {
        let width = change.size()[0];
        let (name, place) = match product {
            "q_proj" => ("in_proj_weight", Some(0)),
            "k_proj" => ("in_proj_weight", Some(1)),
            "v_proj" => ("in_proj_weight", Some(2)),
            _ => ("out_proj.weight", None),
        };
        let weight = self.weights.get_mut(&format!("{attention}.{name}")).unwrap();
        let padded = match place {
            Some(place) => change.constant_pad_nd([0, 0, place * width, (2 - place) * width]),
            None => change.shallow_clone(),
        };
        *weight = &*weight + padded;
    }

    fn layer(&self, x: &Tensor, weight: &str, bias: &str) -> Tensor {
        x.matmul(&self.weights[weight].tr()) + &self.weights[bias]
    }

    fn norm(&self, x: &Tensor, name: &str) -> Tensor {
        let mean = x.mean_dim([-1i64].as_slice(), true, None);
        let apart = x - mean;
        let variance = apart.square().mean_dim([-1i64].as_slice(), true, None);
        apart / (variance + 1e-5).sqrt() * &self.weights[&format!("{name}.weight")]
            + &self.weights[&format!("{name}.bias")]
    }

    fn block(&self, x: &Tensor, name: &str, heads: i64, mask: Option<&Tensor>) -> Tensor {
        let normalised = self.norm(x, &format!("{name}.ln_1"));
        let beside = self.adapters.get(name).map(|(layers, scale)| {
            let layer = |x: &Tensor, number: usize| x.matmul(&layers[number][0].tr()) + &layers[number][1];
            layer(&layer(&layer(&normalised, 0).relu(), 1).relu(), 2) * *scale
        });
        let (weight, bias) = (format!("{name}.attn.in_proj_weight"), format!("{name}.attn.in_proj_bias"));
        let by_head = |x: Tensor| x.reshape([x.size()[0], x.size()[1], heads, -1]).transpose(1, 2);
        let parts = self.layer(&normalised, &weight, &bias).chunk(3, -1);
        let [query, key, value] = <[Tensor; 3]>::try_from(parts).unwrap().map(by_head);
        let scores = query.matmul(&key.transpose(-2, -1)) / (query.size()[3] as f64).sqrt();
        let scores = mask.map_or(scores.shallow_clone(), |mask| &scores + mask);
        let attended = scores.softmax(-1, Kind::Double).matmul(&value).transpose(1, 2).flatten(2, 3);
        let part = |part: &str| [format!("{name}.{part}.weight"), format!("{name}.{part}.bias")];
        let [weight, bias] = part("attn.out_proj");
        let x = x + self.layer(&attended, &weight, &bias);
        let [weight, bias] = part("mlp.c_fc");
        let hidden = self.layer(&self.norm(&x, &format!("{name}.ln_2")), &weight, &bias);
        let [weight, bias] = part("mlp.c_proj");
        let x = &x + self.layer(&(&hidden * (&hidden * 1.702).sigmoid()), &weight, &bias);
        beside.map_or(x.shallow_clone(), |beside| x + beside)
    }

    /// `(B, 3, R, R)` to `(B, embedding)`, of length 1.
    fn images(&self, images: &Tensor) -> Tensor {
        let conv = &self.weights["visual.conv1.weight"];
        let patch = conv.size()[2];
        let images = images.to_device(Device::Cpu).to_kind(Kind::Double);
        let patches = images.conv2d(conv, None::<&Tensor>, [patch, patch], [0, 0], [1, 1], 1);
        let patches = patches.flatten(2, -1).transpose(1, 2);
        let class = self.weights["visual.class_embedding"].expand([patches.size()[0], 1, -1], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.weights["visual.positional_embedding"];
        let mut x = self.norm(&x, "visual.ln_pre");
        for block in 0..4 {
            x = self.block(&x, &format!("visual.transformer.resblocks.{block}"), self.backbone.vision_heads, None);
        }
        let x = self.norm(&x.select(1, 0), "visual.ln_post").matmul(&self.weights["visual.proj"]);
        &x / x.norm_scalaropt_dim(2, [-1], true)
    }

    /// The classes in a template, `(classes, embedding)`, of length 1, through all positions.
    fn texts(&self, template: &str) -> Tensor {
        let tokenizer = Tokenizer::new();
        let ids = classes().into_iter().map(|class| {
            let text = template.replace("{}", &class.replace('_', " "));
            let mut ids = tokenizer.tokenize(&text, 77, &text).unwrap();
            ids.resize(77, 0);
            Tensor::from_slice(&ids)
        });
        let ids = Tensor::stack(&ids.collect::<Vec<_>>(), 0);
        let words = &self.weights["token_embedding.weight"];
        let embedded = words.index_select(0, &ids.flatten(0, 1)).reshape([ids.size()[0], 77, -1]);
        let mut x = embedded + &self.weights["positional_embedding"];
        let mask = Tensor::full([77, 77], f64::NEG_INFINITY, (Kind::Double, Device::Cpu)).triu(1);
        for block in 0..3 {
            x = self.block(&x, &format!("transformer.resblocks.{block}"), self.backbone.text_heads, Some(&mask));
        }
        let ends = ids.argmax(-1, false) + Tensor::arange(ids.size()[0], (Kind::Int64, Device::Cpu)) * 77;
        let x = self.norm(&x, "ln_final").flatten(0, 1).index_select(0, &ends);
        let x = x.matmul(&self.weights["text_projection"]);
        &x / x.norm_scalaropt_dim(2, [-1], true)
    }

    fn logits(&self, template: &str) -> Tensor {
        self.weights["logit_scale"].exp() * self.images(&images()).matmul(&self.texts(template).tr())
    }
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_device(Device::Cpu).to_kind(Kind::Double).norm().double_value(&[])
}

/// How far apart two tensors are, in parts of the norm of the second.
fn apart(found: &Tensor, expected: &Tensor) -> f64 {
    let wide = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    norm(&(wide(found) - wide(expected))) / norm(expected)
}

/// Logits and gradients of both ways through the towers, whole and in the smallest parts, are those of towers that are written out
/// with the changes in their weights.
#[test]
fn changed_towers_equal_the_formula() {
    let clip = clip(Precision::Fp32);
    for options in [LORA, PUBLISHED_LORA, TEXT_LORA, VISION_LORA, MMA, FIRST_MMA] {
        let method = method(options, "");
        let whole = model(&clip, &method, Parts::WHOLE);
        let leaf =
            |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).set_requires_grad(true);
        let learned: BTreeMap<String, Tensor> =
            whole.learnable().iter().map(|(name, tensor)| (name.clone(), leaf(tensor))).collect();
        let plain = Plain::new(&clip, &method, &learned);
        let template = match &method.learner {
            Learner::ClipLora(options) => options.template.as_str(),
            _ => "a photo of a {}.",
        };
        let expected = plain.logits(template);
        // The published code divides the gradients of an adapter by its scale.
        let times = if let Learner::Mma(options) = &method.learner { options.scale.recip() } else { 1.0 };
        let loss = cross_entropy(&expected, &labels().to_device(Device::Cpu));
        let of: Vec<&Tensor> = whole.learnable().iter().map(|(name, _)| &learned[name]).collect();
        let expected_gradients = Tensor::run_backward(&[&loss], &of, false, false);

        let images = images();
        let logits = [whole.logits(&images), whole.logits_reference(&images), whole.evaluator().logits(&images)];
        let worst = logits.iter().map(|found| apart(found, &expected)).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{options}: {worst:e}");
        let mut untouched = Plain::new(&clip, &method, &learned);
        untouched.adapters.clear();
        untouched.weights.extend(
            common::tiny_weights().iter().map(|(name, tensor)| (name.to_owned(), tensor.to_kind(Kind::Double))),
        );
        assert!(apart(&untouched.logits(template), &expected) > 1e-5, "{options} changes nothing");
        let mut worst_gradient: f64 = 0.0;
        for parts in [Parts::WHOLE, SMALLEST] {
            let model = model(&clip, &method, parts);
            let loss = model.loss(Seen::Images(&images), &labels());
            let gradients = loss.gradients(&total(&loss.terms), &model.learnable()).unwrap();
            for (found, expected) in gradients.iter().zip(&expected_gradients) {
                worst_gradient = worst_gradient.max(apart(found, &(expected * times)));
            }
        }
        assert!(worst_gradient < 1e-4, "{options}: {worst_gradient:e}");
        println!("logits {worst:.1e}, gradients {worst_gradient:.1e}: {}", options.replace('\n', ", "));
    }
}

/// Low precisions compute the same, but for their rounding.
#[test]
fn changed_towers_compute_in_every_precision() {
    for options in [PUBLISHED_LORA, MMA] {
        let exact = {
            let clip = clip(Precision::Fp32);
            model(&clip, &method(options, ""), Parts::WHOLE).evaluator().logits(&images())
        };
        for (precision, bound) in [(Precision::Mixed, 0.25), (Precision::Fp16, 0.25), (Precision::Bf16, 2.0)] {
            let clip = clip(precision);
            let method = Method { precision, ..method(options, "") };
            let model = model(&clip, &method, SMALLEST);
            let found = model.evaluator().logits(&images());
            let apart = (found - &exact).abs().max().double_value(&[]);
            assert!(apart < bound, "{options} {precision:?}: {apart}");
            let loss = model.loss(Seen::Images(&images()), &labels());
            let gradients = loss.gradients(&total(&loss.terms), &model.learnable()).unwrap();
            assert!(gradients.iter().all(|gradient| norm(gradient) > 0.0), "{options} {precision:?}");
        }
    }
}

fn with_dropout() -> Method {
    method(&format!("{LORA}\ndropout = 0.25"), "optimizer = 'adamw'")
}

/// A training leaves out the same whatever the parts and the threads, an evaluation nothing.
#[test]
fn dropout_follows_from_the_seed_and_the_place() {
    let method = with_dropout();
    let gradients = |method: &Method, parts: Parts, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let clip = clip(Precision::Fp32);
            let model = model(&clip, method, parts);
            let loss = model.loss(Seen::Images(&images()), &labels());
            loss.gradients(&total(&loss.terms), &model.learnable()).unwrap()
        })
    };
    let whole = gradients(&method, Parts::WHOLE, 1);
    let shared = gradients(&method, SMALLEST, 3);
    assert_eq!(gradients(&method, SMALLEST, 1), shared);
    assert_eq!(gradients(&method, Parts::WHOLE, 1), whole);
    let worst = |found: &[Tensor], expected: &[Tensor]| {
        found.iter().zip(expected).map(|(found, expected)| apart(found, expected)).fold(0.0, f64::max)
    };
    assert!(worst(&shared, &whole) < 1e-4, "{:e}", worst(&shared, &whole));
    let without = self::method(LORA, "optimizer = 'adamw'");
    assert!(worst(&gradients(&without, Parts::WHOLE, 1), &whole) > 0.1);

    let clip = clip(Precision::Fp32);
    let evaluated = |method: &Method| model(&clip, method, SMALLEST).evaluator().logits(&images());
    assert_eq!(evaluated(&method), evaluated(&without));
}

/// Every step leaves out something else, and one that goes on after a stop what it would have left out.
#[test]
fn dropout_goes_on_with_the_same_bits_wherever_it_stopped() {
    const STEPS: usize = 4;
    tch::set_num_threads(1);
    let clip = clip(Precision::Fp32);
    let method = with_dropout();
    let trainer = || Trainer::new(model(&clip, &method, SMALLEST), method.training.as_ref().unwrap(), method.precision);
    let train = |trainer: &mut Trainer<'_>, steps: usize, rate: f64| {
        let losses = (0..steps).map(|_| trainer.step(Seen::Images(&images()), &labels(), rate).unwrap());
        let losses = StepLosses::read(&losses.collect::<Vec<_>>()).unwrap();
        losses.iter().map(|losses| losses.total).collect::<Vec<f64>>()
    };
    let values = |trainer: &Trainer<'_>| -> Vec<(String, Tensor)> {
        trainer.state().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
    };
    let mut whole = trainer();
    train(&mut whole, STEPS, 0.01);
    for stop in 1..STEPS {
        let mut first = trainer();
        train(&mut first, stop, 0.01);
        let mut second = trainer();
        second.load(&Weights::from_tensors(values(&first))).unwrap();
        train(&mut second, STEPS - stop, 0.01);
        assert_eq!(values(&second), values(&whole), "stopped after {stop}");
    }
    // Without a step the losses differ by what is left out alone.
    let still = train(&mut trainer(), STEPS, 0.0);
    assert!((1..STEPS).all(|step| (still[step] - still[0]).abs() > 1e-4), "{still:?}");
}

/// A trained file holds the changes, and a model of other classes takes them.
#[test]
fn changes_are_written_and_read() {
    let clip = clip(Precision::Fp32);
    for options in [LORA, MMA] {
        let method = method(options, "");
        let trained = model(&clip, &method, Parts::WHOLE);
        let description = Description::new(&method, 2, &classes());
        let file = prompt::pack(&trained, &description).unwrap();
        let fresh =
            |classes: &[String]| Model::new(&clip, &Tokenizer::new(), &method, classes, &Inputs::default(), 2).unwrap();
        let mut read = fresh(&classes());
        prompt::unpack(&file, &description, &mut read, &classes()).unwrap();
        assert_eq!(read.evaluator().logits(&images()), trained.evaluator().logits(&images()), "{options}");
        assert!(!read.has_plain_vision());
        let novel = ["stone".to_owned(), "cloud".to_owned()];
        let mut read = fresh(&novel);
        prompt::unpack(&file, &description, &mut read, &novel).unwrap();
        assert_eq!(read.evaluator().logits(&images()).size(), [3, 2]);
    }
    // What starts at zero changes nothing at first.
    let method = method(PUBLISHED_LORA, "");
    let untrained = Model::new(&clip, &Tokenizer::new(), &method, &classes(), &Inputs::default(), 1).unwrap();
    let plain = Plain::new(&clip, &method, &BTreeMap::new()).logits("a photo of a {}.");
    assert!(apart(&untrained.logits(&images()), &plain) < 1e-5);
    let optimizer = Optimizer::new(untrained.learnable(), method.training.as_ref().unwrap());
    let loss = cross_entropy(&untrained.logits(&images()), &labels());
    let moved = optimizer.gradients(&loss).unwrap().iter().filter(|gradient| norm(gradient) > 0.0).count();
    assert_eq!(moved, untrained.learnable().len() / 2);
}
