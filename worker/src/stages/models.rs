//! The CLIP models that stages work with. A worker keeps the last one for its next task: most nodes of a pipeline share their
//! weights, and to build a model takes longer than many a node.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use maple_pipe::backbone::BackboneOptions;
use maple_pipe::error::Result;
use maple_pipe::method::Precision;
use maple_pipe::stages::pretrain;
use maple_pipe::store::Stat;
use maple_pipe::task::{Task, TaskInput};
use maple_pipe::weights::{Checkpoint, known};
use tch::Device;

use crate::clip::{Clip, Weights};

/// What a model is made of. Nothing else decides a value in it.
#[derive(Clone, Debug, PartialEq)]
struct Origin {
    file: FileVersion,
    of_pretrain: bool,
    given: BackboneOptions,
    device: Device,
    precision: Precision,
    /// The weights by which a training has averaged the model's own tensors; none where it left them as they are.
    average: Vec<f64>,
}

/// A file as it is now.
#[derive(Clone, Debug, PartialEq)]
struct FileVersion {
    path: PathBuf,
    stat: Stat,
}

thread_local! {
    /// The model of the last task. Its tensors stay as they are, whatever a task does.
    static KEPT: RefCell<Option<(Origin, Rc<Clip>)>> = const { RefCell::new(None) };
}

/// Forgets the model that is kept if a task works with other weights, before the task is measured.
pub(super) fn keep_for(task: &Task) {
    let files: Vec<FileVersion> = task.all(WEIGHTS).iter().filter_map(|input| FileVersion::of(input).ok()).collect();
    KEPT.with_borrow_mut(|kept| drop(kept.take_if(|(origin, _)| !files.contains(&origin.file))));
}

/// The input with the weights.
const WEIGHTS: &str = "weights.weights";

/// The CLIP model that a task works with, of which its stage says `given`.
pub(super) fn clip(task: &Task, given: &BackboneOptions, device: Device, precision: Precision) -> Result<Rc<Clip>> {
    averaged_clip(task, given, device, precision, Vec::new())
}

/// The same as a training has left it that averaged its tensors with these weights; as it is where there are none.
pub(super) fn averaged_clip(
    task: &Task,
    given: &BackboneOptions,
    device: Device,
    precision: Precision,
    average: Vec<f64>,
) -> Result<Rc<Clip>> {
    let input = task.one(WEIGHTS);
    let of_pretrain = input.kind.as_deref() == Some(pretrain::KIND.name);
    let origin = Origin { file: FileVersion::of(input)?, of_pretrain, given: *given, device, precision, average };
    let kept = KEPT.take().filter(|(of, _)| *of == origin);
    let (origin, clip) = match kept {
        Some(kept) => kept,
        None => {
            let Origin { file, of_pretrain, given, device, precision, average } = &origin;
            let clip = Rc::new(load(&file.path, given, *of_pretrain, *device, *precision, average)?);
            (origin, clip)
        }
    };
    // Another file may have the same times as one that is written while they last.
    if origin.file.stat.is_settled_at(SystemTime::now()) {
        KEPT.set(Some((origin, clip.clone())));
    }
    Ok(clip)
}

/// The model of a file of weights, as a training has left it that averaged its tensors with such weights.
pub(crate) fn load(
    path: &Path,
    given: &BackboneOptions,
    of_pretrain: bool,
    device: Device,
    precision: Precision,
    average: &[f64],
) -> Result<Clip> {
    let checkpoint = Checkpoint::map_clip(path)?;
    let known = known(path, &checkpoint.shapes(), given, of_pretrain)?;
    let backbone = known.backbone(&checkpoint.origin())?;
    let clip = Clip::from_weights(&Weights::from_checkpoint(&checkpoint)?, &backbone, device, precision)?;
    Ok(if average.is_empty() { clip } else { clip.averaged(average) })
}

impl FileVersion {
    fn of(input: &TaskInput) -> Result<FileVersion> {
        Ok(FileVersion { path: input.path.clone(), stat: Stat::of(&input.path)? })
    }
}
