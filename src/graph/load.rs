//! What nodes ask of a model's towers, as far as manifests tell before anything runs.

use petgraph::graph::NodeIndex;

use super::Graph;
use crate::data::{Classes, SplitPart};
use crate::method::{Method, Precision};
use crate::stages::dataset::Dataset;
use crate::stages::eval::Eval;
use crate::stages::features::Features;
use crate::stages::fewshot::FewShot;
use crate::stages::train::Train;

/// What a node asks of a model's towers.
#[derive(Clone, Copy, Debug)]
pub enum Load<'g> {
    /// A training.
    Training {
        /// Of what.
        method: &'g Method,
        /// The classes that it tells apart.
        classes: usize,
        /// The images of an epoch.
        images: usize,
        /// The first epochs of which the features are known.
        known_epochs: usize,
    },
    /// An evaluation.
    Evaluation {
        /// Of what.
        method: &'g Method,
        /// The classes that it tells apart.
        classes: usize,
        /// The images.
        images: usize,
        /// Their features are known.
        from_features: bool,
    },
    /// The image tower of plain CLIP alone.
    Features {
        /// In which number formats.
        precision: Precision,
        /// The images.
        images: usize,
        /// How often each: once, or in so many views.
        epochs: usize,
    },
}

impl Load<'_> {
    /// Steps of a training: the last incomplete batch of an epoch is dropped, unless it is the only one.
    pub fn steps(&self) -> usize {
        self.steps_of(0)
    }

    /// Those of them that see images and not features.
    pub fn steps_on_images(&self) -> usize {
        if let Load::Training { known_epochs, .. } = *self { self.steps_of(known_epochs) } else { 0 }
    }

    /// Steps of the epochs behind so many.
    fn steps_of(&self, epochs: usize) -> usize {
        let Load::Training { method: Method { training: Some(training), .. }, images, .. } = self else { return 0 };
        let steps_of_epoch = training.steps_of_epoch(*images);
        training.steps(steps_of_epoch).saturating_sub(epochs * steps_of_epoch)
    }

    /// Images per step of a training.
    pub fn batch(&self) -> usize {
        let Load::Training { method: Method { training: Some(training), .. }, images, .. } = self else { return 0 };
        (training.batch_size as usize).min(*images)
    }

    /// Images that it reads, each once.
    pub fn images(&self) -> usize {
        match *self {
            Load::Training { images, .. } | Load::Evaluation { images, .. } | Load::Features { images, .. } => images,
        }
    }

    /// Through how many image towers a step of a training runs its images.
    pub fn image_towers(&self) -> usize {
        match self {
            Load::Training { method, .. } => 1 + usize::from(method.learner.teacher().images),
            _ => 1,
        }
    }

    /// Images that run through the image tower.
    pub fn image_passes(&self) -> usize {
        match *self {
            Load::Training { .. } => self.steps_on_images() * self.batch() * self.image_towers(),
            Load::Evaluation { from_features: true, .. } => 0,
            Load::Evaluation { images, .. } => images,
            Load::Features { images, epochs, .. } => epochs * images,
        }
    }

    /// Prompts that run through the text tower.
    pub fn text_passes(&self) -> usize {
        match *self {
            Load::Training { method, classes, .. } => {
                let of_teacher = classes * method.learner.teacher().texts;
                of_teacher
                    + match method.learner.learns_text() {
                        true if method.learner.has_texts_per_image() => self.steps() * self.batch() * classes,
                        true => self.steps() * classes,
                        false => classes * method.learner.texts_per_class(),
                    }
            }
            Load::Evaluation { method, classes, images, .. } => match method.learner.has_texts_per_image() {
                true => images * classes,
                false if method.learner.teacher().in_evaluations => {
                    classes * (method.learner.texts_per_class() + method.learner.teacher().texts)
                }
                false => classes * method.learner.texts_per_class(),
            },
            Load::Features { .. } => 0,
        }
    }
}

impl Graph {
    /// What a node asks of a model's towers; nothing where it asks nothing, or where the manifest of its data set does not
    /// say how large that is.
    pub fn load(&self, index: NodeIndex) -> Option<Load<'_>> {
        let node = self.node(index);
        let work = &*node.work;
        if let Some(Train { method, .. }) = work.as_kind() {
            let (classes, images) = self.sample(node.source("shots")?)?;
            let views = node.source("features").and_then(|views| self.node(views).work.as_kind::<Features>()?.views);
            let known_epochs = match method.learner.works_on_features() {
                true => usize::MAX,
                false => views.map_or(0, |views| views.epochs.get() as usize),
            };
            return Some(Load::Training { method, classes, images, known_epochs });
        }
        if let Some(Eval { classes, split, method, .. }) = work.as_kind() {
            let method = method.as_ref().or_else(|| self.method_of(node.source("prompt")?))?;
            let dataset = node.source("dataset").or_else(|| self.node(node.source("shots")?).source("dataset"))?;
            let from_features = node.source("features").is_some();
            let (of, images) = (self.classes_of(dataset)?, self.images(index, *split, *classes)?);
            return Some(Load::Evaluation { method, classes: classes.labels(of).len(), images, from_features });
        }
        let Features { split, classes, precision, views, .. } = work.as_kind()?;
        let epochs = views.map_or(1, |views| views.epochs.get() as usize);
        Some(Load::Features { precision: *precision, images: self.images(index, *split, *classes)?, epochs })
    }

    /// The method of the prompt that a node leaves; of one that chooses among several, that of the first.
    fn method_of(&self, index: NodeIndex) -> Option<&Method> {
        let node = self.node(index);
        node.work.method().or_else(|| self.method_of(node.source("prompts")?))
    }

    /// The classes of a data set.
    fn classes_of(&self, dataset: NodeIndex) -> Option<usize> {
        self.node(dataset).work.as_kind::<Dataset>()?.manifest.counts.classes
    }

    /// The classes and the training images of a few-shot sample, where every class has enough images.
    fn sample(&self, index: NodeIndex) -> Option<(usize, usize)> {
        let node = self.node(index);
        let FewShot { shots, classes, .. } = node.work.as_kind()?;
        let classes = classes.labels(self.classes_of(node.source("dataset")?)?).len();
        Some((classes, classes * shots.get()))
    }

    /// The images of a part of the data set, or of the few-shot sample, that a node reads.
    fn images(&self, index: NodeIndex, split: SplitPart, classes: Classes) -> Option<usize> {
        let node = self.node(index);
        if let Some(shots) = node.source("shots") {
            // The published code draws at most four images of a class to choose by.
            let (classes, images) = self.sample(shots)?;
            return Some(if split == SplitPart::Train { images } else { images.min(4 * classes) });
        }
        let dataset = &self.node(node.source("dataset")?).work;
        let counts = dataset.as_kind::<Dataset>()?.manifest.counts;
        let of = counts.classes?;
        let share = |images: usize| (images * classes.labels(of).len()).div_ceil(of.max(1));
        match split {
            SplitPart::Train => counts.train.map(share),
            SplitPart::Val => counts.val.map(share),
            SplitPart::Test => dataset.test_images(classes).map(|images| images as usize),
        }
    }
}
