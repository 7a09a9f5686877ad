//! The residual attention block that both towers are built of (`ResidualAttentionBlock` of OpenAI's `clip/model.py`).

use maple_pipe::backbone::Activation;
use tch::{Kind, Tensor};

use super::addition::{Added, Product};
use crate::fused;

/// OpenAI's default epsilon of a layer norm, which is PyTorch's.
const EPSILON: f64 = 1e-5;
/// The factor in QuickGELU, `x * sigmoid(1.702 * x)`.
const QUICK_GELU: f64 = 1.702;

/// A linear layer: `x @ weight^T + bias`, in the precision of the weight.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias))
    }

    /// The rows `start..start + length` of the layer alone.
    fn forward_part(&self, x: &Tensor, start: i64, length: i64) -> Tensor {
        let (weight, bias) = (self.weight.narrow(0, start, length), self.bias.narrow(0, start, length));
        x.to_kind(weight.kind()).linear(&weight, Some(bias))
    }
}

/// What a tower ends with: `x @ weight`, in the precision of the weight, then in that of `x`.
pub(super) fn project(x: &Tensor, weight: &Tensor) -> Tensor {
    x.to_kind(weight.kind()).matmul(weight).to_kind(x.kind())
}

/// A layer norm, computed in fp32 whatever its input.
#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl LayerNorm {
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(normalised) = fused::layer_norm(x, &self.weight, &self.bias, EPSILON) {
            return normalised;
        }
        let normalised =
            x.to_kind(Kind::Float).layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, true);
        normalised.to_kind(x.kind())
    }

    /// `x + added`, and the layer norm of that.
    fn of_sum(&self, x: &Tensor, added: &Tensor) -> [Tensor; 2] {
        fused::sum_and_norm(x, added, &self.weight, &self.bias, EPSILON).unwrap_or_else(|| {
            let sum = x + added;
            let normalised = self.forward(&sum);
            [sum, normalised]
        })
    }
}

/// The number format through which a learned prompt enters a tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromptKind(pub(super) Kind);

impl PromptKind {
    /// A prompt `(n, width)` as rows of each of `x` `(N, L, width)`, `(N, n, width)`; one of this form already stays. It is rounded behind its expansion,
    /// as published, so that the gradients of the N are rounded one by one and their sum is not.
    pub(super) fn rows(self, prompt: &Tensor, x: &Tensor) -> Tensor {
        let rows = if prompt.dim() == 2 { prompt.unsqueeze(0) } else { prompt.shallow_clone() };
        let count = if prompt.dim() == 2 { x.size()[0] } else { -1 };
        rows.expand([count, -1, -1], false).to_kind(self.0).to_kind(x.kind())
    }
}

/// One block: attention and a two-layer perceptron, each behind a layer norm and beside a residual.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) heads: i64,
    pub(super) activation: Activation,
    pub(super) ln_1: LayerNorm,
    pub(super) in_proj: Linear,
    pub(super) out_proj: Linear,
    pub(super) ln_2: LayerNorm,
    pub(super) c_fc: Linear,
    pub(super) c_proj: Linear,
}

impl Block {
    /// `(N, L, W)` to `(N, L, W)`; with `causal` a position sees itself and those before it.
    pub(super) fn forward(&self, x: &Tensor, causal: bool, added: Added<'_>) -> Tensor {
        let [query, key, value] = self.split(&self.queries_keys_values(&self.ln_1.forward(x), added));
        self.finish(x, &merge_heads(&attention(&query, &key, &value, causal)), added)
    }

    /// `(N, L, W)` to `(N, 1, W)`: the first position of [`Block::forward`] without `causal`, computed alone.
    pub(super) fn forward_first(&self, x: &Tensor, added: Added<'_>) -> Tensor {
        let normalised = self.ln_1.forward(x);
        let first_row = added.rows().map(|rows| rows.narrow(1, 0, 1));
        let to_first = added.at(first_row.as_ref());
        let [query] = self.split(&self.queries(&normalised.narrow(1, 0, 1), to_first));
        let [key, value] = self.split(&self.keys_values(&normalised, added));
        self.finish(&x.narrow(1, 0, 1), &merge_heads(&attention(&query, &key, &value, false)), to_first)
    }

    /// `(N, L, W)` to `(N, heads, L)`: how much of each position the first one takes in [`Block::forward_first`], in fp32.
    pub(super) fn attention_of_first(&self, x: &Tensor, added: Added<'_>) -> Tensor {
        let normalised = self.ln_1.forward(x);
        let first_row = added.rows().map(|rows| rows.narrow(1, 0, 1));
        let [query] = self.split(&self.queries(&normalised.narrow(1, 0, 1), added.at(first_row.as_ref())));
        let [key, _] = self.split(&self.keys_values(&normalised, added));
        let [query, key] = [query, key].map(|rows| rows.to_kind(Kind::Float));
        let scale = (query.size()[3] as f64).sqrt();
        (query.matmul(&key.transpose(-2, -1)) / scale).softmax(-1, Kind::Float).squeeze_dim(2)
    }

    /// Adds the attention's result `(N, L, W)` to `x` `(N, L, W)`, then runs the perceptron.
    pub(super) fn finish(&self, x: &Tensor, attended: &Tensor, added: Added<'_>) -> Tensor {
        let beside = added.adapter().map(|adapter| {
            let normalised = |x: &Tensor| self.ln_1.forward(x);
            adapter.forward(x, self.c_fc.weight.kind(), normalised)
        });
        let output = added.to_products(self.out_proj.forward(attended), attended, &[Product::Output]);
        let [x, normalised] = self.ln_2.of_sum(x, &output);
        let hidden = activate(&self.c_fc.forward(&normalised), self.activation);
        let x = &x + self.c_proj.forward(&hidden);
        beside.map_or(x.shallow_clone(), |beside| x + beside)
    }

    /// Queries of normalised rows, `(N, L, W)` to `(N, L, W)`.
    pub(super) fn queries(&self, normalised: &Tensor, added: Added<'_>) -> Tensor {
        let queries = self.in_proj.forward_part(normalised, 0, self.width());
        added.to_products(queries, normalised, &[Product::Query])
    }

    /// Keys and values of normalised rows side by side, `(N, L, W)` to `(N, L, 2 W)`.
    pub(super) fn keys_values(&self, normalised: &Tensor, added: Added<'_>) -> Tensor {
        let width = self.width();
        let keys_values = self.in_proj.forward_part(normalised, width, 2 * width);
        added.to_products(keys_values, normalised, &[Product::Key, Product::Value])
    }

    /// Queries, keys and values of normalised rows side by side, `(N, L, W)` to `(N, L, 3 W)`.
    pub(super) fn queries_keys_values(&self, normalised: &Tensor, added: Added<'_>) -> Tensor {
        let all = self.in_proj.forward(normalised);
        added.to_products(all, normalised, &[Product::Query, Product::Key, Product::Value])
    }

    /// What stands side by side in `(N, L, parts W)`, each part `(N, heads, L, W / heads)`.
    pub(super) fn split<const PARTS: usize>(&self, rows: &Tensor) -> [Tensor; PARTS] {
        let parts: [Tensor; PARTS] = rows.chunk(PARTS as i64, -1).try_into().expect("as many parts");
        parts.map(|part| self.split_heads(&part))
    }

    fn width(&self) -> i64 {
        self.out_proj.bias.size()[0]
    }

    fn split_heads(&self, x: &Tensor) -> Tensor {
        let (rows, length) = (x.size()[0], x.size()[1]);
        x.reshape([rows, length, self.heads, -1]).transpose(1, 2)
    }
}

/// The activation of every element.
fn activate(x: &Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::QuickGelu => quick_gelu(x),
        Activation::Gelu => x.gelu("none"),
    }
}

/// QuickGELU of every element: silu(1.702 x) / 1.702 is x sigmoid(1.702 x), in one operation with a short derivative.
pub fn quick_gelu(x: &Tensor) -> Tensor {
    fused::quick_gelu(x, QUICK_GELU).unwrap_or_else(|| (x * QUICK_GELU).silu() * (1.0 / QUICK_GELU))
}

/// `(N, heads, L, W / heads)` to `(N, L, W)`.
pub(super) fn merge_heads(x: &Tensor) -> Tensor {
    x.transpose(1, 2).flatten(2, 3)
}

/// Scaled dot-product attention over `(N, heads, L, width of a head)`.
pub(super) fn attention(query: &Tensor, key: &Tensor, value: &Tensor, causal: bool) -> Tensor {
    Tensor::scaled_dot_product_attention(query, key, value, None::<&Tensor>, 0.0, causal, None, false)
}
