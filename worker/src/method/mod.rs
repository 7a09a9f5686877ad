//! The learners: zero-shot CLIP, CoOp, CoCoOp, deep vision prompts, independent prompts of both towers, and MaPLe.

mod cocoop;
mod context;
mod coop;
mod initial;
mod ivlp;
mod loss_scale;
mod maple;
mod model;
pub mod pretrain;

pub mod prompt;
mod schedule;
mod sgd;
mod vpt;
mod zero_shot;

pub use loss_scale::LossScale;
pub use model::{Evaluator, Model, cross_entropy};
pub use schedule::learning_rate;
pub use sgd::Sgd;
