//! The training of a model step by step, with a state from which another process goes on with the same bits.
//!
//! A step reads nothing from the device, so that a card never waits for the program: whether a step is taken is decided there, and
//! losses are read when somebody wants them. On a card, steps of one shape are recorded once and replayed: of a step of a
//! thousand kernels, launching them takes longer than computing them.

use tch::{Kind, Tensor, no_grad};

use super::loss::total;
use super::state::copy_into;
use super::{LossScale, Model, Optimizer, Seen};
use crate::clip::{Weights, torch};
use crate::cuda::CudaGraph;
use maple_pipe::error::Result;
use maple_pipe::method::{Precision, Training};
use maple_pipe::tally::Tally;
use maple_pipe::terminal;

/// Steps that are computed plainly before one is recorded: libraries choose kernels and get memory when they first compute
/// something, which cannot be recorded.
const STEPS_BEFORE_RECORDING: usize = 3;

/// A model in training.
pub struct Trainer<'a> {
    model: Model<'a>,
    optimizer: Optimizer,
    /// Absent where losses are not scaled.
    loss_scale: Option<LossScale>,
    recording: Recording,
}

/// How steps are computed.
enum Recording {
    /// Operation by operation, always.
    Never,
    /// Operation by operation, so many times yet.
    After(usize),
    /// By replaying a step.
    Done(Box<RecordedStep>),
}

/// A step of one shape, and the tensors that it reads and writes.
struct RecordedStep {
    graph: CudaGraph,
    seen: Tensor,
    labels: Tensor,
    learning_rate: Tensor,
    losses: StepLosses,
    /// What a replay does.
    tally: Tally,
}

/// The losses of a step, still where the model is.
#[derive(Debug)]
pub struct StepLosses {
    /// The sum of the weighted terms, and each of them where there are several, in fp64.
    values: Tensor,
    names: Vec<&'static str>,
}

/// The losses of a step as numbers.
#[derive(Debug)]
pub struct Losses {
    /// The sum of the weighted terms.
    pub total: f64,
    /// The weighted terms by name; none where there is but one.
    pub terms: Vec<(&'static str, f64)>,
}

impl StepLosses {
    /// Reads the losses of steps; a device that is not done with them is waited for.
    ///
    /// # Errors
    /// libtorch's.
    pub fn read(steps: &[StepLosses]) -> Result<Vec<Losses>> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let values: Vec<&Tensor> = steps.iter().map(|step| &step.values).collect();
        let values: Vec<f64> = Vec::try_from(Tensor::cat(&values, 0)).map_err(torch)?;
        let mut values = values.into_iter();
        let losses = steps.iter().map(|step| {
            let total = values.next().unwrap_or(f64::NAN);
            Losses { total, terms: step.names.iter().copied().zip(values.by_ref()).collect() }
        });
        Ok(losses.collect())
    }
}

impl<'a> Trainer<'a> {
    /// Ready for the first step.
    pub fn new(model: Model<'a>, training: &Training, precision: Precision) -> Trainer<'a> {
        let optimizer = Optimizer::new(model.moving(), training);
        let device = model.device();
        let recording = if device.is_cuda() { Recording::After(STEPS_BEFORE_RECORDING) } else { Recording::Never };
        Trainer { model, optimizer, loss_scale: LossScale::new(precision, device), recording }
    }

    /// The same, with every step computed operation by operation, also on a card.
    #[cfg(test)]
    fn plain(self) -> Trainer<'a> {
        Trainer { recording: Recording::Never, ..self }
    }

    /// The model.
    pub fn model(&self) -> &Model<'a> {
        &self.model
    }

    /// How many steps that see such a tensor it is until one is as fast as all that follow.
    pub(crate) fn steps_to_full_speed(&self, seen: Seen<'_>) -> usize {
        match &self.recording {
            Recording::Never => 2,
            Recording::After(count) => count + 2,
            Recording::Done(step) if step.seen.size() == seen.tensor().size() => 0,
            Recording::Done(_) => STEPS_BEFORE_RECORDING + 1,
        }
    }

    /// What is trained, once its training is over.
    pub fn into_model(self) -> Model<'a> {
        self.model
    }

    /// A step down the loss of what is seen with labels `(B,)`. It is left out where a scaled gradient overflows,
    /// and where the loss is not finite.
    ///
    /// # Errors
    /// When a learned tensor has no part in the loss.
    pub fn step(&mut self, seen: Seen<'_>, labels: &Tensor, learning_rate: f64) -> Result<StepLosses> {
        match &mut self.recording {
            Recording::Done(step) if step.seen.size() == seen.tensor().size() => {
                return step.replay(seen.tensor(), labels, learning_rate);
            }
            // Images follow on features.
            Recording::Done(step) if step.seen.dim() != seen.tensor().dim() => {
                self.recording = Recording::After(STEPS_BEFORE_RECORDING - 1);
            }
            Recording::After(0) => {
                let recording = match self.record(seen, labels) {
                    Ok(step) => Recording::Done(Box::new(step)),
                    Err(error) => {
                        terminal::warn(&format!("steps are not recorded, and so take longer: {error}"));
                        Recording::Never
                    }
                };
                self.recording = recording;
                return self.step(seen, labels, learning_rate);
            }
            Recording::After(count) => *count -= 1,
            Recording::Done(_) | Recording::Never => {}
        }
        self.compute(seen, labels, &Tensor::from(learning_rate))
    }

    /// Records a step of this shape, which is not taken.
    fn record(&mut self, seen: Seen<'_>, labels: &Tensor) -> Result<RecordedStep> {
        let (own, labels) = (seen.tensor().copy(), labels.copy());
        let learning_rate = Tensor::zeros([], (Kind::Double, own.device()));
        let before = Tally::so_far();
        let (graph, losses) = CudaGraph::record(|| self.compute(seen.with(&own), &labels, &learning_rate))?;
        let tally = Tally::so_far() - before;
        tally.takes_back();
        Ok(RecordedStep { graph, seen: own, labels, learning_rate, losses, tally })
    }

    /// Computes a step operation by operation.
    fn compute(&mut self, seen: Seen<'_>, labels: &Tensor, learning_rate: &Tensor) -> Result<StepLosses> {
        let loss = self.model.loss(seen, labels);
        let sum = total(&loss.terms);
        let learned = self.optimizer.learned();
        let apart = self.model.takes_terms_apart();
        let scalars: Vec<Tensor> = if apart {
            loss.terms.iter().map(|term| term.value.shallow_clone()).collect()
        } else {
            vec![sum.shallow_clone()]
        };
        let (gradients, is_finite) = match &mut self.loss_scale {
            Some(scale) => {
                let scaled: Vec<Tensor> = scalars.iter().map(|scalar| scale.scaled(scalar)).collect();
                let (gradients, are_finite) =
                    scale.unscaled(loss.gradients_of_each(&scaled, learned)?.into_iter().flatten().collect());
                (gradients, are_finite.logical_and(&sum.isfinite()))
            }
            None => (loss.gradients_of_each(&scalars, learned)?.into_iter().flatten().collect(), sum.isfinite()),
        };
        let gradients = if apart {
            let of_terms = |place: usize| -> Vec<Tensor> {
                gradients.iter().skip(place).step_by(learned.len()).map(Tensor::shallow_clone).collect()
            };
            no_grad(|| (0..learned.len()).map(|place| self.model.direction(&of_terms(place))).collect())
        } else {
            gradients
        };
        self.optimizer.step_if(&is_finite, &gradients, learning_rate);
        no_grad(|| self.model.learner().after_step());
        Ok(no_grad(|| {
            let wide = |value: &Tensor| value.to_kind(Kind::Double);
            let several = loss.terms.iter().filter(|_| loss.terms.len() > 1);
            let terms: Vec<Tensor> = several.clone().map(|term| wide(&term.value) * term.weight).collect();
            let values: Vec<Tensor> = std::iter::once(wide(&sum)).chain(terms).collect();
            StepLosses { values: Tensor::stack(&values, 0), names: several.map(|term| term.name).collect() }
        }))
    }

    /// To be called behind the last step of every epoch, which are counted from 1, of so many.
    pub fn end_epoch(&mut self, epoch: u32, epochs: u32) {
        self.model.end_epoch(epoch, epochs);
    }

    /// The tensors that another trainer needs to go on.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let under = |part: &'static str, tensors: Vec<(String, Tensor)>| {
            tensors.into_iter().map(move |(name, tensor)| (format!("{part}.{name}"), tensor))
        };
        let learned = under("learned", self.model.learnable());
        let scale = self.loss_scale.iter().flat_map(LossScale::state);
        learned.chain(self.optimizer.state()).chain(scale).chain(under("learner", self.model.learner_state())).collect()
    }

    /// Goes on from what [`Trainer::state`] returned.
    ///
    /// # Errors
    /// When it is the state of another training; nothing has changed then.
    pub fn load(&mut self, state: &Weights) -> Result<()> {
        copy_into(&self.state(), state)
    }
}

impl RecordedStep {
    fn replay(&mut self, seen: &Tensor, labels: &Tensor, learning_rate: f64) -> Result<StepLosses> {
        self.seen.copy_(seen);
        self.labels.copy_(labels);
        let _ = self.learning_rate.fill_(learning_rate);
        self.graph.replay()?;
        self.tally.repeats();
        // The next replay writes to the same place.
        Ok(StepLosses { values: self.losses.values.copy(), names: self.losses.names.clone() })
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::clip::{Architecture, Clip, Tokenizer, VisionLayers, VisionPrompts};
    use crate::device::of_tests;
    use crate::method::learner::{Learner, Text};
    use crate::method::loss::{Forward, Term};
    use crate::method::pretrain::random_weights;
    use crate::method::{Inputs, Parts};
    use maple_pipe::backbone::Backbone;
    use maple_pipe::method::Method;

    /// What later learners do: a loss of two terms, and an average over epochs that takes the place of the prompts at the end.
    struct Averaged {
        learner: Box<dyn Learner>,
        learned: Vec<(String, Tensor)>,
        sums: Vec<(String, Tensor)>,
        steps: Tensor,
    }

    impl Averaged {
        fn new(learner: Box<dyn Learner>, learned: Vec<(String, Tensor)>) -> Averaged {
            let sums = learned.iter().map(|(name, tensor)| (format!("sum.{name}"), tensor.detach().zeros_like()));
            let device = learned[0].1.device();
            Averaged { sums: sums.collect(), learner, learned, steps: Tensor::from(0i64).to_device(device) }
        }
    }

    impl Learner for Averaged {
        fn vision_prompts(&self) -> VisionPrompts {
            self.learner.vision_prompts()
        }

        fn text(&self, image_features: &Tensor) -> Text<'_> {
            self.learner.text(image_features)
        }

        fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
            let frozen =
                no_grad(|| forward.clip.image_features(forward.images.expect("the trainings here see images")));
            let apart = (&forward.image_features - frozen / 10.0).square().mean(Kind::Float);
            vec![forward.cross_entropy(), Term { name: "image_features", weight: 0.5, value: apart }]
        }

        fn after_step(&mut self) {
            self.steps += 1i64;
        }

        fn after_epoch(&mut self, epoch: u32, epochs: u32) {
            // Another average where steps were forgotten.
            let weight = f64::from(epoch) / (1.0 + self.steps.double_value(&[]));
            for ((_, sum), (_, tensor)) in self.sums.iter_mut().zip(&self.learned) {
                *sum += tensor.detach() * weight;
                if epoch == epochs {
                    tensor.shallow_clone().copy_(sum);
                }
            }
        }

        fn state(&self) -> Vec<(String, Tensor)> {
            let sums = self.sums.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            sums.chain([("steps".to_owned(), self.steps.shallow_clone())]).collect()
        }
    }

    const EPOCHS: u32 = 3;
    const STEPS: u32 = 2;

    /// Independent prompts, which `Averaged` wraps, and a learner that does the like.
    const LEARNERS: [&str; 2] = [
        "learner = 'ivlp'",
        "learner = 'promptsrc'\naggregation_mean = 2\naggregation_deviation = 1\naggregate = 'all'\n\
         teacher_templates = ['a {}.', 'the {}.']",
    ];

    fn method(learner: &str, training: &str, precision: &str) -> Method {
        let options = "context_length = 2\ndepth = 2\nvision_context_length = 2\nvision_depth = 2";
        let options = format!("{learner}\n{options}");
        let training = format!("[training]\nepochs = {EPOCHS}\nbatch_size = 2\nlearning_rate = 0.01\n{training}");
        Method::parse(&format!("{options}\nprecision = '{precision}'\n{training}")).unwrap()
    }

    fn clip(method: &Method) -> Clip {
        let vision_layers = VisionLayers::Transformer(2);
        let sizes = Architecture { vision_width: 64, vision_layers, text_layers: 2, ..Architecture::tiny() };
        let weights = Weights::from_tensors(random_weights(&sizes, 1));
        Clip::from_weights(&weights, &Backbone::openai(sizes), of_tests(), method.precision).unwrap()
    }

    fn trainer<'a>(clip: &'a Clip, method: &Method) -> Trainer<'a> {
        let classes = ["cat", "dog"].map(str::to_owned);
        let model = Model::new(clip, &Tokenizer::new(), method, &classes, &Inputs::default(), 1).unwrap();
        let model = match method.learner.name() {
            "ivlp" => model.with_learner(|learner, learned| Box::new(Averaged::new(learner, learned))),
            _ => model,
        };
        Trainer::new(model, method.training.as_ref().unwrap(), method.precision)
    }

    /// The images and labels of a step.
    fn batch(clip: &Clip, step: u32) -> (Tensor, Tensor) {
        let size = clip.architecture().image_size;
        let pixels = Tensor::arange(2 * 3 * size * size, (Kind::Float, clip.device())) * f64::from(step + 1);
        (pixels.sin().reshape([2, 3, size, size]), Tensor::from_slice(&[0i64, 1]).to_device(clip.device()))
    }

    /// The values of all that is kept, after the steps from `first` on and before `last`.
    fn train(trainer: &mut Trainer<'_>, clip: &Clip, first: u32, last: u32) {
        for step in first..last {
            let (images, labels) = batch(clip, step);
            trainer.step(Seen::Images(&images), &labels, 0.01).unwrap();
            if (step + 1) % STEPS == 0 {
                trainer.end_epoch((step + 1) / STEPS, EPOCHS);
            }
        }
    }

    fn values(trainer: &Trainer<'_>) -> Vec<(String, Tensor)> {
        trainer.state().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect()
    }

    #[test]
    fn a_training_goes_on_with_the_same_bits_wherever_it_stopped() {
        tch::set_num_threads(1);
        let optimizers = ["", "optimizer = 'adam'", "optimizer = 'adamw'\nbetas = [0.8, 0.9]\neps = 1e-4"];
        let methods = optimizers.iter().map(|training| (LEARNERS[0], *training)).chain([(LEARNERS[1], "")]);
        for (learner, training) in methods {
            for precision in ["fp32", "mixed"] {
                let method = method(learner, training, precision);
                let clip = clip(&method);
                let mut whole = trainer(&clip, &method);
                train(&mut whole, &clip, 0, EPOCHS * STEPS);
                for stop in 1..EPOCHS * STEPS {
                    let mut first = trainer(&clip, &method);
                    train(&mut first, &clip, 0, stop);
                    let kept = Weights::from_tensors(values(&first));
                    let mut second = trainer(&clip, &method);
                    second.load(&kept).unwrap();
                    train(&mut second, &clip, stop, EPOCHS * STEPS);
                    assert_eq!(values(&second), values(&whole), "{method:?}, stopped after {stop}");
                }
            }
        }
    }

    /// What a card replays is what it computes operation by operation, to the bit.
    #[test]
    #[ignore = "needs a graphics card: MAPLE_PIPE_TEST_DEVICE=cuda:0"]
    fn a_recorded_step_is_the_plain_one() {
        assert!(of_tests().is_cuda());
        for (learner, training) in [(LEARNERS[0], ""), (LEARNERS[0], "optimizer = 'adamw'"), (LEARNERS[1], "")] {
            for precision in ["fp32", "fp16", "bf16", "mixed"] {
                let method = method(learner, training, precision);
                let clip = clip(&method);
                let (mut recorded, mut plain) = (trainer(&clip, &method), trainer(&clip, &method).plain());
                for trainer in [&mut recorded, &mut plain] {
                    (0..4).for_each(|_| train(trainer, &clip, 0, EPOCHS * STEPS));
                }
                assert!(matches!(recorded.recording, Recording::Done(_)), "{method:?}");
                assert_eq!(values(&recorded), values(&plain), "{method:?}");
            }
        }
    }

    /// ProGrad against its formula: a step without momentum and decay shows what it goes along.
    #[test]
    fn what_goes_against_the_teacher_is_projected_out() {
        let options = "learner = 'prograd'\ncontext_length = 2\nteacher_template = 'a {}.'\nprojection = 0.75";
        let training =
            "[training]\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.1\nmomentum = 0.0\nweight_decay = 0.0";
        let classes = ["cat", "dog", "big sea lion"].map(str::to_owned);
        let smallest = Parts { images: 1, rows: 8 };
        let mut conflicts = Vec::new();
        for precision in ["fp32", "mixed"] {
            let method = Method::parse(&format!("{options}\nprecision = '{precision}'\n{training}")).unwrap();
            let clip = clip(&method);
            let images = batch(&clip, 0).0;
            for (labels, parts) in [[0i64, 1], [1, 0], [2, 2], [0, 0], [1, 1]]
                .into_iter()
                .flat_map(|labels| [Parts::WHOLE, smallest].map(|parts| (labels, parts)))
            {
                let labels = Tensor::from_slice(&labels).to_device(clip.device());
                let (tokenizer, inputs) = (Tokenizer::new(), Inputs::default());
                let model = Model::in_parts(&clip, &tokenizer, &method, &classes, &inputs, 1, parts).unwrap();
                let context = model.learnable().remove(0).1;
                let before = context.detach().copy();
                let logits = model.logits(&images).to_kind(Kind::Float);
                let prompts = ["a cat.", "a dog.", "a big sea lion."];
                let tokens = prompts.map(|text| {
                    let mut ids = tokenizer.tokenize(text, 77, text).unwrap();
                    ids.resize(77, 0);
                    Tensor::from_slice(&ids).to_device(clip.device())
                });
                let unit = |features: Tensor| &features / features.norm_scalaropt_dim(2, [-1], true);
                let teacher = unit(clip.text_features(&Tensor::stack(&tokens, 0)));
                let said = clip.logit_scale() * unit(clip.image_features(&images)).matmul(&teacher.tr());
                let of_labels = logits.log_softmax(-1, Kind::Float).nll_loss(&labels);
                let of_teacher =
                    -(said.softmax(-1, Kind::Float) * logits.log_softmax(-1, Kind::Float)).sum(Kind::Float) / 2.0;
                // In 16 bits small gradients vanish without a scale.
                let gradient =
                    |loss: &Tensor| Tensor::run_backward(&[loss * 256.0], &[&context], true, false).remove(0) / 256.0;
                let (a, b) = (gradient(&of_labels), gradient(&of_teacher));
                let product = (&a * &b).sum(Kind::Double).double_value(&[]);
                let share = product.min(0.0) / (&b * &b).sum(Kind::Double).double_value(&[]);
                let expected = &a - &b * (0.75 * share);
                conflicts.push(product < 0.0);

                let mut trainer = Trainer::new(model, method.training.as_ref().unwrap(), method.precision);
                // The scale of the loss is too large at first.
                let moved = (0..20).find_map(|_| {
                    trainer.step(Seen::Images(&images), &labels, 0.1).unwrap();
                    let moved = (&before - &context) / 0.1;
                    (moved.abs().max().double_value(&[]) > 0.0).then_some(moved)
                });
                let moved = moved.unwrap();
                // What is left of a gradient may be short, and is as far off as the gradient.
                let apart = (&moved - &expected).norm().double_value(&[]) / a.norm().double_value(&[]);
                let bound = if precision == "fp32" { 1e-3 } else { 5e-2 };
                assert!(apart < bound, "{precision} {labels:?} {parts:?}: {apart}");
            }
        }
        assert!(conflicts.contains(&true) && conflicts.contains(&false), "{conflicts:?}");
    }

    #[test]
    fn the_terms_of_a_loss_are_named_and_add_up() {
        let expected: [&[&str]; 2] =
            [&["cross_entropy", "image_features"], &["cross_entropy", "text_features", "image_features", "logits"]];
        for (learner, expected) in LEARNERS.iter().zip(expected) {
            let method = method(learner, "", "fp32");
            let clip = clip(&method);
            let (images, labels) = batch(&clip, 0);
            let losses = trainer(&clip, &method).step(Seen::Images(&images), &labels, 0.01).unwrap();
            let losses = StepLosses::read(&[losses]).unwrap().remove(0);
            let names: Vec<&str> = losses.terms.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, expected);
            assert!(losses.terms.iter().all(|(_, value)| *value > 0.0), "{losses:?}");
            let sum: f64 = losses.terms.iter().map(|(_, value)| value).sum();
            assert!((losses.total - sum).abs() < 1e-6 * sum, "{losses:?}");
        }
    }
}
