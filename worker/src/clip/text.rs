//! The text transformer, twice: position by position as published ([`TextTower::plain`], the reference), and with what
//! all classes share computed once ([`TextTower::features`], which runs). On a processor, attention to what is shared is computed
//! once, too; on a card, for each class again ([`Spread`]), in operations that are few and large.
//!
//! The transformer is causal and its output is read at the end of the text. So nothing behind that position matters,
//! and the activations of the rows that begin every prompt alike (start of text, learned context, shared words) are the
//! same for every class: they are computed once a layer, and each class's own rows attend to them.

use tch::{Device, Kind, Tensor};

use super::addition::{Added, Additions, rows_of_text};
use super::spread::Spread;
use super::transformer::{Block, LayerNorm, PromptKind, attention, merge_heads, project};
use maple_pipe::error::{Error, Result};

/// The text transformer of CLIP.
#[derive(Debug)]
pub(super) struct TextTower {
    pub(super) prompt_kind: PromptKind,
    /// `(vocabulary, width)`.
    pub(super) token_embedding: Tensor,
    /// `(77, width)`.
    pub(super) positional_embedding: Tensor,
    pub(super) blocks: Vec<Block>,
    pub(super) ln_final: LayerNorm,
    /// `(width, embedding)`.
    pub(super) text_projection: Tensor,
}

/// The prompts of some classes as row numbers of a table, arranged so that the rows they all begin with come once.
///
/// The table holds whatever rows the prompts are made of, `(G, rows, width)`: embeddings of words and learned context.
/// `G` is 1, or the number of images where every image has a context of its own.
#[derive(Debug)]
pub struct PromptRows {
    classes: i64,
    /// How many rows begin every prompt, S. They come once, in front of the other rows of one class after another, T in all.
    shared: i64,
    /// The table's row of each row, `(S + T,)`.
    rows: Tensor,
    /// The position of each row in its prompt, `(S + T,)`.
    positions: Tensor,
    /// For each class and each place up to the longest class's number of own rows, `longest`: the own row there (its
    /// last where there is none), `(classes * longest,)`.
    padded: Tensor,
    /// For each own row its place among the padded ones, `(T,)`.
    packed: Tensor,
    /// The own row with which each class ends, `(classes,)`.
    ends: Tensor,
    /// By which dropout draws.
    numbers: RowNumbers,
    /// The rows of each class together, as a card reads them.
    spread: Option<Box<Spread>>,
    /// Added to attention scores: 0 where a place sees another, else minus infinity, `(longest, longest)`.
    causal: Tensor,
    /// The same for each class's end alone, `(classes, 1, longest)`.
    causal_at_end: Tensor,
    /// All rows of every prompt up to the model's number of positions, `(classes, positions)`.
    whole: Tensor,
    /// The position of each class's end, `(classes,)`.
    whole_ends: Tensor,
    /// How the rows part where each class gets tokens of its own.
    parting: Option<Box<Parting>>,
}

/// The same prompts from the block on in which each class has tokens of its own: what stands behind them sees them, so nothing
/// but the start of the text is shared.
#[derive(Debug)]
struct Parting {
    prompts: PromptRows,
    /// The rows of `prompts` among the shared rows, the tokens of one class after another, and the own rows from before.
    rows: Tensor,
}

/// The numbers of all rows, `(1, S + T)`, and of those with which classes end, `(1, classes)`.
#[derive(Debug)]
struct RowNumbers {
    all: Tensor,
    ends: Tensor,
}

impl PromptRows {
    /// Arranges `prompts`, one list of table rows per class, each ending with its end of text. `padding` is the row that
    /// stands behind the end (it has no influence) up to `positions`.
    ///
    /// # Errors
    /// When there is no prompt, or one is empty or longer than `positions`.
    pub fn new(prompts: &[Vec<i64>], padding: i64, positions: i64, device: Device) -> Result<PromptRows> {
        PromptRows::sharing(usize::MAX, prompts, padding, positions, device)
    }

    /// The same for prompts in which each class gets so many tokens of its own in front of some block, from position 1 on.
    ///
    /// # Errors
    /// Those of [`PromptRows::new`].
    pub fn with_class_tokens(
        count: i64,
        prompts: &[Vec<i64>],
        padding: i64,
        positions: i64,
        device: Device,
    ) -> Result<PromptRows> {
        let whole = PromptRows::new(prompts, padding, positions, device)?;
        let parted = PromptRows::sharing(1, prompts, padding, positions, device)?;
        let shared = whole.shared;
        let mut behind_tokens = shared + prompts.len() as i64 * count;
        let mut rows = vec![0];
        for (class, prompt) in (0..).zip(prompts) {
            let length = prompt.len() as i64;
            rows.extend((1..length).map(|position| match position {
                position if position <= count => shared + class * count + position - 1,
                position if position < shared => position,
                position => behind_tokens + position - shared,
            }));
            behind_tokens += length - shared;
        }
        let rows = Tensor::from_slice(&rows).to_device(device);
        Ok(PromptRows { parting: Some(Box::new(Parting { prompts: parted, rows })), ..whole })
    }

    /// Arranges prompts, of whose common beginning no more than `most` rows come once.
    fn sharing(most: usize, prompts: &[Vec<i64>], padding: i64, positions: i64, device: Device) -> Result<PromptRows> {
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        if shortest == 0 || prompts.iter().any(|prompt| prompt.len() as i64 > positions) {
            return Err(Error::invalid(format!("prompts must have 1 to {positions} tokens, and there must be some")));
        }
        let alike = |position: usize| prompts.iter().all(|prompt| prompt[position] == prompts[0][position]);
        let shared = (0..most.min(shortest - 1)).take_while(|&position| alike(position)).count();
        let own: Vec<&[i64]> = prompts.iter().map(|prompt| &prompt[shared..]).collect();
        let longest = own.iter().map(|rows| rows.len()).max().unwrap_or(0);

        let index = |values: Vec<i64>| Tensor::from_slice(&values).to_device(device);
        let starts: Vec<i64> = own
            .iter()
            .scan(0, |next, rows| {
                let start = *next;
                *next += rows.len() as i64;
                Some(start)
            })
            .collect();
        let last = |rows: &[i64]| rows.len() as i64 - 1;
        let padded = own.iter().zip(&starts).flat_map(|(rows, start)| {
            let last = last(rows);
            (0..longest as i64).map(move |place| start + place.min(last))
        });
        let packed = own
            .iter()
            .enumerate()
            .flat_map(|(class, rows)| (0..rows.len()).map(move |place| (class * longest + place) as i64));
        let whole = prompts.iter().flat_map(|prompt| {
            let behind = positions as usize - prompt.len();
            prompt.iter().copied().chain(std::iter::repeat_n(padding, behind))
        });
        let whole_ends = index(prompts.iter().map(|prompt| last(prompt)).collect());
        let places = Tensor::arange(longest as i64, (Kind::Int64, device));
        let end_places = index(own.iter().map(|rows| last(rows)).collect());
        let numbers: Vec<Vec<i64>> = prompts.iter().map(|prompt| rows_of_text(prompt)).collect();
        let row = |values: Vec<i64>| index(values).unsqueeze(0);
        let numbers = RowNumbers {
            all: row(together(&numbers, shared)),
            ends: row(numbers.iter().filter_map(|numbers| numbers.last()).copied().collect()),
        };
        Ok(PromptRows {
            numbers,
            classes: prompts.len() as i64,
            shared: shared as i64,
            rows: index(together(prompts, shared)),
            positions: index(together(
                &prompts.iter().map(|prompt| (0..prompt.len() as i64).collect()).collect::<Vec<_>>(),
                shared,
            )),
            spread: device.is_cuda().then(|| Box::new(Spread::new(prompts, shared, device))),
            padded: index(padded.collect()),
            packed: index(packed.collect()),
            ends: index(own.iter().zip(&starts).map(|(rows, start)| start + last(rows)).collect()),
            causal: unseen(&places.unsqueeze(0), &places.unsqueeze(1)),
            causal_at_end: unseen(&places.reshape([1, 1, -1]), &end_places.reshape([-1, 1, 1])),
            whole: index(whole.collect()).reshape([prompts.len() as i64, positions]),
            whole_ends,
            parting: None,
        })
    }

    /// How many prompts there are for one image or for all.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// How many rows (of all classes together) the transformer works on.
    pub fn rows(&self) -> i64 {
        self.rows.size()[0]
    }
}

/// Values of the rows of prompts: those of the `shared` first rows of all, then of the other rows of one after another.
fn together(prompts: &[Vec<i64>], shared: usize) -> Vec<i64> {
    prompts[0][..shared].iter().chain(prompts.iter().flat_map(|prompt| &prompt[shared..])).copied().collect()
}

/// What to add to the score of `key` places for `query` places: minus infinity where the key comes later.
fn unseen(key: &Tensor, query: &Tensor) -> Tensor {
    let later = key.gt_tensor(query);
    Tensor::zeros(later.size(), (Kind::Float, later.device())).masked_fill(&later, f64::NEG_INFINITY)
}

impl TextTower {
    /// Token ids `(N, L)` to embeddings `(N, L, width)`, without positions.
    pub(super) fn embed(&self, token_ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.token_embedding, token_ids, -1, false, false)
    }

    /// The reference: embeddings `(N, L, width)` to features `(N, embedding)` read at `ends` `(N,)`, through every
    /// position of every text. `deep[i]`, `(n, width)`, replaces the rows 1 to n before block `i + 1`.
    /// `additions` leave nothing out.
    pub(super) fn plain(&self, embedded: &Tensor, ends: &Tensor, deep: &[Tensor], additions: &Additions) -> Tensor {
        let (texts, length) = (embedded.size()[0], embedded.size()[1]);
        let mut x = embedded + self.positional_embedding.narrow(0, 0, length);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(&self.with_deep(x, index, deep), true, additions.to(index, None));
        }
        let rows = Tensor::arange(texts, (Kind::Int64, ends.device())) * length + ends;
        self.project(&x.reshape([texts * length, -1]).index_select(0, &rows))
    }

    /// The reference for prompts: a table `(rows, width)` to features `(classes, embedding)`.
    pub(super) fn plain_prompts(
        &self,
        table: &Tensor,
        prompts: &PromptRows,
        deep: &[Tensor],
        additions: &Additions,
    ) -> Tensor {
        let whole = table.index_select(0, &prompts.whole.flatten(0, 1));
        let whole = whole.reshape([prompts.classes, prompts.whole.size()[1], -1]);
        self.plain(&whole, &prompts.whole_ends, deep, additions)
    }

    /// A table `(G, rows, width)` to the features of its prompts `(G, classes, embedding)`; equal to
    /// [`TextTower::plain_prompts`] on each of the G tables.
    pub(super) fn features(
        &self,
        table: &Tensor,
        prompts: &PromptRows,
        deep: &[Tensor],
        additions: &Additions,
    ) -> Tensor {
        let mut x = rows(table, &prompts.rows) + self.positional_embedding.index_select(0, &prompts.positions);
        let last = self.blocks.len() - 1;
        let mut prompts = prompts;
        for (index, block) in self.blocks.iter().enumerate() {
            match (deep_before(index, deep), &prompts.parting) {
                (Some(tokens), Some(parting)) if tokens.dim() == 3 => {
                    x = self.part(&x, tokens, prompts.shared, parting);
                    prompts = &parting.prompts;
                }
                _ => x = self.with_deep(x, index, deep),
            }
            let added = additions.to(index, None);
            if index == last {
                return self.project(&at_ends(block, added, &x, prompts));
            }
            x = forward(block, added, &x, prompts);
        }
        unreachable!("a tower has a block")
    }

    /// The rows `(G, S + T, width)` where each class gets its tokens, `(classes, n, width)`.
    fn part(&self, x: &Tensor, tokens: &Tensor, shared: i64, parting: &Parting) -> Tensor {
        let [groups, count, width] = x.size()[..] else { unreachable!("rows have three axes") };
        let [shared, own] = [x.narrow(1, 0, shared), x.narrow(1, shared, count - shared)];
        let tokens = self.prompt_kind.rows(tokens, x).reshape([1, -1, width]).expand([groups, -1, -1], false);
        rows(&Tensor::cat(&[shared, tokens, own], 1), &parting.rows)
    }

    /// `x` `(N, L, width)` as block number `index` gets it: with its deep prompt in the rows behind the first.
    fn with_deep(&self, x: Tensor, index: usize, deep: &[Tensor]) -> Tensor {
        let Some(prompt) = deep_before(index, deep) else { return x };
        let (length, count) = (x.size()[1], prompt.size()[prompt.dim() - 2]);
        let rows = self.prompt_kind.rows(prompt, &x);
        Tensor::cat(&[x.narrow(1, 0, 1), rows, x.narrow(1, 1 + count, length - 1 - count)], 1)
    }

    /// Rows at the ends of texts to features.
    fn project(&self, x: &Tensor) -> Tensor {
        project(&self.ln_final.forward(x), &self.text_projection)
    }
}

/// What replaces rows before block number `index`: a prompt of some rows.
fn deep_before(index: usize, deep: &[Tensor]) -> Option<&Tensor> {
    let prompt = deep.get(index.checked_sub(1)?)?;
    (prompt.size()[prompt.dim() - 2] > 0).then_some(prompt)
}

/// One block for the rows `(G, S + T, width)`.
fn forward(block: &Block, added: Added<'_>, x: &Tensor, prompts: &PromptRows) -> Tensor {
    let added = added.at(Some(&prompts.numbers.all));
    let products = block.queries_keys_values(&block.ln_1.forward(x), added);
    let attended = match &prompts.spread {
        Some(spread) => spread.attended(block, &products),
        None => attended(block, &products, prompts),
    };
    block.finish(x, &attended, added)
}

/// The attention of all rows, given their queries, keys and values `(G, S + T, 3 width)`: `(G, S + T, width)`.
fn attended(block: &Block, products: &Tensor, prompts: &PromptRows) -> Tensor {
    let [shared, own] = parts(products, prompts);
    let [query, key, value] = block.split(&shared);
    let of_shared = attention(&query, &key, &value, true);
    let [own_query, own_key, own_value] = block.split(&rows(&own, &prompts.padded));
    let of_own = attend(&own_query, [&key, &value], [&own_key, &own_value], &prompts.causal, prompts.classes);
    Tensor::cat(&[merge_heads(&of_shared), rows(&merge_heads(&of_own), &prompts.packed)], 1)
}

/// The shared and the own ones of all rows.
fn parts(x: &Tensor, prompts: &PromptRows) -> [Tensor; 2] {
    let shared = prompts.shared;
    x.split_with_sizes([shared, x.size()[1] - shared], 1).try_into().expect("two parts")
}

/// The last block, for the end of each class alone: `(G, classes, width)`.
fn at_ends(block: &Block, added: Added<'_>, x: &Tensor, prompts: &PromptRows) -> Tensor {
    let [to_all, to_ends] = [&prompts.numbers.all, &prompts.numbers.ends].map(|numbers| added.at(Some(numbers)));
    let normalised = block.ln_1.forward(x);
    if let Some(spread) = &prompts.spread {
        let products = block.queries_keys_values(&normalised, to_all);
        let [x, attended] = [x, &spread.attended(block, &products)].map(|rows| spread.ends.of(rows));
        return block.finish(&x, &attended, to_ends);
    }
    let [_, normalised_own] = parts(&normalised, prompts);
    let [shared, own] = parts(&block.keys_values(&normalised, to_all), prompts);
    let [key, value] = block.split(&shared);
    let [query] = block.split(&block.queries(&rows(&normalised_own, &prompts.ends), to_ends));
    let [own_key, own_value] = block.split(&rows(&own, &prompts.padded));
    let attended = attend(&query, [&key, &value], [&own_key, &own_value], &prompts.causal_at_end, prompts.classes);
    let [_, own] = parts(x, prompts);
    block.finish(&rows(&own, &prompts.ends), &merge_heads(&attended), to_ends)
}

/// The rows `(G, N, width)` of `x` `(G, rows, width)` with these numbers `(N,)`, which may come several times.
///
/// It is an embedding, because the derivative of that sums what comes several times in a fixed order, also on a card; the
/// derivative of `index_select` does so in the order in which the card's threads come.
fn rows(x: &Tensor, numbers: &Tensor) -> Tensor {
    let [groups, count, width] = x.size()[..] else { unreachable!("rows have three axes") };
    if groups == 1 {
        return Tensor::embedding(&x.squeeze_dim(0), numbers, -1, false, false).unsqueeze(0);
    }
    let starts = Tensor::arange(groups, (Kind::Int64, numbers.device())).unsqueeze(1) * count;
    let numbers = (starts + numbers).flatten(0, 1);
    Tensor::embedding(&x.reshape([groups * count, width]), &numbers, -1, false, false).reshape([groups, -1, width])
}

/// Attention of each class's queries `(G, heads, classes * Q, d)` to the shared keys and values `(G, heads, S, d)` and
/// to the class's own ones `(G, heads, classes * L, d)`, of which `mask` (`(Q, L)` or `(classes, Q, L)`) hides some.
fn attend(query: &Tensor, shared: [&Tensor; 2], own: [&Tensor; 2], mask: &Tensor, classes: i64) -> Tensor {
    let size = query.size();
    let [groups, heads, _, width] = size[..] else { unreachable!("queries have four axes") };
    let by_class = |x: &Tensor| x.reshape([groups, heads, classes, -1, width]);
    let query = query * (width as f64).sqrt().recip();
    let [own_key, own_value] = own.map(by_class);
    let to_shared = query.matmul(&shared[0].transpose(-2, -1));
    let shared_length = to_shared.size()[3];
    let to_shared = to_shared.reshape([groups, heads, classes, -1, shared_length]);
    let to_own = by_class(&query).matmul(&own_key.transpose(-2, -1)) + mask.to_kind(query.kind());
    let weights = Tensor::cat(&[to_shared, to_own], -1).softmax(-1, None::<Kind>);
    let on_shared = weights.narrow(-1, 0, shared_length).reshape([groups, heads, -1, shared_length]);
    let on_own = weights.narrow(-1, shared_length, weights.size()[4] - shared_length);
    on_shared.matmul(shared[1]) + on_own.matmul(&own_value).reshape(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::{Architecture, Clip, Weights};
    use crate::device::of_tests;
    use maple_pipe::backbone::Backbone;
    use maple_pipe::method::Precision;

    impl PromptRows {
        /// The same, computed as on a card or as on a processor.
        fn arranged_for(mut self, prompts: &[Vec<i64>], card: bool) -> PromptRows {
            self.spread = card.then(|| Box::new(Spread::new(prompts, self.shared as usize, of_tests())));
            if let Some(parting) = &mut self.parting {
                parting.prompts.spread = card.then(|| Box::new(Spread::new(prompts, 1, of_tests())));
            }
            self
        }
    }

    /// Features, and gradients for all that may be learned, are the same for the rows of each class together; of prompts of
    /// several lengths, for one table and for two, with deep prompts for all and for each class.
    #[test]
    fn rows_together_have_the_features_and_gradients_of_rows_that_come_once() {
        let architecture = Architecture { vocabulary: 20, text_layers: 4, ..Architecture::tiny() };
        let weights = Weights::from_tensors(architecture.tensors().into_iter().map(|(name, shape)| {
            let values = (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 1.7).sin() * 0.1;
            let base = if name.contains("ln_") && name.ends_with("weight") { 1.0 } else { 0.0 };
            (name, (values + base).reshape(shape))
        }));
        let clip = Clip::from_weights(&weights, &Backbone::openai(architecture), of_tests(), Precision::Fp32).unwrap();
        let prompts: [&[i64]; 4] =
            [&[0, 1, 2, 3, 5, 9], &[0, 1, 2, 3, 6, 7, 8, 9], &[0, 1, 2, 3, 9], &[0, 1, 2, 3, 7, 9]];
        let prompts = prompts.map(<[i64]>::to_vec);
        let width = architecture.text_width;
        let leaf = |shape: &[i64], seed: f64| {
            let values = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, of_tests())) * 1.3 + seed;
            (values.sin() * 0.1).reshape(shape).set_requires_grad(true)
        };
        for (groups, of_classes) in [(1, false), (2, false), (1, true), (2, true)] {
            let deep_shape: &[i64] = if of_classes { &[4, 2, width] } else { &[2, width] };
            let found = [true, false].map(|card| {
                let rows = match of_classes {
                    true => PromptRows::with_class_tokens(2, &prompts, 0, 20, of_tests()),
                    false => PromptRows::new(&prompts, 0, 20, of_tests()),
                };
                let rows = rows.unwrap().arranged_for(&prompts, card);
                let leaves = [leaf(&[groups, 10, width], 0.0), leaf(deep_shape, 1.0)];
                let features = clip.prompt_features(&leaves[0], &rows, &leaves[1..], &Additions::default());
                let loss = (&features * features.detach().cos()).sum(Kind::Float);
                let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false).unwrap();
                std::iter::once(features).chain(gradients).collect::<Vec<_>>()
            });
            let [together, once] = &found;
            assert_eq!(together[0].size(), [groups, 4, architecture.embedding]);
            for (together, once) in together.iter().zip(once) {
                let apart = (together - once).norm().double_value(&[]) / once.norm().double_value(&[]);
                assert!(apart < 1e-4, "{groups} {of_classes}: {apart}");
            }
        }
    }
}
