//! The text tower that runs against the published one, which computes all 77 positions of every class: forward and
//! backward of a MaPLe step. `cargo bench --bench text_tower` prints seconds and the ratio, both measured in one run.

use std::time::Instant;

use maple_pipe::architecture::Architecture;
use maple_pipe::backbone::Backbone;
use maple_pipe::error::Result;
use maple_pipe::method::{Method, Precision};
use maple_pipe::terminal;
use maple_pipe_worker::clip::{Clip, Tokenizer, Weights};
use maple_pipe_worker::method::{Inputs, Model, cross_entropy};
use tch::{Device, Kind, Tensor};

const MAPLE: &str = "learner = \"maple\"\ncontext_length = 2\ncontext_initial_words = \"a photo of a\"\ndepth = 4\n\
                     [training]\nepochs = 1\nbatch_size = 1\nlearning_rate = 0.001\n";

fn main() -> Result<()> {
    // The widths of ViT-B/16's text tower over a third of its blocks; a small vision tower, which is not the point.
    let architecture = Architecture { text_width: 512, text_layers: 4, embedding: 512, ..Architecture::tiny() };
    tch::manual_seed(1);
    let tensors = architecture.tensors().into_iter();
    let tensors = tensors.map(|(name, shape)| (name, Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.02));
    let weights = Weights::from_tensors(tensors);
    let clip = Clip::from_weights(&weights, &Backbone::openai(architecture), Device::Cpu, Precision::Fp32)
        .expect("all tensors are there");
    let (tokenizer, method) = (Tokenizer::new(), Method::parse(MAPLE).expect("a method"));
    terminal::print(&format!("{:>8} {:>12} {:>12} {:>8}\n", "classes", "published, s", "ours, s", "ratio"))?;
    for classes in [10, 50, 100, 500] {
        let names: Vec<String> = (0..classes).map(|number| format!("class number {number}")).collect();
        let model = Model::new(&clip, &tokenizer, &method, &names, &Inputs::default(), 1).expect("a model");
        let size = architecture.image_size;
        let (images, labels) = (Tensor::zeros([4, 3, size, size], (Kind::Float, Device::Cpu)), [0i64, 1, 2, 3]);
        let step = |logits: &dyn Fn(&Tensor) -> Tensor| {
            let learnable = model.learnable();
            let inputs: Vec<&Tensor> = learnable.iter().map(|(_, tensor)| tensor).collect();
            let started = Instant::now();
            let loss = cross_entropy(&logits(&images), &Tensor::from_slice(&labels));
            Tensor::run_backward(&[loss], &inputs, false, false);
            started.elapsed().as_secs_f64()
        };
        let fast = median(|| step(&|images| model.logits(images)));
        let published = median(|| step(&|images| model.logits_reference(images)));
        let ratio = published / fast;
        terminal::print(&format!("{classes:>8} {published:>12.3} {fast:>12.3} {ratio:>7.1}x\n"))?;
    }
    Ok(())
}

/// The median of three runs after one that is not counted.
fn median(mut run: impl FnMut() -> f64) -> f64 {
    run();
    let mut times = [run(), run(), run()];
    times.sort_by(f64::total_cmp);
    times[1]
}
