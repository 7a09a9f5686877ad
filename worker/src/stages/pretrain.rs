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
        if let Progress::Epoch { epoch, loss: of_epoch, learning_rate, images_per_second, .. } = one {
            let scalars =
                [("loss", of_epoch), ("learning_rate", learning_rate), ("images_per_second", images_per_second)];
            file.borrow_mut().get_or_insert_with(|| events(task, epoch)).scalars(epoch, &scalars);
            loss.replace(Some(of_epoch));
        }
        control.progress(one);
    };
    let captioned = &task.one("captioned.files").path;
    let weights = pretrain::run(&pretraining, captioned, &task.partial, device, control.with_progress(&progress))?;
    weights.write(&task.output("weights"))?;
    Ok(loss.take().map_or_else(String::new, |loss| format!("loss {loss:.3}")))
}
