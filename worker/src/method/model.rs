//! A learner bound to a CLIP model and to the names of some classes: what is learned, and logits of images.

use tch::{Device, Kind, Tensor, no_grad};

use super::context::Words;
use super::initial::{Initial, LearnedTensors};
use super::learner::{self, Features, Inputs, Learner, Sample, Text};
use super::learners;
use super::loss::{Forward, Term};
use super::passes::{self, Part, Parts, Pass, Passed, Shared};
use super::state::copy_into;
use crate::clip::{Additions, Clip, Tokenizer, Weights, normalised, torch};
use maple_pipe::error::{Error, Result};
use maple_pipe::method::learnable::Tower;
use maple_pipe::method::{Method, Precision};

/// How many rows of the text tower an evaluation works on at a time where every image has prompts of its own.
const ROWS_AT_A_TIME: i64 = 32_768;

/// A learner with its classes, on a CLIP model whose own weights stay as they are.
pub struct Model<'a> {
    clip: &'a Clip,
    learned: LearnedTensors,
    learner: Box<dyn Learner>,
    /// Whether the learner compares the images of a step with what plain CLIP says of them.
    has_image_teacher: bool,
    parts: Parts,
}

/// What a step sees of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Images `(B, 3, R, R)`.
    Images(&'a Tensor),
    /// What plain CLIP's image tower makes of them, `(B, embedding)`, of any length; for learners without prompts there.
    Features(&'a Tensor),
}

impl<'a> Seen<'a> {
    /// The tensor.
    pub(super) fn tensor(self) -> &'a Tensor {
        match self {
            Seen::Images(tensor) | Seen::Features(tensor) => tensor,
        }
    }

    /// Another tensor of the same.
    pub(super) fn with(self, tensor: &Tensor) -> Seen<'_> {
        match self {
            Seen::Images(_) => Seen::Images(tensor),
            Seen::Features(_) => Seen::Features(tensor),
        }
    }
}

/// What features are computed for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Purpose {
    Training,
    Evaluation,
}

/// The loss of a batch, on its way back to what is learned.
pub struct Loss {
    /// Its terms.
    pub terms: Vec<Term>,
    passes: Vec<Vec<Passed>>,
}

impl Loss {
    fn of_features(passed: Vec<Passed>) -> Loss {
        let sum = passed[0].output.sum(Kind::Float);
        Loss { terms: vec![Term { name: "features", weight: 1.0, value: sum }], passes: vec![passed] }
    }

    /// Goes back to what is learned, as far as it has a part in the first term; to measure that.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn go_back(&self, learned: &[(String, Tensor)]) -> Result<()> {
        match &self.terms[0].value {
            sum if sum.requires_grad() => self.found(sum, learned, false).map(drop),
            _ => Ok(()),
        }
    }

    /// The gradients of a scalar that is made of the terms, one for each learned tensor in their order.
    ///
    /// # Errors
    /// When a learned tensor has no part in it.
    pub fn gradients(&self, scalar: &Tensor, learned: &[(String, Tensor)]) -> Result<Vec<Tensor>> {
        self.gradients_by(scalar, learned, false)
    }

    /// Those of several scalars, one after the other.
    ///
    /// # Errors
    /// When a learned tensor has no part in one.
    pub(super) fn gradients_of_each(
        &self,
        scalars: &[Tensor],
        learned: &[(String, Tensor)],
    ) -> Result<Vec<Vec<Tensor>>> {
        let of = |(place, scalar): (usize, &Tensor)| self.gradients_by(scalar, learned, place + 1 < scalars.len());
        scalars.iter().enumerate().map(of).collect()
    }

    /// The gradients of a scalar; with `keep` another scalar may follow.
    fn gradients_by(&self, scalar: &Tensor, learned: &[(String, Tensor)], keep: bool) -> Result<Vec<Tensor>> {
        let found = self.found(scalar, learned, keep)?;
        let lacking = |name: &str| Error::invalid(format!("`{name}` has no part in the loss"));
        let named = learned.iter().zip(found);
        named.map(|((name, _), gradient)| gradient.ok_or_else(|| lacking(name))).collect()
    }

    /// The gradients of a scalar, `None` for what has no part in it.
    fn found(&self, scalar: &Tensor, learned: &[(String, Tensor)], keep: bool) -> Result<Vec<Option<Tensor>>> {
        let tensors: Vec<Tensor> = learned.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        passes::gradients(scalar, &self.passes, &tensors, keep).map_err(torch)
    }
}

impl<'a> Model<'a> {
    /// Binds `method` to the classes. What is learned starts as in the published code, random numbers from `seed`.
    ///
    /// # Errors
    /// When the method does not fit the model, or the prompt of a class (which the message names) is too long.
    pub fn new(
        clip: &'a Clip,
        tokenizer: &Tokenizer,
        method: &Method,
        class_names: &[String],
        inputs: &Inputs,
        seed: u64,
    ) -> Result<Model<'a>> {
        Model::in_parts(clip, tokenizer, method, class_names, inputs, seed, Parts::of(clip))
    }

    /// The same with its work cut in another way, which changes results by rounding alone.
    ///
    /// # Errors
    /// Those of [`Model::new`].
    pub fn in_parts(
        clip: &'a Clip,
        tokenizer: &Tokenizer,
        method: &Method,
        class_names: &[String],
        inputs: &Inputs,
        seed: u64,
        parts: Parts,
    ) -> Result<Model<'a>> {
        method.validate()?;
        method.learner.fits(clip.architecture())?;
        let (vocabulary, last) = (clip.architecture().vocabulary, tokenizer.end_of_text());
        if vocabulary <= last {
            return Err(Error::hinted(
                format!("the text tower knows {vocabulary} words, fewer than the tokenizer's {}", last + 1),
                "use weights with a whole vocabulary",
            ));
        }
        let words = Words { clip, tokenizer, class_names, parts };
        assert_eq!(clip.precision(), method.precision, "a model computes as its method says");
        let kind = if method.precision == Precision::Fp16 { Kind::Half } else { Kind::Float };
        let initial = Initial { seed, device: clip.device(), kind };
        let learned = LearnedTensors::new(&method.learner.learned(), initial, &words, inputs.images);
        let learner = learners::bind(&method.learner, &learner::Parts { words, learned: &learned, inputs, seed })?;
        Ok(Model { clip, learned, learner, has_image_teacher: method.learner.teacher().images, parts })
    }

    /// The learned tensors (leaves that ask for gradients), under the published names and in their order.
    pub fn learnable(&self) -> Vec<(String, Tensor)> {
        self.learned.named()
    }

    /// Gives the learned tensors the values of `trained`.
    ///
    /// # Errors
    /// When a name or a shape differs; nothing has changed then.
    pub fn load(&mut self, trained: &Weights) -> Result<()> {
        copy_into(&self.learnable(), trained)
    }

    /// Takes up the sample that is to be learned from, before the first of so many epochs; without any, what is learned is found
    /// now.
    ///
    /// # Errors
    /// When it cannot be found.
    pub fn fit(&mut self, sample: Sample, epochs: u32) -> Result<()> {
        no_grad(|| self.learner.fit(self.clip, sample, epochs))
    }

    /// What was found in another way than by steps, for a note.
    pub fn found(&self) -> Vec<(&'static str, f64)> {
        self.learner.found()
    }

    /// The learned tensors that steps move.
    pub fn moving(&self) -> Vec<(String, Tensor)> {
        self.learnable().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
    }

    /// Where the model computes.
    pub fn device(&self) -> Device {
        self.clip.device()
    }

    /// Whether the vision tower works as in plain CLIP, so that image features may be computed once and kept.
    pub fn has_plain_vision(&self) -> bool {
        self.learner.vision_prompts().shallow.is_none() && self.learner.additions(Tower::Vision).is_empty()
    }

    /// What is added to the blocks of a tower; only a training leaves something out.
    fn additions(&self, tower: Tower, purpose: Purpose) -> Additions {
        let additions = self.learner.additions(tower);
        if purpose == Purpose::Training { additions } else { additions.without_dropout() }
    }

    /// Images `(B, 3, R, R)` to logits `(B, classes)`, not cut into parts and with nothing left out: what [`Model::loss`] is
    /// compared with.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        self.logits_of_features(&self.image_features(images))
    }

    /// The terms of the loss of what is seen, with labels `(B,)`.
    pub fn loss(&self, seen: Seen<'_>, labels: &Tensor) -> Loss {
        let Made { of_any_length, image_features, frozen_image_features, class_features, passes } = self.features(seen);
        let logits = self.compare(&of_any_length, &image_features, &class_features);
        let images = if let Seen::Images(images) = seen { Some(images) } else { None };
        let clip = self.clip;
        let forward = Forward { clip, images, labels, image_features, frozen_image_features, class_features, logits };
        Loss { terms: self.learner.loss(&forward), passes }
    }

    /// Features of images and of the classes, with the passes in which they were made: all towers together where the text does
    /// not depend on the images.
    fn features(&self, seen: Seen<'_>) -> Made {
        let frozen = |passed: &[Passed]| self.has_image_teacher.then(|| normalised(&passed[1].output));
        let (of_any_length, frozen_image_features, mut passes) = match seen {
            Seen::Images(images) => {
                let first = self.all_of_images(images);
                if !self.learner.per_image() {
                    let (class_features, passed) = self.text_features(first, &self.no_images(), Purpose::Training);
                    let (of_any_length, frozen_image_features) = (passed[0].output.shallow_clone(), frozen(&passed));
                    let (image_features, passes) = (normalised(&of_any_length), vec![passed]);
                    return Made { of_any_length, image_features, frozen_image_features, class_features, passes };
                }
                let passed = passes::run(first);
                (passed[0].output.shallow_clone(), frozen(&passed), vec![passed])
            }
            Seen::Features(features) => (features.shallow_clone(), None, Vec::new()),
        };
        let image_features = normalised(&of_any_length);
        let (class_features, classes) = self.text_features(Vec::new(), &image_features, Purpose::Training);
        passes.push(classes);
        Made { of_any_length, image_features, frozen_image_features, class_features, passes }
    }

    /// All passes of a step that images `(B, 3, R, R)` make: first that with what is learned in the vision tower, then that of
    /// plain CLIP, if the learner compares with it.
    fn all_of_images<'p>(&'p self, images: &Tensor) -> Vec<Pass<'p>> {
        let frozen = self.has_image_teacher.then(|| Pass::frozen_images(self.clip, images, self.parts));
        std::iter::once(self.images(images, Purpose::Training)).chain(frozen).collect()
    }

    /// The pass of images `(B, 3, R, R)` through the vision tower, with what is learned there.
    fn images<'p>(&'p self, images: &Tensor, purpose: Purpose) -> Pass<'p> {
        let additions = self.additions(Tower::Vision, purpose);
        Pass::images(self.clip, images, self.learner.vision_prompts(), additions, self.parts)
    }

    /// Normalised features of the classes, `(1, classes, embedding)` or `(B, classes, embedding)`, made together with other
    /// passes, and all these passes.
    fn text_features<'p>(
        &'p self,
        mut passes: Vec<Pass<'p>>,
        image_features: &Tensor,
        purpose: Purpose,
    ) -> (Tensor, Vec<Passed>) {
        let fixed = match self.learner.text(image_features) {
            Text::Fixed(features) => Some(features.unsqueeze(0)),
            Text::Prompts { prompts, context, deep } => {
                passes.push(prompts.pass(self.clip, &context, deep, self.additions(Tower::Text, purpose)));
                None
            }
        };
        let passed = passes::run(passes);
        let features = fixed.unwrap_or_else(|| passed[passed.len() - 1].output.shallow_clone());
        (normalised(&features), passed)
    }

    /// The passes of a step through vision towers alone, and the sum of what comes out; to measure it.
    pub(crate) fn image_pass(&self, images: &Tensor) -> Loss {
        Loss::of_features(passes::run(self.all_of_images(images)))
    }

    /// The same through the text tower; none where no text is learned.
    pub(crate) fn text_pass(&self, image_features: &Tensor) -> Option<Loss> {
        let (_, passed) = self.text_features(Vec::new(), &normalised(image_features), Purpose::Training);
        (!passed.is_empty()).then(|| Loss::of_features(passed))
    }

    /// Features of no image.
    fn no_images(&self) -> Tensor {
        Tensor::zeros([0, self.clip.architecture().embedding], (self.clip.kind(), self.clip.device()))
    }

    /// The same with another learner, made of its own and of what is learned.
    #[cfg(test)]
    pub(super) fn with_learner(
        self,
        wrap: impl FnOnce(Box<dyn Learner>, Vec<(String, Tensor)>) -> Box<dyn Learner>,
    ) -> Model<'a> {
        let named = self.learned.named();
        Model { learner: wrap(self.learner, named), ..self }
    }

    /// The learner, which hears of steps and epochs and has a state.
    pub(super) fn learner(&mut self) -> &mut dyn Learner {
        &mut *self.learner
    }

    /// To be called behind the last step of every epoch of so many, which are counted from 1.
    pub fn end_epoch(&mut self, epoch: u32, epochs: u32) {
        no_grad(|| self.learner.after_epoch(epoch, epochs));
    }

    /// Whether a step goes along what the learner makes of the gradient of each term.
    pub(super) fn takes_terms_apart(&self) -> bool {
        self.learner.takes_terms_apart()
    }

    /// What a learned tensor moves along, given its gradient by each term.
    pub(super) fn direction(&self, of_terms: &[Tensor]) -> Tensor {
        self.learner.direction(of_terms)
    }

    /// The tensors that the learner keeps beside the learned ones.
    pub(super) fn learner_state(&self) -> Vec<(String, Tensor)> {
        self.learner.state()
    }

    /// Features of images `(B, embedding)`, with what is learned in the vision tower, of any length.
    pub fn image_features(&self, images: &Tensor) -> Tensor {
        let additions = self.additions(Tower::Vision, Purpose::Evaluation);
        self.clip.image_features_with(images, &self.learner.vision_prompts(), &additions, 0)
    }

    /// [`Clip::class_token_attention`] with what is learned in the vision tower, without gradients.
    pub fn attention(&self, images: &Tensor) -> Option<Tensor> {
        let additions = self.additions(Tower::Vision, Purpose::Evaluation);
        no_grad(|| self.clip.class_token_attention(images, &self.learner.vision_prompts(), &additions))
    }

    /// Image features `(B, embedding)` of any length to logits `(B, classes)`.
    pub fn logits_of_features(&self, image_features: &Tensor) -> Tensor {
        let normalised = normalised(image_features);
        self.compare(image_features, &normalised, &self.class_features(&normalised))
    }

    /// [`Model::logits`] through the text tower as published, all 77 positions of every class. Slow; tests compare.
    pub fn logits_reference(&self, images: &Tensor) -> Tensor {
        let of_any_length = self.image_features(images);
        let image_features = normalised(&of_any_length);
        let class_features = match self.learner.text(&image_features) {
            Text::Fixed(features) => features.unsqueeze(0),
            Text::Prompts { prompts, context, deep } => {
                let additions = self.additions(Tower::Text, Purpose::Evaluation);
                prompts.features_reference(self.clip, &context, &deep, &additions)
            }
        };
        self.compare(&of_any_length, &image_features, &normalised(&class_features))
    }

    /// Readies the model for many batches: what depends on the classes alone is computed now, without gradients.
    pub fn evaluator(&self) -> Evaluator<'_> {
        let class_features = || no_grad(|| self.text_features(Vec::new(), &self.no_images(), Purpose::Evaluation).0);
        let class_features = (!self.learner.per_image()).then(class_features);
        Evaluator { model: self, class_features }
    }

    /// Normalised features of the classes, `(1, classes, embedding)` or `(B, classes, embedding)`.
    pub(crate) fn class_features(&self, image_features: &Tensor) -> Tensor {
        normalised(&match self.learner.text(image_features) {
            Text::Fixed(features) => features.unsqueeze(0),
            Text::Prompts { prompts, context, deep } => {
                let additions = self.additions(Tower::Text, Purpose::Evaluation);
                prompts.features(self.clip, &context, &deep, &additions)
            }
        })
    }

    /// Logits of image features of any length, the same normalised, and normalised ones of the classes.
    fn compare(&self, images: &Tensor, normalised: &Tensor, classes: &Tensor) -> Tensor {
        self.learner.logits(&Features { clip: self.clip, images, normalised, classes })
    }

    /// How many images are evaluated at a time that have prompts of their own.
    fn images_at_a_time(&self) -> i64 {
        match self.learner.text(&self.no_images()) {
            Text::Prompts { prompts, .. } => (ROWS_AT_A_TIME.min(self.parts.rows) / prompts.row_count()).max(1),
            Text::Fixed(_) => i64::MAX,
        }
    }
}

/// What the towers make of a step.
struct Made {
    /// Of images, `(B, embedding)`.
    of_any_length: Tensor,
    /// The same, normalised.
    image_features: Tensor,
    /// Those of plain CLIP, normalised.
    frozen_image_features: Option<Tensor>,
    /// Normalised, `(1, classes, embedding)` or `(B, classes, embedding)`.
    class_features: Tensor,
    passes: Vec<Vec<Passed>>,
}

/// A model whose learned tensors stay as they are: logits without gradients.
pub struct Evaluator<'a> {
    model: &'a Model<'a>,
    /// Normalised, `(1, classes, embedding)`; absent where they depend on the image.
    class_features: Option<Tensor>,
}

impl Evaluator<'_> {
    /// Features of the classes `(classes, embedding)`, each of length one; none where they depend on the image.
    pub fn class_features(&self) -> Option<Tensor> {
        self.class_features.as_ref().map(|features| features.squeeze_dim(0))
    }

    /// Images `(B, 3, R, R)` to logits `(B, classes)`, in fp32 whatever the precision.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        no_grad(|| {
            self.logits_of_features(&passes::run(vec![self.model.images(images, Purpose::Evaluation)])[0].output)
        })
    }

    /// Image features `(B, embedding)` of any length to logits `(B, classes)`, in fp32 whatever the precision.
    pub fn logits_of_features(&self, image_features: &Tensor) -> Tensor {
        let logits = no_grad(|| match &self.class_features {
            Some(class_features) => self.model.compare(image_features, &normalised(image_features), class_features),
            None => {
                let model = Shared(self.model);
                let part =
                    |features: Tensor| -> Part<'_> { Box::new(move |_| model.get().logits_of_features(&features)) };
                let images = self.model.images_at_a_time().min(image_features.size()[0]).max(1);
                let parts = image_features.split(images, 0).into_iter().map(part).collect();
                passes::run(vec![Pass::new(self.model.clip.device(), Vec::new(), 0, parts)]).remove(0).output
            }
        });
        logits.to_kind(Kind::Float)
    }
}
