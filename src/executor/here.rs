//! Executes work that needs no process of its own, in the thread that asks.

use super::interface::{Done, Executor, Order};
use crate::error::Result;
use crate::kind::Place;
use crate::task::Progress;

/// The thread that asks.
#[derive(Debug)]
pub(super) struct Here;

impl Executor for Here {
    fn takes(&self, place: &Place<'_>) -> bool {
        matches!(place, Place::Here(_))
    }

    fn keeps_log(&self) -> bool {
        false
    }

    fn execute(&self, order: &Order<'_>, _progress: &dyn Fn(Progress)) -> Result<Done> {
        let Place::Here(work) = order.place else { unreachable!("it takes nothing else") };
        Ok(Done::here(work.run(order.task)?))
    }
}
