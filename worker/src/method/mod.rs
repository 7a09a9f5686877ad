//! The learners on libtorch, and what trains them: the loss, optimizers, the schedule, the state that outlives a stop.

mod context;
mod initial;
mod learner;
mod learners;
mod loss;
mod loss_scale;
mod model;
mod optimizer;
mod passes;
pub mod pretrain;
pub mod prompt;
mod schedule;
mod state;
mod teacher;
mod trainer;

pub use learner::{Inputs, Labelled, Sample};
pub use loss::{Forward, Term, cross_entropy, total};
pub use loss_scale::LossScale;
pub use model::{Evaluator, Loss, Model, Seen};
pub use optimizer::Optimizer;
pub use passes::{Parts, image_features};
pub use schedule::learning_rate;
pub use teacher::mean_text_features;
pub use trainer::{Losses, StepLosses, Trainer};
