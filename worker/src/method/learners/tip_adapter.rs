//! Tip-Adapter, whose cache of few-shot images votes for classes, and Tip-Adapter-F, which trains the cache's keys (`main.py` and
//! `utils.py` of the published code).

use tch::{Kind, Tensor};

use super::class_texts::ClassTexts;
use crate::clip::{Clip, normalised};
use crate::method::learner::{Features, Labelled, Learner, Parts, Sample, Text};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::learners::{self, ALPHA, BETA, COUNTS, KEYS};

/// The factor of CLIP's own logits, whatever the model says.
const SCALE: f64 = 100.0;
/// The first value of `alpha` and of `beta` that is tried.
const FIRST: f64 = 0.1;

/// The cache, and the text features that it adds to.
pub(super) struct TipAdapter {
    options: learners::TipAdapter,
    /// Normalised, `(classes, embedding)`.
    texts: Tensor,
    /// `(images, embedding)`, in the order of their classes.
    keys: Tensor,
    /// How many of them each class has, `(classes,)`.
    counts: Tensor,
    /// Without axes.
    alpha: Tensor,
    /// Without axes.
    beta: Tensor,
    chosen: Option<Chosen>,
    found: Vec<(&'static str, f64)>,
}

/// What a training chooses, and by what.
struct Chosen {
    validation: Labelled,
    /// Absent where epochs are chosen on validation images.
    test: Option<Labelled>,
    /// The keys behind the best epoch so far.
    best_keys: Tensor,
    /// How many images they tell rightly, without axes.
    best: Tensor,
}

impl Chosen {
    /// By what epochs are chosen.
    fn of_epochs(&self) -> &Labelled {
        self.test.as_ref().unwrap_or(&self.validation)
    }
}

impl TipAdapter {
    pub(super) fn new(options: &learners::TipAdapter, parts: &Parts<'_>) -> Result<TipAdapter> {
        let [keys, counts, alpha, beta] = [KEYS, COUNTS, ALPHA, BETA].map(|name| parts.learned.tensor(name));
        let texts = ClassTexts::new(&parts.words, &options.templates)?.direction(parts.words.clip);
        Ok(TipAdapter { options: options.clone(), texts, keys, counts, alpha, beta, chosen: None, found: Vec::new() })
    }

    /// CLIP's own logits of normalised image features.
    fn zero_shot(&self, images: &Tensor) -> Tensor {
        images.matmul(&self.texts.tr()) * SCALE
    }

    /// The class of each image of the cache, one column a class: `(images, classes)`.
    fn values(&self) -> Tensor {
        let [images, classes] = [self.keys.size()[0], self.counts.size()[0]];
        let labels = Tensor::repeat_interleave(&self.counts.to_kind(Kind::Int64), images).unsqueeze(1);
        labels.eq_tensor(&Tensor::arange(classes, (Kind::Int64, self.keys.device()))).to_kind(Kind::Float)
    }

    /// The votes for classes, given products of image features and keys.
    fn votes(&self, affinity: &Tensor, values: &Tensor, beta: &Tensor) -> Tensor {
        (affinity * beta - beta).exp().matmul(values)
    }

    fn logits_of(&self, images: &Tensor) -> Tensor {
        let votes = self.votes(&images.matmul(&self.keys.tr()), &self.values(), &self.beta);
        self.zero_shot(images) + votes * &self.alpha
    }

    /// How many images are told rightly.
    fn correct(&self, images: &Labelled) -> Tensor {
        images.correct(&self.logits_of(&wide(&images.features)))
    }

    /// Takes the first of the best `alpha` and `beta` on validation images; returns how many of these they tell rightly.
    fn search(&mut self, validation: &Labelled) -> Result<i64> {
        let images = wide(&validation.features);
        let (affinity, zero_shot, values) = (images.matmul(&self.keys.tr()), self.zero_shot(&images), self.values());
        let options = &self.options;
        let tried =
            |end: f64, count: i64| (0..count).map(move |number| number as f64 * (end - FIRST) / count as f64 + FIRST);
        let (mut pairs, mut counts) = (Vec::new(), Vec::new());
        for beta in tried(options.beta_end, options.beta_values) {
            let votes = self.votes(&affinity, &values, &Tensor::from(beta).to_kind(Kind::Float));
            for alpha in tried(options.alpha_end, options.alpha_values) {
                pairs.push([alpha, beta]);
                counts.push(validation.correct(&(&zero_shot + &votes * alpha)));
            }
        }
        let counts: Vec<i64> = Vec::try_from(Tensor::stack(&counts, 0)).map_err(crate::clip::torch)?;
        let mut best = ([0.0, 0.0], 0);
        for (pair, count) in pairs.into_iter().zip(counts) {
            if count > best.1 {
                best = (pair, count);
            }
        }
        let ([alpha, beta], count) = best;
        self.set(alpha, beta);
        Ok(count)
    }

    fn set(&mut self, alpha: f64, beta: f64) {
        let _ = self.alpha.fill_(alpha);
        let _ = self.beta.fill_(beta);
    }

    /// Says what was found, with so many validation images right.
    fn note(&mut self, correct: i64, validation: &Labelled) {
        let accuracy = 100.0 * correct as f64 / validation.labels.size()[0] as f64;
        let [alpha, beta] = [&self.alpha, &self.beta].map(|value| value.double_value(&[]));
        self.found = vec![("alpha", alpha), ("beta", beta), ("validation accuracy", accuracy)];
    }
}

/// Normalised features in fp32.
fn wide(features: &Tensor) -> Tensor {
    normalised(&features.to_kind(Kind::Float))
}

impl Learner for TipAdapter {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.texts.shallow_clone())
    }

    fn logits(&self, features: &Features<'_>) -> Tensor {
        self.logits_of(&wide(features.images))
    }

    fn fit(&mut self, _clip: &Clip, sample: Sample, epochs: u32) -> Result<()> {
        let validation = sample.validation.ok_or_else(|| Error::invalid("Tip-Adapter needs validation images"))?;
        let order = sample.labels.argsort_stable(true, 0, false);
        let keys = sample.views.to_kind(Kind::Float).mean_dim([0i64].as_slice(), false, None);
        self.keys.copy_(&normalised(&keys).index_select(0, &order));
        self.counts.copy_(&sample.labels.bincount(None::<Tensor>, self.counts.size()[0]));
        self.set(self.options.alpha, self.options.beta);
        if epochs == 0 {
            let correct = self.search(&validation)?;
            self.note(correct, &validation);
            return Ok(());
        }
        let best = Tensor::zeros([], (Kind::Int64, self.keys.device()));
        self.chosen = Some(Chosen { validation, test: sample.test, best_keys: self.keys.detach().copy(), best });
        Ok(())
    }

    fn after_epoch(&mut self, epoch: u32, epochs: u32) {
        let Some(mut chosen) = self.chosen.take() else { return };
        let correct = self.correct(chosen.of_epochs());
        if correct.int64_value(&[]) > chosen.best.int64_value(&[]) {
            chosen.best_keys.copy_(&self.keys.detach());
            chosen.best.copy_(&correct);
        }
        if epoch == epochs {
            self.keys.copy_(&chosen.best_keys);
            let found = self.search(&chosen.validation).unwrap_or(0);
            self.note(found, &chosen.validation);
            if self.correct(chosen.of_epochs()).int64_value(&[]) < chosen.best.int64_value(&[]) {
                self.set(self.options.alpha, self.options.beta);
                let correct = self.correct(&chosen.validation).int64_value(&[]);
                self.note(correct, &chosen.validation);
            }
        }
        self.chosen = Some(chosen);
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let of =
            |chosen: &Chosen| [("best_keys", chosen.best_keys.shallow_clone()), ("best", chosen.best.shallow_clone())];
        self.chosen.iter().flat_map(of).map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    fn found(&self) -> Vec<(&'static str, f64)> {
        self.found.clone()
    }
}
