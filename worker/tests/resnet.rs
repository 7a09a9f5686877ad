//! The modified ResNet against numbers that PyTorch gave (`fixtures/resnet/record.py`), and the learners on it.

// Each test program uses some of what they share.
#[allow(dead_code)]
mod common;

use maple_pipe::method::{Method, Precision};
use maple_pipe_worker::clip::{Tokenizer, VisionLayers, Weights, normalised};
use maple_pipe_worker::method::{Inputs, Model};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Recorded {
    features: Vec<Vec<f64>>,
    #[serde(flatten)]
    recipe: common::Recipe,
}

/// The weights, two images, and their features in float64.
fn recorded() -> (Weights, Tensor, Tensor) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/resnet/clip.recipe.json");
    let recorded: Recorded = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (images, weights): (Vec<_>, Vec<_>) = recorded.recipe.tensors().partition(|(name, _)| name == "images");
    let features = Tensor::from_slice2(&recorded.features);
    (Weights::from_tensors(weights), images[0].1.to_device(common::device()), features)
}

#[test]
fn features_are_those_of_pytorch() {
    let (weights, images, expected) = recorded();
    let clip = common::clip(&weights, Precision::Fp32);
    assert_eq!(clip.architecture().vision_layers, VisionLayers::ResNet([2, 1, 1, 2]));
    assert_eq!(clip.architecture().image_size, 96);
    let found = clip.image_features(&images).to_device(Device::Cpu).to_kind(Kind::Double);
    let difference = (found - &expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    println!("relative difference {difference:.1e}");
    assert!(difference < 2e-6, "{difference:e}");
}

#[test]
fn lower_precision_gives_nearly_the_same_features() {
    let (weights, images, expected) = recorded();
    let precisions = [
        (Precision::Fp16, Kind::Half, 0.99999),
        (Precision::Bf16, Kind::BFloat16, 0.999),
        (Precision::Mixed, Kind::Float, 0.99999),
    ];
    for (precision, kind, least) in precisions {
        let clip = common::clip(&weights, precision);
        let norms = clip.parameters().iter().filter(|(name, _)| name.contains("bn") || name.contains(".downsample.1."));
        assert!(norms.map(|(_, tensor)| tensor.kind()).all(|kind| kind == Kind::Float));
        let found = clip.image_features(&images);
        assert_eq!(found.kind(), kind);
        let cosines = (normalised(&found.to_device(Device::Cpu).to_kind(Kind::Double)) * normalised(&expected))
            .sum_dim_intlist([-1i64].as_slice(), false, None);
        assert!(cosines.min().double_value(&[]) > least, "{precision:?}: {cosines}");
    }
}

/// Zero-shot CLIP, CoOp and CoCoOp need no prompts in the vision tower; the others are refused.
#[test]
fn learners_that_leave_the_vision_tower_alone_work() {
    let (weights, images, _) = recorded();
    let words = Tensor::arange(49_408 * 64, (Kind::Float, Device::Cpu)).sin().reshape([49_408, 64]) * 0.02;
    let others = weights.iter().filter(|(name, _)| *name != "token_embedding.weight");
    let others = others.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
    let weights = Weights::from_tensors(others.chain([("token_embedding.weight".to_owned(), words)]));
    let clip = common::clip(&weights, Precision::Fp32);
    let (tokenizer, classes) = (Tokenizer::new(), ["cat", "dog", "sea lion"].map(str::to_owned));
    let model = |learner: &str| {
        let training = if learner.contains("zero-shot") {
            ""
        } else {
            "[training]\nepochs = 1\nbatch_size = 1\nlearning_rate = 0.1"
        };
        let method = Method::parse(&format!("{learner}\n{training}")).unwrap();
        let inputs = Inputs { template: "a photo of a {}.".to_owned(), ..Inputs::default() };
        Model::new(&clip, &tokenizer, &method, &classes, &inputs, 1)
    };
    for learner in
        ["learner = 'zero-shot'", "learner = 'coop'\ncontext_length = 4", "learner = 'cocoop'\ncontext_length = 4"]
    {
        let model = model(learner).unwrap();
        let (found, reference) = (model.logits(&images), model.logits_reference(&images));
        assert_eq!(found.size(), [2, 3]);
        assert!((&found - reference).abs().max().double_value(&[]) < 1e-4, "{learner}");
        assert!((found.select(0, 0) - found.select(0, 1)).abs().max().double_value(&[]) > 1e-3, "{learner}");
    }
    let message = model("learner = 'vpt'\nvision_context_length = 2\nvision_depth = 1").err().unwrap().to_string();
    assert_eq!(message, "`vision_depth` is 1, but the vision tower is a ResNet, which takes no prompts");
}
