//! The learners, one file each. Their options, and the names and shapes of what they learn, are in the files of the same
//! names in the package `maple-pipe`.

mod class_texts;
mod clip_adapter;
mod clip_lora;
mod cocoop;
mod coop;
mod ivlp;
mod kgcoop;
mod linear_probe;
mod logistic_regression;
mod maple;
mod mma;
mod prograd;
mod promptsrc;
mod task_residual;
mod tcp;
mod tip_adapter;
mod vpt;
mod zero_shot;
mod zs_lp;

use super::learner::{Learner, Parts};
use maple_pipe::error::Result;
use maple_pipe::method;

/// The learner of these options: the list of all learners.
///
/// # Errors
/// When the prompt of a class, which the message names, is too long.
pub(super) fn bind(learner: &method::Learner, parts: &Parts<'_>) -> Result<Box<dyn Learner>> {
    let bound: Box<dyn Learner> = match learner {
        method::Learner::ZeroShot(options) => Box::new(zero_shot::ZeroShot::new(options, parts)?),
        method::Learner::Coop(options) => Box::new(coop::Coop::new(options, parts)?),
        method::Learner::Cocoop(options) => Box::new(cocoop::Cocoop::new(options, parts)?),
        method::Learner::Vpt(options) => Box::new(vpt::Vpt::new(options, parts)?),
        method::Learner::Ivlp(options) => Box::new(ivlp::Ivlp::new(options, parts)?),
        method::Learner::Maple(options) => Box::new(maple::Maple::new(options, parts)?),
        method::Learner::PromptSrc(options) => Box::new(promptsrc::PromptSrc::new(options, parts)?),
        method::Learner::Kgcoop(options) => Box::new(kgcoop::Kgcoop::new(options, parts)?),
        method::Learner::Prograd(options) => Box::new(prograd::Prograd::new(options, parts)?),
        method::Learner::Tcp(options) => Box::new(tcp::Tcp::new(options, parts)?),
        method::Learner::LinearProbe(options) => Box::new(linear_probe::LinearProbe::new(options, parts)),
        method::Learner::ZsLp(options) => Box::new(zs_lp::ZsLp::new(options, parts)?),
        method::Learner::TaskResidual(options) => Box::new(task_residual::TaskResidual::new(options, parts)?),
        method::Learner::ClipAdapter(options) => Box::new(clip_adapter::ClipAdapter::new(options, parts)?),
        method::Learner::TipAdapter(options) => Box::new(tip_adapter::TipAdapter::new(options, parts)?),
        method::Learner::ClipLora(options) => Box::new(clip_lora::ClipLora::new(options, parts)?),
        method::Learner::Mma(options) => Box::new(mma::Mma::new(options, parts)?),
    };
    Ok(bound)
}
