//! The linear probe that starts from zero-shot CLIP, also with CLAP's penalty (`trainers/adapters.py` of CLAP's published code,
//! `ZS` and `l2`).

use tch::{Kind, Tensor};

use super::class_texts::ClassTexts;
use crate::clip::Clip;
use crate::method::learner::{Features, Learner, Parts, Sample, Text, wide_cosines};
use crate::method::loss::{Forward, Term};
use maple_pipe::error::Result;
use maple_pipe::method::learners::{self, CLASS_WEIGHTS};

/// The weights of the classes, and what holds them.
pub(super) struct ZsLp {
    texts: ClassTexts,
    /// `(classes, embedding)`.
    weights: Tensor,
    is_held: bool,
    /// Where the weights start, `(classes, embedding)`, and how much each is held there, `(classes,)`; in a training.
    start: Option<(Tensor, Tensor)>,
}

impl ZsLp {
    pub(super) fn new(options: &learners::ZsLp, parts: &Parts<'_>) -> Result<ZsLp> {
        Ok(ZsLp {
            texts: ClassTexts::new(&parts.words, &options.templates)?,
            weights: parts.learned.tensor(CLASS_WEIGHTS),
            is_held: options.class_adaptive_penalty,
            start: None,
        })
    }
}

impl Learner for ZsLp {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Fixed(self.weights.shallow_clone())
    }

    fn logits(&self, features: &Features<'_>) -> Tensor {
        features.wide_cosines(&features.wide_images())
    }

    fn fit(&mut self, clip: &Clip, sample: Sample, _epochs: u32) -> Result<()> {
        let texts = self.texts.mean(clip);
        self.weights.copy_(&texts);
        // The mean probability that zero-shot CLIP gives the images of a class, in all views.
        let [views, images, _] = sample.views.size()[..] else { unreachable!("views have three axes") };
        let probabilities = wide_cosines(clip, &sample.views.flatten(0, 1), &texts).softmax(-1, Kind::Float);
        let labels = sample.labels.repeat([views]);
        let right = probabilities.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
        let sum = |values: &Tensor| {
            texts.new_zeros([texts.size()[0]], (Kind::Float, texts.device())).index_add(0, &labels, values)
        };
        let count = sum(&Tensor::ones([views * images], (Kind::Float, texts.device())));
        self.start = Some((texts.shallow_clone(), sum(&right) / count));
        Ok(())
    }

    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        let cross_entropy = forward.cross_entropy();
        match self.start.as_ref().filter(|_| self.is_held) {
            None => vec![cross_entropy],
            Some((start, strengths)) => {
                let moved = (&self.weights - start).square().sum_dim_intlist([-1i64].as_slice(), false, None);
                let value = (strengths * moved).mean(None);
                vec![cross_entropy, Term { name: "class_weights", weight: 1.0, value }]
            }
        }
    }
}
