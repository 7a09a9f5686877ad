//! Passes through the towers, cut into parts that threads share.
//!
//! A pass is a function of a few tensors, the prompts of a tower, on some work: images, or classes. The work is cut into
//! parts. Each part has leaves of its own with the values of those tensors, so the graph of each part is its own: a thread
//! computes it, and later goes back through it. The loss is computed from the values of all parts in one place. Its gradients
//! for these values go back through the parts, and the sums of what the parts make of them go back to what is learned (as
//! in Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup").
//!
//! Sizes alone decide what a part is, and the parts are summed in their order. So the number of threads changes nothing, as
//! long as libtorch uses one thread for each operation. A pass of one part is computed as if nothing could be cut.

use rayon::prelude::*;
use tch::{Device, Kind, TchError, Tensor, no_grad, with_grad};

use crate::clip::{Additions, Clip, VisionPrompts};
use crate::context::records_gradients;
use crate::cuda;

/// The least work of a part of images, and of a part of classes: multiplications and additions. Smaller parts make smaller
/// products, which take longer: measured with ViT-B/16, a step of four images in parts of two takes 2 % more of a core's time
/// than as a whole, and in parts of one 9 %.
const LEAST_WORK: [i64; 2] = [40_000_000_000, 8_000_000_000];
/// The most parts of the classes. What their prompts begin with is computed once a part.
const MOST_CLASS_PARTS: i64 = 16;
/// Images a part where nothing is learned in the tower, whatever work they are: larger products are faster.
const FROZEN_IMAGES: i64 = 4;

/// How work is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parts {
    /// Images a part.
    pub images: i64,
    /// Rows of the text tower a part, about.
    pub rows: i64,
}

impl Parts {
    /// All in one.
    pub const WHOLE: Parts = Parts { images: i64::MAX, rows: i64::MAX };

    /// What suits a model: on a card nothing is cut.
    pub fn of(clip: &Clip) -> Parts {
        if clip.device() != Device::Cpu {
            return Parts::WHOLE;
        }
        let (image, row) = clip.work();
        Parts { images: 1 + LEAST_WORK[0] / image, rows: 1 + LEAST_WORK[1] / row }
    }

    /// Into how many parts of about the same size classes are cut whose prompts have so many rows together.
    pub(super) fn of_classes(self, rows: i64) -> i64 {
        ((rows + self.rows / 2) / self.rows).clamp(1, MOST_CLASS_PARTS)
    }
}

/// What a part makes of the pass's inputs, or of leaves with their values.
pub(super) type Part<'a> = Box<dyn FnOnce(&[Tensor]) -> Tensor + Send + 'a>;

/// A pass that is to be run. The outputs of its parts lie one behind the other along an axis.
pub(super) struct Pass<'a> {
    device: Device,
    inputs: Vec<Tensor>,
    axis: i64,
    parts: Vec<Part<'a>>,
}

/// A model that several threads read.
pub(super) struct Shared<'a, T>(pub(super) &'a T);

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: what tensors hold may be read by any number of threads, and while passes run nobody writes to the tensors of a model
// or to those of a learner: steps are made between passes.
#[expect(unsafe_code, reason = "tch says of no tensor that threads may share it")]
unsafe impl<T> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// What is shared.
    pub(super) fn get(self) -> &'a T {
        self.0
    }
}

impl<'a> Pass<'a> {
    /// A pass of these parts on a device.
    pub(super) fn new(device: Device, inputs: Vec<Tensor>, axis: i64, parts: Vec<Part<'a>>) -> Pass<'a> {
        Pass { device, inputs, axis, parts }
    }

    /// Images `(B, 3, R, R)` through the vision tower, to features `(B, embedding)`.
    pub(super) fn images(
        clip: &'a Clip,
        images: &Tensor,
        prompts: VisionPrompts,
        additions: Additions,
        parts: Parts,
    ) -> Pass<'a> {
        let is_learned = records_gradients() && (prompts.shallow.is_some() || !additions.is_empty());
        let a_part = if is_learned { parts.images } else { parts.images.max(FROZEN_IMAGES) };
        Pass::images_by(a_part, clip, images, prompts, additions)
    }

    /// The same through the tower of plain CLIP, in the parts of a tower in which something is learned: to be run beside that.
    pub(super) fn frozen_images(clip: &'a Clip, images: &Tensor, parts: Parts) -> Pass<'a> {
        Pass::images_by(parts.images, clip, images, VisionPrompts::default(), Additions::default())
    }

    /// So many images a part.
    fn images_by(
        a_part: i64,
        clip: &'a Clip,
        images: &Tensor,
        prompts: VisionPrompts,
        additions: Additions,
    ) -> Pass<'a> {
        let (has_shallow, count) = (prompts.shallow.is_some(), prompts.deep.len());
        let (shared, added) = (Shared(clip), additions.tensors());
        let mut first = 0;
        let part = |images: Tensor| -> Part<'a> {
            let (here, additions) = (first, additions.with(&added));
            first += images.size()[0];
            Box::new(move |inputs| {
                let mut inputs = inputs.iter().map(Tensor::shallow_clone);
                let shallow = if has_shallow { inputs.next() } else { None };
                let prompts = VisionPrompts { shallow, deep: inputs.by_ref().take(count).collect() };
                let additions = additions.with(&inputs.collect::<Vec<_>>());
                shared.get().image_features_with(&images, &prompts, &additions, here)
            })
        };
        let parts = images.split(a_part.min(images.size()[0]).max(1), 0).into_iter().map(part).collect();
        let inputs = prompts.shallow.into_iter().chain(prompts.deep).chain(added).collect();
        Pass::new(clip.device(), inputs, 0, parts)
    }
}

/// Images `(B, 3, R, R)` through the vision tower of plain CLIP to features `(B, embedding)` of any length, without gradients.
pub fn image_features(clip: &Clip, images: &Tensor) -> Tensor {
    let pass = || Pass::images(clip, images, VisionPrompts::default(), Additions::default(), Parts::of(clip));
    no_grad(|| run(vec![pass()])).remove(0).output
}

/// A pass that was run.
pub(super) struct Passed {
    inputs: Vec<Tensor>,
    axis: i64,
    /// The leaves and the output of each part, where there are several.
    parts: Vec<(Vec<Tensor>, Tensor)>,
    /// Of all parts.
    pub(super) output: Tensor,
}

/// Runs passes together: on all threads, or beside each other on a card.
pub(super) fn run(passes: Vec<Pass<'_>>) -> Vec<Passed> {
    let is_recording = records_gradients();
    let is_cut = passes.iter().any(|pass| pass.parts.len() > 1);
    let leaf = |input: &Tensor| input.detach().set_requires_grad(is_recording && input.requires_grad());
    let (mut work, mut begun) = (Vec::new(), Vec::new());
    let device = passes.first().map_or(Device::Cpu, |pass| pass.device);
    for Pass { inputs, axis, parts, .. } in passes {
        let count = parts.len();
        // An alias is made here, where the gradients of all passes meet again.
        let own = || inputs.iter().map(|input| if count == 1 { input.alias() } else { leaf(input) }).collect();
        work.extend(parts.into_iter().map(|part| (part, own())));
        begun.push((inputs, axis, count));
    }
    let compute = |(part, inputs): (Part<'_>, Vec<Tensor>)| {
        // Another thread does not know what this one records.
        let output = if is_recording { with_grad(|| part(&inputs)) } else { no_grad(|| part(&inputs)) };
        (inputs, output)
    };
    let mut done = match device {
        Device::Cuda(card) if !is_cut && work.len() > 1 && cuda::is_loaded() => {
            cuda::beside(card, work, compute).unwrap_or_else(|error| panic!("{error}")).into_iter()
        }
        _ => share(work, is_cut && device == Device::Cpu, compute).into_iter(),
    };
    let passed = begun.into_iter().map(|(inputs, axis, count)| {
        let mut parts: Vec<(Vec<Tensor>, Tensor)> = done.by_ref().take(count).collect();
        if count == 1 {
            let (_, output) = parts.remove(0);
            return Passed { inputs, axis, parts, output };
        }
        let outputs: Vec<Tensor> = parts.iter().map(|(_, output)| output.detach()).collect();
        let has_gradient = parts.iter().any(|(_, output)| output.requires_grad());
        let output = Tensor::cat(&outputs, axis).set_requires_grad(has_gradient);
        Passed { inputs, axis, parts, output }
    });
    passed.collect()
}

/// The gradients of a scalar for tensors, `None` for one that has no part in it. The scalar was made of what these passes put
/// out; passes that were run together stand together, in the order in which they were run. With `keep` another scalar may follow.
///
/// # Errors
/// libtorch's.
pub(super) fn gradients(
    scalar: &Tensor,
    passes: &[Vec<Passed>],
    tensors: &[Tensor],
    keep: bool,
) -> Result<Vec<Option<Tensor>>, TchError> {
    let cut = |passed: &&Passed| passed.output.requires_grad() && !passed.parts.is_empty();
    let mut waves: Vec<Vec<&Passed>> = passes.iter().map(|wave| wave.iter().filter(cut).collect()).collect();
    waves.retain(|wave| !wave.is_empty());
    let mut sums = Gradients(Vec::new());
    let mut roots = vec![scalar.shallow_clone()];
    loop {
        let earlier = waves.iter().flatten().map(|passed| &passed.output);
        let of: Vec<&Tensor> = tensors.iter().chain(earlier).collect();
        // What is learned may have come into several passes by the same operations.
        let found = Tensor::f_run_backward(&roots, &of, keep || !waves.is_empty(), false)?;
        sums.add(found);
        let Some(wave) = waves.pop() else { break };
        let at = tensors.len() + waves.iter().map(Vec::len).sum::<usize>();
        let of_outputs = sums.0.split_off(at);
        roots = back(&wave, &of_outputs, keep)?;
        if roots.is_empty() {
            break;
        }
    }
    sums.0.truncate(tensors.len());
    Ok(sums.0)
}

/// Sums of gradients.
struct Gradients(Vec<Option<Tensor>>);

impl Gradients {
    fn add(&mut self, found: Vec<Tensor>) {
        self.0.resize_with(found.len().max(self.0.len()), || None);
        for (sum, found) in self.0.iter_mut().zip(found).filter(|(_, found)| found.defined()) {
            *sum = Some(match sum.take() {
                Some(sum) => sum + found,
                None => found,
            });
        }
    }
}

/// Goes back through the parts of passes that were run together, given the gradients of their outputs. Returns scalars whose
/// gradients are those that the passes' inputs have by them.
fn back(wave: &[&Passed], of_outputs: &[Option<Tensor>], keep: bool) -> Result<Vec<Tensor>, TchError> {
    let mut work = Vec::new();
    for (passed, gradient) in wave.iter().zip(of_outputs) {
        let Some(gradient) = gradient else { continue };
        let sizes: Vec<i64> = passed.parts.iter().map(|(_, output)| output.size()[passed.axis as usize]).collect();
        let shares = gradient.split_with_sizes(&sizes, passed.axis);
        work.push((*passed, shares));
    }
    let parts = work.iter().flat_map(|(passed, shares)| {
        let parts = passed.parts.iter().zip(shares);
        parts.map(|((leaves, output), share)| (clones(leaves), output.shallow_clone(), share.shallow_clone()))
    });
    let one = |(leaves, output, gradient): (Vec<Tensor>, Tensor, Tensor)| {
        let leaves: Vec<Tensor> = leaves.into_iter().filter(Tensor::requires_grad).collect();
        if !output.requires_grad() {
            return Ok(Vec::new());
        }
        with_grad(|| Tensor::f_run_backward(&[product(&output, &gradient)], &leaves, keep, false))
    };
    let parts: Vec<_> = parts.collect();
    let on_processor = wave.iter().all(|passed| passed.output.device() == Device::Cpu);
    let mut found = share(parts, on_processor, one).into_iter();
    let mut roots = Vec::new();
    for (passed, shares) in &work {
        let mut sums = Gradients(Vec::new());
        for part in found.by_ref().take(shares.len()) {
            // Sums of 16 bits are rounded once, at their end.
            sums.add(part?.into_iter().map(|one| if one.defined() { wide(&one) } else { one }).collect());
        }
        let inputs = passed.inputs.iter().filter(|input| input.requires_grad());
        let pairs = inputs.zip(sums.0).filter_map(|(input, sum)| Some((input, sum?)));
        roots.extend(pairs.map(|(input, sum)| product(input, &sum.to_kind(input.kind()))));
    }
    Ok(roots)
}

/// A scalar that has this gradient for a tensor.
fn product(tensor: &Tensor, gradient: &Tensor) -> Tensor {
    (tensor * gradient).sum(Kind::Float)
}

/// 16 bits as 32.
fn wide(tensor: &Tensor) -> Tensor {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => tensor.to_kind(Kind::Float),
        _ => tensor.shallow_clone(),
    }
}

fn clones(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

/// Does each piece of work, on all threads where there is more to share than one. What a card does is given to it by one thread.
fn share<T: Send, R: Send>(work: Vec<T>, is_shared: bool, one: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if is_shared && rayon::current_num_threads() > 1 {
        work.into_par_iter().with_max_len(1).map(one).collect()
    } else {
        work.into_iter().map(one).collect()
    }
}
