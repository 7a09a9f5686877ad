//! Operations that a card does in one kernel of ours, and libtorch in several: `fused.cu`. In 16 bits and at the sizes of a step
//! a card takes longer to begin a kernel than to compute it. Whatever they cannot do is left to libtorch.

use std::ffi::CString;
use std::sync::LazyLock;

use maple_pipe::error::{Error, Result};
use maple_pipe::terminal;
use tch::{Kind, Tensor};

use crate::cuda;

const SOURCE: &str = include_str!("fused.cu");

/// The longest row that a warp keeps.
const LONGEST_ROW: i64 = 2048;
/// The longest prompt that a block keeps.
const LONGEST_PROMPT: i64 = 40;
/// Numbers of a head of attention.
const HEAD: i64 = 64;

/// Whether the kernels for fp16 and for bf16 are there; they are made when they are first asked for.
static MADE: [LazyLock<bool>; 2] = [LazyLock::new(|| is_made(false)), LazyLock::new(|| is_made(true))];

/// Makes kernels; says why, where they cannot be made and libtorch's operations are used.
fn is_made(is_bfloat16: bool) -> bool {
    let make = || -> Result<()> {
        let source = CString::new(SOURCE).map_err(|error| Error::invalid(error.to_string()))?;
        cuda::load_fused(&source, is_bfloat16)
    };
    make().map_err(|error| terminal::warn(&format!("nodes take longer: {error}"))).is_ok()
}

/// The layer norm over the last axis of `x`, computed in fp32 and rounded to the number format of `x`. Nothing where the kernels
/// are not for such tensors, or where the weight is learned.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Option<Tensor> {
    let normalised = || cuda::fused_layer_norm(x, weight, bias, epsilon).unwrap_or_else(|error| panic!("{error}"));
    normalises(x, weight, bias).then(normalised)
}

/// `x + added`, and the layer norm of that, as [`layer_norm`] has it.
pub fn sum_and_norm(x: &Tensor, added: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Option<[Tensor; 2]> {
    let is_alike = added.kind() == x.kind() && added.size() == x.size();
    let both = || cuda::fused_sum_and_norm(x, added, weight, bias, epsilon).unwrap_or_else(|error| panic!("{error}"));
    (is_alike && normalises(x, weight, bias)).then(both)
}

/// Whether the kernels normalise such a tensor.
fn normalises(x: &Tensor, weight: &Tensor, bias: &Tensor) -> bool {
    let is_frozen = weight.kind() == Kind::Float && !weight.requires_grad() && !bias.requires_grad();
    is_frozen && suits(x) && x.size().last().is_some_and(|width| *width <= LONGEST_ROW)
}

/// silu(factor x) / factor of every element, rounded behind each of its three operations. Nothing where the kernels are not for
/// such tensors.
pub fn quick_gelu(x: &Tensor, factor: f64) -> Option<Tensor> {
    suits(x).then(|| cuda::fused_quick_gelu(x, factor).unwrap_or_else(|error| panic!("{error}")))
}

/// Causal attention of the prompts of classes, of at most `longest` rows, which begin with `shared` rows that come once; given the
/// queries, keys and values of all rows, `(G, rows, 3 W)`, and where each class's own rows begin among all own rows, and their
/// number, `(classes + 1,)`. Returns `(G, rows, W)`; nothing where the kernels are not for such tensors.
pub fn class_attention(products: &Tensor, starts: &Tensor, shared: i64, longest: i64, heads: i64) -> Option<Tensor> {
    let fits = longest <= LONGEST_PROMPT && *products.size().last()? == 3 * HEAD * heads;
    let attended = || cuda::fused_class_attention(products, starts, shared, longest);
    (fits && suits(products)).then(|| attended().unwrap_or_else(|error| panic!("{error}")))
}

/// Whether there are kernels that read such a tensor.
fn suits(x: &Tensor) -> bool {
    let made = match x.kind() {
        Kind::Half => &MADE[0],
        Kind::BFloat16 => &MADE[1],
        _ => return false,
    };
    x.device().is_cuda() && x.numel() > 0 && x.size().last().is_some_and(|size| size % 8 == 0) && **made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;

    /// Ours and libtorch's, and the gradients of both, are no further apart than a rounding.
    #[test]
    #[ignore = "needs a graphics card: MAPLE_PIPE_TEST_DEVICE=cuda:0"]
    fn one_kernel_computes_what_several_do() {
        let device = of_tests();
        for (kind, rounding) in [(Kind::Half, 1e-3), (Kind::BFloat16, 8e-3)] {
            for shape in [[1, 1, 8], [2, 3, 64], [1, 7, 512], [4, 199, 768], [3, 50, 1024], [1, 5, 2048]] {
                let values = |factor: f64| {
                    let count = shape.iter().product::<i64>();
                    let values = (Tensor::arange(count, (Kind::Double, device)) * factor).sin() * 3.0 + 0.5;
                    values.reshape(shape).to_kind(kind)
                };
                let [weight, bias] =
                    [0.9, 0.4].map(|shift| (Tensor::arange(shape[2], (Kind::Float, device)) * 0.7).sin() * 0.2 + shift);
                let (given, along) = (values(1.3), values(0.6));
                let both = |one: &dyn Fn(&Tensor) -> Tensor| {
                    let x = given.copy().set_requires_grad(true);
                    let y = one(&x);
                    let gradient =
                        Tensor::run_backward(&[(&y * &along).sum(Kind::Float)], &[&x], false, false).remove(0);
                    [y.detach(), gradient]
                };
                let plain_norm = |x: &Tensor| {
                    let wide = x.to_kind(Kind::Float);
                    wide.layer_norm([shape[2]], Some(&weight), Some(&bias), 1e-5, true).to_kind(kind)
                };
                let both_of_sum = |one: &dyn Fn(&Tensor, &Tensor) -> [Tensor; 2]| {
                    let leaves = [given.copy(), along.copy()].map(|leaf| leaf.set_requires_grad(true));
                    let [sum, y] = one(&leaves[0], &leaves[1]);
                    let scalar = (&y * &along + &sum * &given).sum(Kind::Float);
                    let gradients = Tensor::run_backward(&[scalar], &leaves, false, false);
                    [&[sum.detach(), y.detach()][..], &gradients[..]]
                        .iter()
                        .flat_map(|all| all.iter().map(Tensor::shallow_clone))
                        .collect::<Vec<_>>()
                };
                let ours = both_of_sum(&|x, added| sum_and_norm(x, added, &weight, &bias, 1e-5).unwrap());
                let theirs = both_of_sum(&|x, added| {
                    let sum = x + added;
                    let norm = plain_norm(&sum);
                    [sum, norm]
                });
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_kind(Kind::Double));
                    let apart = ((&ours - &theirs).abs() / (theirs.abs() + 1.0)).max().double_value(&[]);
                    assert!(apart < 2.0 * rounding, "{kind:?} {shape:?} of sums: {apart}");
                }
                let pairs = [
                    (both(&|x| layer_norm(x, &weight, &bias, 1e-5).unwrap()), both(&plain_norm)),
                    (both(&|x| quick_gelu(x, 1.702).unwrap()), both(&|x| (x * 1.702).silu() * (1.0 / 1.702))),
                ];
                for (operation, (ours, theirs)) in pairs.iter().enumerate() {
                    for (ours, theirs) in ours.iter().zip(theirs) {
                        let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_kind(Kind::Double));
                        let apart = ((&ours - &theirs).abs() / (theirs.abs() + 0.1)).max().double_value(&[]);
                        assert!(apart < 2.0 * rounding, "{kind:?} {shape:?} {operation}: {apart}");
                    }
                }
            }
        }
    }
    /// Attention of prompts as one kernel has it is that of libtorch with every prompt alone, and so are its gradients.
    #[test]
    #[ignore = "needs a graphics card: MAPLE_PIPE_TEST_DEVICE=cuda:0"]
    fn the_attention_of_all_classes_is_that_of_each() {
        let (device, heads) = (of_tests(), 2);
        let width = HEAD * heads;
        for (kind, rounding) in [(Kind::Half, 1e-3), (Kind::BFloat16, 8e-3)] {
            for (groups, shared, own) in [(1, 5, vec![3, 8, 1, 5]), (2, 1, vec![2, 4]), (1, 5, vec![30, 35, 1])] {
                let own: Vec<i64> = own;
                let starts: Vec<i64> = (0..=own.len()).map(|class| own[..class].iter().sum()).collect();
                let (rows, longest) = (shared + starts[own.len()], shared + own.iter().max().unwrap());
                let values = |columns: i64, factor: f64| {
                    let count = groups * rows * columns;
                    let values = (Tensor::arange(count, (Kind::Double, device)) * factor).sin() * 2.0;
                    values.reshape([groups, rows, columns]).to_kind(kind)
                };
                let (given, along) = (values(3 * width, 1.3), values(width, 0.6));
                let places = Tensor::from_slice(&starts).to_device(device);
                let alone = |x: &Tensor| {
                    let x = x.to_kind(Kind::Float);
                    let of_class = |class: usize| {
                        let own_rows = x.narrow(1, shared + starts[class], own[class]);
                        let prompt = Tensor::cat(&[x.narrow(1, 0, shared), own_rows], 1);
                        let parts = prompt.chunk(3, -1);
                        let [query, key, value] =
                            [0, 1, 2].map(|part| parts[part].reshape([groups, -1, heads, HEAD]).transpose(1, 2));
                        let none = None::<&Tensor>;
                        Tensor::scaled_dot_product_attention(&query, &key, &value, none, 0.0, true, None, false)
                            .transpose(1, 2)
                            .flatten(2, 3)
                    };
                    let classes: Vec<Tensor> = (0..own.len()).map(of_class).collect();
                    let own = classes.iter().map(|class| class.narrow(1, shared, class.size()[1] - shared));
                    let all: Vec<Tensor> = std::iter::once(classes[0].narrow(1, 0, shared)).chain(own).collect();
                    Tensor::cat(&all, 1)
                };
                let both = |one: &dyn Fn(&Tensor) -> Tensor| {
                    let x = given.copy().set_requires_grad(true);
                    let y = one(&x);
                    let gradient =
                        Tensor::run_backward(&[(&y * &along).sum(Kind::Float)], &[&x], false, false).remove(0);
                    [y.detach(), gradient].map(|tensor| tensor.to_kind(Kind::Double))
                };
                let ours = both(&|x| class_attention(x, &places, shared, longest, heads).unwrap());
                for (ours, theirs) in ours.iter().zip(&both(&alone)) {
                    let apart = (ours - theirs).norm().double_value(&[]) / theirs.norm().double_value(&[]);
                    assert!(apart < 2.0 * rounding, "{kind:?} {groups} {shared}: {apart}");
                }
            }
        }
    }
}
