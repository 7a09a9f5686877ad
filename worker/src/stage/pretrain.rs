//! Runs a `pretrain` stage.

use std::cell::RefCell;

use maple_pipe::error::Result;
use maple_pipe::stage::{Pretrain, Task};
use maple_pipe::task::Progress;

use crate::Control;
use crate::method::pretrain;
use tch::Device;

pub(super) fn run(task: &Task, stage: &Pretrain, device: Device, control: Control<'_>) -> Result<String> {
    let loss = RefCell::new(None);
    let events = RefCell::new(None);
    let progress = |one: Progress| {
        let mut events = events.borrow_mut();
        let events = events.get_or_insert_with(|| super::events(task, one.epoch));
        events.scalars(
            one.epoch,
            &[("loss", one.loss), ("learning_rate", one.learning_rate), ("images_per_second", one.images_per_second)],
        );
        loss.replace(Some(one.loss));
        control.progress(one);
    };
    let captioned = &task.one("captioned.files").path;
    let weights = pretrain::run(&stage.0, captioned, &task.partial, device, control.with_progress(&progress))?;
    weights.write(&task.output("weights"))?;
    Ok(loss.take().map_or_else(String::new, |loss| format!("loss {loss:.3}")))
}
