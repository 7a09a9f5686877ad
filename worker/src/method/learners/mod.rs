//! The learners, one file each. Their options, and the names and shapes of what they learn, are in the files of the same
//! names in the package `maple-pipe`.

mod cocoop;
mod coop;
mod ivlp;
mod kgcoop;
mod maple;
mod prograd;
mod promptsrc;
mod tcp;
mod vpt;
mod zero_shot;

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
    };
    Ok(bound)
}
