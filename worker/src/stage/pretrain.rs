//! Runs a `pretrain` stage.

use std::cell::RefCell;

use maple_pipe::error::Result;
use maple_pipe::run::Progress;
use maple_pipe::stage::{Pretrain, Task};
use tch::Device;

use crate::method::pretrain;

pub(super) fn run(task: &Task, stage: &Pretrain, progress: &dyn Fn(Progress)) -> Result<String> {
    let loss = RefCell::new(None);
    let weights = pretrain::run(&stage.0, &task.one("captioned.files").path, &task.partial, Device::Cpu, &|one| {
        loss.replace(Some(one.loss));
        progress(one);
    })?;
    weights.write(&task.output("weights"))?;
    Ok(loss.take().map_or_else(String::new, |loss| format!("loss {loss:.3}")))
}
