//! What a learner adds to the blocks of a tower: low-rank updates of the products of attention, and adapters beside blocks.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

pub use maple_pipe::method::learners::Product;

/// What a learner adds to the blocks of a tower, by their numbers from 0; nothing by default.
#[derive(Debug, Default)]
pub struct Additions(pub BTreeMap<usize, Addition>);

/// What a learner adds to one block.
#[derive(Debug, Default)]
pub struct Addition {
    /// Each on top of a product of attention.
    pub updates: Vec<(Product, LowRank)>,
    /// Beside the block.
    pub adapter: Option<Adapter>,
}

/// An update of a product: `scale * (x @ down^T) @ up^T` on top of `x @ weight^T`.
#[derive(Debug)]
pub struct LowRank {
    /// `(rank, width)`.
    pub down: Tensor,
    /// `(width, rank)`.
    pub up: Tensor,
    /// What it is multiplied by.
    pub scale: f64,
    /// What a step of a training leaves out of `x`.
    pub dropout: Option<Dropout>,
}

/// Layers with rectifiers between them, which read what the block's attention reads. What comes out is added to what the
/// block puts out.
#[derive(Debug)]
pub struct Adapter {
    /// The weight `(outputs, inputs)` and the bias `(outputs,)` of each layer.
    pub layers: Vec<[Tensor; 2]>,
    /// What the output is multiplied by. The gradients of the layers are those of an output that is not.
    pub scale: f64,
}

/// Numbers that are left out at random; all others are larger by as much. Which ones follows from the seed, the step, the row
/// and the place in the row, so neither parts nor threads change it, and a resumed training or a recorded step has the same.
#[derive(Debug)]
pub struct Dropout {
    /// The share that is left out.
    pub rate: f64,
    /// Of 32 bits, from the seed and the name of what is left out.
    pub seed: i64,
    /// How many steps have been taken, without axes, where the model is.
    pub steps: Tensor,
}

/// What is added to a block, for certain rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added<'a> {
    addition: Option<&'a Addition>,
    /// The numbers of the rows, by which dropout draws: `(N, L)` or `(1, L)`, of 32 bits.
    rows: Option<&'a Tensor>,
}

impl Additions {
    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The learned tensors, in an order of their own.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = Vec::new();
        self.each(|tensor| {
            tensors.push(tensor.shallow_clone());
            tensor.shallow_clone()
        });
        tensors
    }

    /// The same with other tensors in the place of these, in the order of [`Additions::tensors`].
    pub fn with(&self, tensors: &[Tensor]) -> Additions {
        let mut tensors = tensors.iter().map(Tensor::shallow_clone);
        self.each(|_| tensors.next().expect("as many tensors as there were"))
    }

    /// The same as an evaluation has it: nothing is left out.
    pub fn without_dropout(self) -> Additions {
        let whole = |addition: Addition| {
            let updates = addition.updates.into_iter();
            Addition {
                updates: updates.map(|(product, update)| (product, LowRank { dropout: None, ..update })).collect(),
                ..addition
            }
        };
        Additions(self.0.into_iter().map(|(block, addition)| (block, whole(addition))).collect())
    }

    /// The same with what becomes of each tensor.
    fn each(&self, mut one: impl FnMut(&Tensor) -> Tensor) -> Additions {
        let mut of_block = |addition: &Addition| Addition {
            updates: addition.updates.iter().map(|(product, update)| (*product, update.each(&mut one))).collect(),
            adapter: addition.adapter.as_ref().map(|adapter| Adapter {
                layers: adapter.layers.iter().map(|layer| layer.each_ref().map(&mut one)).collect(),
                scale: adapter.scale,
            }),
        };
        Additions(self.0.iter().map(|(block, addition)| (*block, of_block(addition))).collect())
    }

    /// What is added to a block whose rows have these numbers.
    pub(super) fn to<'a>(&'a self, block: usize, rows: Option<&'a Tensor>) -> Added<'a> {
        Added { addition: self.0.get(&block), rows }
    }

    /// Whether the numbers of rows are needed.
    pub(super) fn draw(&self) -> bool {
        self.0.values().flat_map(|addition| &addition.updates).any(|(_, update)| update.dropout.is_some())
    }
}

impl<'a> Added<'a> {
    /// The same for other rows of the block.
    pub(super) fn at(self, rows: Option<&'a Tensor>) -> Added<'a> {
        Added { rows, ..self }
    }

    /// The numbers of the rows.
    pub(super) fn rows(self) -> Option<&'a Tensor> {
        self.rows
    }

    /// `products`, which stand side by side in `rows` `(N, L, products W)`, with their updates, which read `x` `(N, L, W)`.
    pub(super) fn to_products(self, rows: Tensor, x: &Tensor, products: &[Product]) -> Tensor {
        let update = |product: &Product| {
            let mut updates = self.addition.into_iter().flat_map(|addition| &addition.updates);
            updates.find(|(known, _)| known == product).map(|(_, update)| update)
        };
        if products.iter().all(|product| update(product).is_none()) {
            return rows;
        }
        let parts = products.iter().zip(rows.chunk(products.len() as i64, -1)).map(|(product, rows)| {
            update(product).map_or(rows.shallow_clone(), |update| &rows + update.forward(x, rows.kind(), self.rows))
        });
        Tensor::cat(&parts.collect::<Vec<_>>(), -1)
    }

    /// The block's adapter, if it has one.
    pub(super) fn adapter(self) -> Option<&'a Adapter> {
        self.addition?.adapter.as_ref()
    }
}

impl LowRank {
    /// `x` `(N, L, W)` to `(N, L, W)` in a number format.
    fn forward(&self, x: &Tensor, kind: Kind, rows: Option<&Tensor>) -> Tensor {
        let [down, up] = [&self.down, &self.up].map(|tensor| tensor.to_kind(kind));
        let x = x.to_kind(kind);
        let x = match &self.dropout {
            Some(dropout) => dropout.forward(&x, rows.expect("dropout draws by the numbers of rows")),
            None => x,
        };
        x.linear(&down, None::<&Tensor>).linear(&up, None::<&Tensor>) * self.scale
    }

    fn each(&self, one: &mut impl FnMut(&Tensor) -> Tensor) -> LowRank {
        let dropout = self.dropout.as_ref().map(|Dropout { rate, seed, steps }| Dropout {
            rate: *rate,
            seed: *seed,
            steps: steps.shallow_clone(),
        });
        LowRank { down: one(&self.down), up: one(&self.up), scale: self.scale, dropout }
    }
}

impl Adapter {
    /// What is added to what the block puts out, `(N, L, W)`, where `normalised` makes of the block's input `x` `(N, L, W)`
    /// what its attention reads.
    pub(super) fn forward(&self, x: &Tensor, kind: Kind, normalised: impl Fn(&Tensor) -> Tensor) -> Tensor {
        // The published code divides gradients by the scale where they come in, and multiplies them by it where they leave.
        let mut rows = normalised(&with_gradient(x, x, self.scale)).to_kind(kind);
        let last = self.layers.len() - 1;
        for (number, [weight, bias]) in self.layers.iter().enumerate() {
            rows = rows.linear(&weight.to_kind(kind), Some(bias.to_kind(kind)));
            if number < last {
                rows = rows.relu();
            }
        }
        with_gradient(&(&rows * self.scale), &rows, 1.0)
    }
}

/// The value of one tensor, and so many times the gradient of another.
fn with_gradient(value: &Tensor, other: &Tensor, times: f64) -> Tensor {
    value.detach() + (other - other.detach()) * times
}

/// The numbers of 32 bits.
const MASK: i64 = 0xffff_ffff;

impl Dropout {
    /// `x` `(N, L, W)` without what is left out; `rows` are the numbers of its rows.
    fn forward(&self, x: &Tensor, rows: &Tensor) -> Tensor {
        let places = Tensor::arange(*x.size().last().expect("rows have a width"), (Kind::Int64, x.device()));
        let step = mixed(&mixed(&self.steps).bitwise_xor(self.seed));
        let rows = mixed(&rows.bitwise_xor_tensor(&step)).unsqueeze(-1);
        let drawn = mixed(&rows.bitwise_xor_tensor(&mixed(&places)));
        let kept = drawn.ge((self.rate * (MASK + 1) as f64) as i64);
        x * kept.to_kind(x.kind()) * (1.0 - self.rate).recip()
    }
}

/// Numbers of 32 bits as others that depend on all their bits, each number as another: a hash of the form of Wellons's
/// `lowbias32` with constants below 2^31, so that no product overflows.
fn mixed(numbers: &Tensor) -> Tensor {
    let folded = |numbers: &Tensor, by: i64| numbers.bitwise_xor_tensor(&numbers.bitwise_right_shift_tensor_scalar(by));
    let numbers = (folded(numbers, 16) * 0x21f0_aaad_i64).bitwise_and(MASK);
    let numbers = (folded(&numbers, 15) * 0x735a_2d97_i64).bitwise_and(MASK);
    folded(&numbers, 15)
}

/// The numbers of the rows of images `(B, 3, R, R)` as the vision tower has them, `(B, positions)`, where the first of these
/// images is so many behind the first of its batch.
pub(super) fn rows_of_images(images: &Tensor, first: i64, positions: i64) -> Tensor {
    let options = (Kind::Int64, images.device());
    let images = Tensor::arange_start(first, first + images.size()[0], options).unsqueeze(1);
    mixed(&images.bitwise_and(MASK)).bitwise_xor_tensor(&Tensor::arange(positions, options))
}

/// The numbers of the rows of a text: each follows from its word and from all before it, so texts that begin alike have the same
/// numbers there, wherever their rows are computed.
pub(super) fn rows_of_text(words: &[i64]) -> Vec<i64> {
    let mut number = 0u32;
    words
        .iter()
        .map(|word| {
            number = (number ^ *word as u32).wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_add(1);
            i64::from(number)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;

    fn dropout(seed: i64, steps: i64) -> Dropout {
        Dropout { rate: 0.25, seed, steps: Tensor::from(steps).to_device(of_tests()) }
    }

    /// As many are left out as the rate says, whatever the row and the step; no two rows, steps and seeds leave out the same, nor
    /// does what one leaves out tell what another does.
    #[test]
    fn dropout_leaves_out_a_share_at_random() {
        let images = Tensor::zeros([50, 3, 1, 1], (Kind::Float, of_tests()));
        let rows = rows_of_images(&images, 0, 20);
        let ones = Tensor::ones([50, 20, 64], (Kind::Float, of_tests()));
        let draw = |seed, steps| dropout(seed, steps).forward(&ones, &rows);
        let drawn = [draw(1, 0), draw(1, 1), draw(2, 0), draw(1 << 31, 77)];
        for (number, one) in drawn.iter().enumerate() {
            let dropped = one.eq(0.0).to_kind(Kind::Double);
            let share = |dims: &[i64]| dropped.mean_dim(dims, false, Kind::Double);
            let whole = dropped.mean(Kind::Double).double_value(&[]);
            assert!((whole - 0.25).abs() < 0.01, "{whole}");
            // Of 1,000 and 3,200 numbers: five deviations.
            assert!((share(&[0, 1]) - 0.25).abs().max().double_value(&[]) < 0.07);
            assert!((share(&[1, 2]) - 0.25).abs().max().double_value(&[]) < 0.065);
            assert!((one.max().double_value(&[]) - 4.0 / 3.0).abs() < 1e-6);
            for other in &drawn[..number] {
                let both = (&dropped * other.eq(0.0).to_kind(Kind::Double)).mean(Kind::Double).double_value(&[]);
                assert!((both - 0.0625).abs() < 0.005, "{both}");
            }
            let next = &dropped * dropped.roll([1], [1]);
            assert!((next.mean(Kind::Double).double_value(&[]) - 0.0625).abs() < 0.005);
            let next = &dropped * dropped.roll([1], [2]);
            assert!((next.mean(Kind::Double).double_value(&[]) - 0.0625).abs() < 0.005);
        }
        // Some images of a batch alone.
        let some = rows_of_images(&images.narrow(0, 0, 7), 30, 20);
        assert_eq!(some, rows.narrow(0, 30, 7));
        let part = dropout(1, 0).forward(&ones.narrow(0, 30, 7), &some);
        assert_eq!(part, drawn[0].narrow(0, 30, 7));
    }

    #[test]
    fn texts_that_begin_alike_have_the_same_numbers_there() {
        let [one, other] = [[5, 3, 8, 1], [5, 3, 7, 1]].map(|words| rows_of_text(&words));
        assert_eq!(one[..2], other[..2]);
        assert!(one[2..].iter().zip(&other[2..]).all(|(one, other)| one != other));
    }
}
