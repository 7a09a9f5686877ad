//! Runs a `pretrain` stage.

use std::cell::RefCell;

use maple_pipe::error::Result;
use maple_pipe::stages::pretrain::Pretrain;
use maple_pipe::task::{Progress, Task};

use super::events::events;
use crate::Control;
use crate::method::pretrain;
use tch::Device;

pub(super) fn run(task: &Task, device: Device, control: Control<'_>) -> Result<String> {
    let Pretrain(pretraining) = task.parameters()?;
    let loss = RefCell::new(None);
    let file = RefCell::new(None);
    let progress = |one: Progress| {
        let mut file = file.borrow_mut();
        file.get_or_insert_with(|| events(task, one.epoch)).scalars(
            one.epoch,
            &[("loss", one.loss), ("learning_rate", one.learning_rate), ("images_per_second", one.images_per_second)],
        );
        loss.replace(Some(one.loss));
        control.progress(one);
    };
    let captioned = &task.one("captioned.files").path;
    let weights = pretrain::run(&pretraining, captioned, &task.partial, device, control.with_progress(&progress))?;
    weights.write(&task.output("weights"))?;
    Ok(loss.take().map_or_else(String::new, |loss| format!("loss {loss:.3}")))
}
