//! ProGrad: CoOp whose steps do not go against what a frozen CLIP says of the images (Zhu et al. 2023, `trainers/prograd.py` of the
//! published code).

use tch::{Kind, Tensor};

use crate::method::context::{Arrangement, ClassPrompts};
use crate::method::learner::{Learner, Parts, Text};
use crate::method::loss::{Forward, Term};
use crate::method::teacher::Teacher;
use maple_pipe::error::Result;
use maple_pipe::method::learnable::CONTEXT;
use maple_pipe::method::learners;

/// The context, the prompts around it, and the text that the teacher reads.
pub(super) struct Prograd {
    prompts: ClassPrompts,
    /// `(n, text width)`.
    context: Tensor,
    teacher: Teacher,
    projection: f64,
}

impl Prograd {
    pub(super) fn new(options: &learners::Prograd, parts: &Parts<'_>) -> Result<Prograd> {
        let arrangement = Arrangement::in_front(options.context_length);
        Ok(Prograd {
            // The context takes the place of all words that it starts from.
            prompts: parts.words.context_prompts("", arrangement)?,
            context: parts.learned.tensor(CONTEXT),
            teacher: Teacher::new(&parts.words, &options.teacher_template)?,
            projection: options.projection,
        })
    }
}

impl Learner for Prograd {
    fn text(&self, _image_features: &Tensor) -> Text<'_> {
        Text::Prompts { prompts: &self.prompts, context: self.context.shallow_clone(), deep: Vec::new() }
    }

    fn loss(&self, forward: &Forward<'_>) -> Vec<Term> {
        vec![forward.cross_entropy(), self.teacher.logits_distance(forward)]
    }

    fn takes_terms_apart(&self) -> bool {
        true
    }

    /// The gradient a of the cross-entropy. Where it goes against that of the distance from the teacher, b, it loses what it has
    /// along b: a - projection (a . b / |b|) b / |b|.
    fn direction(&self, of_terms: &[Tensor]) -> Tensor {
        let [of_labels, of_teacher] = [0, 1].map(|term: usize| of_terms[term].to_kind(Kind::Float));
        let along = &of_teacher / of_teacher.norm();
        let product = (&of_labels * &along).sum(Kind::Float);
        let projected = &of_labels - along * (&product * self.projection);
        projected.where_self(&product.lt(0.0), &of_labels).to_kind(of_terms[0].kind())
    }
}
