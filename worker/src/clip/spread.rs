//! The rows of prompts as a card reads them: each class's rows together, those that all classes share again for each.
//!
//! A card is slow where there are many small operations, and fast where there is much of the same. In 16 bits one kernel of ours
//! does the attention of all classes. Else, with its rows together, that of a class is plain causal attention, one operation for
//! all classes. What else a block computes stays with rows that come once. Rows are taken from one arrangement to the other and
//! back by numbers; that gradients go the other way by numbers, too, is what `rows.cpp` adds to libtorch, whose own way back is
//! a sum over all numbers.

use tch::{Device, Tensor};

use super::transformer::{Block, attention, merge_heads};
use crate::{fused, rows};

/// How rows `(G, S + T, W)`, S of them shared, stand together in classes, `(G, classes * length, W)`, where `length` is that
/// of the longest class.
#[derive(Debug)]
pub(super) struct Spread {
    classes: i64,
    shared: i64,
    /// The row at each place, `(classes * length,)`; behind the end of a class its last one.
    rows: Tensor,
    /// The place of each own row, `(T,)`.
    back: Tensor,
    /// All rows, back from their places.
    all: Pick,
    /// Where each class's own rows begin among all own rows, and the number of these, `(classes + 1,)`.
    starts: Tensor,
    length: i64,
    /// The rows with which classes end.
    pub(super) ends: Pick,
}

/// A choice among rows, each at most once.
#[derive(Debug)]
pub(super) struct Pick {
    /// The chosen ones, `(n,)`.
    numbers: Tensor,
    /// For each row the place at which it was chosen; any, where it was not.
    back: Tensor,
    /// Whether a row was not chosen, `(rows, 1)`.
    left: Tensor,
}

impl Spread {
    /// Of prompts that begin with so many shared rows.
    pub(super) fn new(prompts: &[Vec<i64>], shared: usize, device: Device) -> Spread {
        let length = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let (mut rows, mut back, mut ends, mut starts) = (Vec::new(), Vec::new(), Vec::new(), vec![0]);
        let mut first = shared;
        for (class, prompt) in prompts.iter().enumerate() {
            let (start, last) = (class * length, prompt.len() - 1);
            let row = |place: usize| if place < shared { place } else { first + place - shared };
            rows.extend((0..length).map(|place| row(place.min(last)) as i64));
            back.extend((shared..prompt.len()).map(|place| (start + place) as i64));
            ends.push(row(last) as i64);
            first += prompt.len() - shared;
            starts.push((first - shared) as i64);
        }
        let all: Vec<i64> = (0..shared as i64).chain(back.iter().copied()).collect();
        let index = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Spread {
            classes: prompts.len() as i64,
            shared: shared as i64,
            all: Pick::new(&all, rows.len(), device),
            ends: Pick::new(&ends, first, device),
            rows: index(&rows),
            back: index(&back),
            starts: index(&starts),
            length: length as i64,
        }
    }

    /// The attention of all rows, given their queries, keys and values `(G, S + T, 3 W)`: `(G, S + T, W)`.
    pub(super) fn attended(&self, block: &Block, products: &Tensor) -> Tensor {
        let Spread { starts, shared, length, .. } = self;
        if let Some(attended) = fused::class_attention(products, starts, *shared, *length, block.heads) {
            return attended;
        }
        let (groups, width) = (products.size()[0], products.size()[2]);
        let together = rows::spread(products, &self.rows, &self.back, *shared, self.classes);
        let [query, key, value] = block.split(&together.reshape([groups * self.classes, -1, width]));
        self.all.of(&merge_heads(&attention(&query, &key, &value, true)).reshape([groups, -1, width / 3]))
    }
}

impl Pick {
    /// Of rows with these numbers among so many.
    fn new(numbers: &[i64], of: usize, device: Device) -> Pick {
        let (mut back, mut left) = (vec![0i64; of], vec![true; of]);
        for (place, &number) in (0..).zip(numbers) {
            back[number as usize] = place;
            left[number as usize] = false;
        }
        let index = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Pick {
            numbers: index(numbers),
            back: index(&back),
            left: Tensor::from_slice(&left).unsqueeze(1).to_device(device),
        }
    }

    /// The chosen ones of rows `(G, rows, W)`, `(G, n, W)`.
    pub(super) fn of(&self, x: &Tensor) -> Tensor {
        rows::pick(x, &self.numbers, &self.back, &self.left)
    }
}
