//! CLIP: tokenizer, text tower, vision tower, weights in and out.

mod addition;
mod error;
mod resnet;
mod spread;
mod text;
mod transformer;
mod vision;
mod weights;

use tch::{Device, Kind, Tensor, no_grad};

pub use addition::{Adapter, Addition, Additions, Dropout, LowRank, Product};
pub use error::torch;
pub use maple_pipe::architecture::{Architecture, VisionLayers};
pub use maple_pipe::tokenizer::Tokenizer;
pub use text::PromptRows;
pub use transformer::quick_gelu;
pub use vision::VisionPrompts;
pub use weights::Weights;

use maple_pipe::architecture::is_norm;
use maple_pipe::backbone::Backbone;
use maple_pipe::error::Result;
use maple_pipe::method::Precision;
use maple_pipe::tally::Tally;
use resnet::{AttentionPool, BatchNorm, Bottleneck, Convolution, ResNet};
use text::TextTower;
use transformer::{Block, LayerNorm, Linear, PromptKind};
use vision::{VisionTower, VisionTransformer};

/// The tensor of the words' embeddings.
const TOKEN_EMBEDDING: &str = "token_embedding.weight";

/// A CLIP model: a vision tower and a text tower into one space, and the scale of their products.
///
/// No function here switches gradients off, so the tensors of [`Clip::parameters`] may be trained.
#[derive(Debug)]
pub struct Clip {
    backbone: Backbone,
    precision: Precision,
    vision: VisionTower,
    text: TextTower,
    logit_scale: Tensor,
    parameters: Vec<(String, Tensor)>,
}

impl Clip {
    /// Builds the model from weights under OpenAI's key names, which must be those of `backbone`, on `device`, computing in `precision`.
    ///
    /// Layer norms, batch norms and `logit_scale` are kept in fp32. The embeddings decide the precision of the residual
    /// stream, all other weights that of their products; [`Precision::Mixed`] has two different ones. A tensor that is on the device in the wanted kind already is
    /// used as it is, not copied. `token_embedding.weight` may have any number of rows: ids count in its rows.
    ///
    /// # Errors
    /// Names what is missing, unknown or misshapen.
    pub fn from_weights(weights: &Weights, backbone: &Backbone, device: Device, precision: Precision) -> Result<Clip> {
        let tensors = backbone.architecture.tensors();
        weights.shapes().expect(&tensors)?;
        let Kinds { stream, products, .. } = Kinds::of(precision);
        let mut parameters = Vec::new();
        for (name, _) in tensors {
            if let Some(tensor) = weights.get(&name) {
                let kind = match name.as_str() {
                    "logit_scale" => Kind::Float,
                    name if is_norm(name) => Kind::Float,
                    name if name.contains("embedding") => stream,
                    _ => products,
                };
                let tensor = tensor.f_to_device(device).and_then(|tensor| tensor.f_to_kind(kind)).map_err(torch)?;
                parameters.push((name, tensor));
            }
        }
        Ok(Clip::of_parameters(*backbone, precision, parameters))
    }

    /// The model of these tensors, which are all that there are.
    fn of_parameters(backbone: Backbone, precision: Precision, parameters: Vec<(String, Tensor)>) -> Clip {
        let prompt_kind = PromptKind(Kinds::of(precision).prompts);
        let parts = Parts { backbone: &backbone, parameters: &parameters, prompt_kind };
        let (vision, text, logit_scale) = (parts.vision(), parts.text(), parts.tensor("logit_scale"));
        Clip { backbone, precision, vision, text, logit_scale, parameters }
    }

    /// The same with a text tower in fp32, whose weights have the values that they have here. The image tower is shared.
    pub fn with_text_in_fp32(&self) -> Clip {
        let parameters = self.parameters.iter().map(|(name, tensor)| {
            let is_text = !name.starts_with("visual.");
            (name.clone(), if is_text { tensor.to_kind(Kind::Float) } else { tensor.shallow_clone() })
        });
        Clip::of_parameters(self.backbone, Precision::Fp32, parameters.collect())
    }

    /// The model of which each tensor is the sum of itself times these weights: what a training makes of it that averages the
    /// whole model over its epochs. Weights of products in fp16 are rounded at every term, as in the published code; all else is
    /// summed in fp32. The embeddings of words stay, since published checkpoints do not have them.
    pub fn averaged(&self, weights: &[f64]) -> Clip {
        let average = |(name, tensor): &(String, Tensor)| {
            if name == TOKEN_EMBEDDING {
                return (name.clone(), tensor.shallow_clone());
            }
            let is_rounded = tensor.kind() == Kind::Half && !name.contains("embedding");
            let own = tensor.to_kind(if is_rounded { Kind::Half } else { Kind::Float });
            let mut sum = own.zeros_like();
            weights.iter().for_each(|weight| sum += &own * *weight);
            (name.clone(), sum.to_kind(tensor.kind()))
        };
        let parameters = no_grad(|| self.parameters.iter().map(average).collect());
        Clip::of_parameters(self.backbone, self.precision, parameters)
    }

    /// The model without its weights.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The model's sizes.
    pub fn architecture(&self) -> &Architecture {
        &self.backbone.architecture
    }

    /// Where the model computes.
    pub fn device(&self) -> Device {
        self.logit_scale.device()
    }

    /// The precision in which the model computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The number format of the residual streams and of the features.
    pub fn kind(&self) -> Kind {
        self.text.token_embedding.kind()
    }

    /// Every tensor under OpenAI's key names, in the order of OpenAI's state dict; the model's own, not copies.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// The factor of the logits, `exp(logit_scale)`, a scalar.
    pub fn logit_scale(&self) -> Tensor {
        self.logit_scale.exp()
    }

    /// The work of an image, and of a row of the text tower: multiplications and additions by weights, about.
    pub(crate) fn work(&self) -> (i64, i64) {
        let Architecture { image_size, patch_size, .. } = self.backbone.architecture;
        let weights = |is_vision: bool| -> i64 {
            let of_tower = |(name, tensor): &&(String, Tensor)| {
                name.starts_with("visual.") == is_vision && !name.contains("embedding") && tensor.dim() > 1
            };
            self.parameters.iter().filter(of_tower).map(|(_, tensor)| tensor.numel() as i64).sum()
        };
        (2 * weights(true) * (image_size / patch_size).pow(2), 2 * weights(false))
    }

    /// Images `(B, 3, R, R)`, normalised pixels, to features `(B, embedding)` of any length.
    pub fn image_features(&self, images: &Tensor) -> Tensor {
        self.image_features_with(images, &VisionPrompts::default(), &Additions::default(), 0)
    }

    /// [`Clip::image_features`] with learned prompts in the vision tower and with additions to its blocks, for images of which
    /// the first is so many behind the first of its batch.
    pub fn image_features_with(
        &self,
        images: &Tensor,
        prompts: &VisionPrompts,
        additions: &Additions,
        first: i64,
    ) -> Tensor {
        Tally::passes_images(images.size()[0]);
        self.vision.features(images, prompts, additions, first)
    }

    /// Images `(B, 3, R, R)` to the attention of the class token in the last block of the vision tower, `(B, tokens)` in fp32, the
    /// mean over the heads: to itself, to the patches row by row, to the learned prompts. None of a ResNet, which has no such
    /// token.
    pub fn class_token_attention(
        &self,
        images: &Tensor,
        prompts: &VisionPrompts,
        additions: &Additions,
    ) -> Option<Tensor> {
        Tally::passes_images(images.size()[0]);
        self.vision.attention(images, prompts, additions)
    }

    /// Token ids `(N, L)`, L up to 77, to features `(N, embedding)` of any length, read at each text's largest id.
    ///
    /// This is the text tower as published, position by position.
    pub fn text_features(&self, token_ids: &Tensor) -> Tensor {
        Tally::passes_texts(token_ids.size()[0]);
        self.text.plain(&self.text.embed(token_ids), &token_ids.argmax(-1, false), &[], &Additions::default())
    }

    /// Embeddings of token ids `(N,)`, `(N, text width)`, without positions.
    pub fn token_embeddings(&self, token_ids: &[i64]) -> Tensor {
        self.text.embed(&Tensor::from_slice(token_ids).to_device(self.device()))
    }

    /// Features `(G, classes, embedding)` of prompts made of the rows of `table` `(G, rows, text width)`; `deep[i]`,
    /// `(n, text width)`, replaces the positions 1 to n before block `i + 1`, and every prompt has to begin with those. One that
    /// is `(classes, n, text width)` has rows of each class's own; none that classes share may follow on it, and the prompts
    /// are [`PromptRows::with_class_tokens`] of as many.
    pub fn prompt_features(
        &self,
        table: &Tensor,
        prompts: &PromptRows,
        deep: &[Tensor],
        additions: &Additions,
    ) -> Tensor {
        Tally::passes_texts(table.size()[0] * prompts.classes());
        self.text.features(table, prompts, deep, additions)
    }

    /// The reference for [`Clip::prompt_features`]: all 77 positions of every class, as published, for a table
    /// `(rows, text width)`; `additions` leave nothing out. Slow; tests compare the two.
    pub fn prompt_features_reference(
        &self,
        table: &Tensor,
        prompts: &PromptRows,
        deep: &[Tensor],
        additions: &Additions,
    ) -> Tensor {
        self.text.plain_prompts(table, prompts, deep, additions)
    }
}

/// The number formats of a precision.
pub(crate) struct Kinds {
    /// Of the residual streams.
    stream: Kind,
    /// Of the weights, and so of products.
    pub(crate) products: Kind,
    /// Through which learned prompts enter the towers.
    pub(crate) prompts: Kind,
}

impl Kinds {
    pub(crate) fn of(precision: Precision) -> Kinds {
        let (stream, products, prompts) = match precision {
            Precision::Fp32 => (Kind::Float, Kind::Float, Kind::Float),
            Precision::PublishedFp32 => (Kind::Float, Kind::Float, Kind::Half),
            Precision::Fp16 => (Kind::Half, Kind::Half, Kind::Half),
            Precision::Bf16 => (Kind::BFloat16, Kind::BFloat16, Kind::BFloat16),
            Precision::Mixed => (Kind::Float, Kind::Half, Kind::Float),
        };
        Kinds { stream, products, prompts }
    }
}

/// Features scaled to length 1 along the last axis.
pub fn normalised(features: &Tensor) -> Tensor {
    features / features.norm_scalaropt_dim(2, [-1], true)
}

/// Looks tensors up that are known to be there.
struct Parts<'a> {
    backbone: &'a Backbone,
    prompt_kind: PromptKind,
    parameters: &'a [(String, Tensor)],
}

impl Parts<'_> {
    fn tensor(&self, name: &str) -> Tensor {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| unreachable!("`{name}` was checked")).1.shallow_clone()
    }

    fn linear(&self, weight: &str, bias: &str) -> Linear {
        Linear { weight: self.tensor(weight), bias: self.tensor(bias) }
    }

    fn layer_norm(&self, name: &str) -> LayerNorm {
        LayerNorm { weight: self.tensor(&format!("{name}.weight")), bias: self.tensor(&format!("{name}.bias")) }
    }

    fn blocks(&self, prefix: &str, count: i64, heads: i64) -> Vec<Block> {
        (0..count).map(|index| self.block(&format!("{prefix}.{index}"), heads)).collect()
    }

    fn block(&self, name: &str, heads: i64) -> Block {
        let linear = |part: &str| self.linear(&format!("{name}.{part}.weight"), &format!("{name}.{part}.bias"));
        Block {
            heads,
            activation: self.backbone.activation,
            ln_1: self.layer_norm(&format!("{name}.ln_1")),
            in_proj: self.linear(&format!("{name}.attn.in_proj_weight"), &format!("{name}.attn.in_proj_bias")),
            out_proj: linear("attn.out_proj"),
            ln_2: self.layer_norm(&format!("{name}.ln_2")),
            c_fc: linear("mlp.c_fc"),
            c_proj: linear("mlp.c_proj"),
        }
    }

    fn vision(&self) -> VisionTower {
        let heads = self.backbone.vision_heads;
        match self.backbone.architecture.vision_layers {
            VisionLayers::Transformer(layers) => VisionTower::Transformer(VisionTransformer {
                prompt_kind: self.prompt_kind,
                conv1: self.tensor("visual.conv1.weight"),
                class_embedding: self.tensor("visual.class_embedding"),
                positional_embedding: self.tensor("visual.positional_embedding"),
                ln_pre: self.layer_norm("visual.ln_pre"),
                blocks: self.blocks("visual.transformer.resblocks", layers, heads),
                ln_post: self.layer_norm("visual.ln_post"),
                proj: self.tensor("visual.proj"),
            }),
            VisionLayers::ResNet(stages) => VisionTower::ResNet(ResNet {
                stem: [1, 2, 3].map(|number| self.convolution("visual", number)),
                stages: stages.iter().zip(1..).map(|(blocks, stage)| self.bottlenecks(stage, *blocks)).collect(),
                attnpool: self.attention_pool("visual.attnpool", heads),
            }),
        }
    }

    fn bottlenecks(&self, stage: i64, count: i64) -> Vec<Bottleneck> {
        let block = |index| {
            let name = format!("visual.layer{stage}.{index}");
            let shortcut = || {
                let weight = self.tensor(&format!("{name}.downsample.0.weight"));
                Convolution { weight, norm: self.batch_norm(&format!("{name}.downsample.1")) }
            };
            Bottleneck {
                conv1: self.convolution(&name, 1),
                conv2: self.convolution(&name, 2),
                conv3: self.convolution(&name, 3),
                downsample: (index == 0).then(shortcut),
            }
        };
        (0..count).map(block).collect()
    }

    fn convolution(&self, name: &str, number: i64) -> Convolution {
        let weight = self.tensor(&format!("{name}.conv{number}.weight"));
        Convolution { weight, norm: self.batch_norm(&format!("{name}.bn{number}")) }
    }

    fn batch_norm(&self, name: &str) -> BatchNorm {
        let part = |part: &str| self.tensor(&format!("{name}.{part}"));
        BatchNorm {
            weight: part("weight"),
            bias: part("bias"),
            running_mean: part("running_mean"),
            running_var: part("running_var"),
        }
    }

    fn attention_pool(&self, name: &str, heads: i64) -> AttentionPool {
        let linear = |part: &str| self.linear(&format!("{name}.{part}.weight"), &format!("{name}.{part}.bias"));
        AttentionPool {
            heads,
            positional_embedding: self.tensor(&format!("{name}.positional_embedding")),
            q_proj: linear("q_proj"),
            k_proj: linear("k_proj"),
            v_proj: linear("v_proj"),
            c_proj: linear("c_proj"),
        }
    }

    fn text(&self) -> TextTower {
        let layers = self.backbone.architecture.text_layers;
        TextTower {
            prompt_kind: self.prompt_kind,
            token_embedding: self.tensor("token_embedding.weight"),
            positional_embedding: self.tensor("positional_embedding"),
            blocks: self.blocks("transformer.resblocks", layers, self.backbone.text_heads),
            ln_final: self.layer_norm("ln_final"),
            text_projection: self.tensor("text_projection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::of_tests;

    /// Weights of the tiny model with another vocabulary; the same at every call.
    fn weights(vocabulary: i64) -> Weights {
        let tensors = Architecture { vocabulary, ..Architecture::tiny() }.tensors().into_iter();
        let values = tensors.map(|(name, shape)| {
            let count: i64 = shape.iter().product();
            let ramp = Tensor::arange(count, (Kind::Float, Device::Cpu)) * 1.7;
            let base = if name.contains("ln_") && name.ends_with("weight") { 1.0 } else { 0.0 };
            (name, (ramp.sin() * 0.1 + base).reshape(shape))
        });
        Weights::from_tensors(values)
    }

    fn clip(weights: &Weights, precision: Precision) -> Clip {
        let backbone = Backbone::openai(weights.shapes().architecture().unwrap());
        Clip::from_weights(weights, &backbone, of_tests(), precision).unwrap()
    }

    #[test]
    fn every_tensor_can_be_trained_with_a_vocabulary_of_any_size() {
        let clip = clip(&weights(7), Precision::Fp32);
        assert_eq!(clip.architecture().vocabulary, 7);
        let parameters: Vec<Tensor> =
            clip.parameters().iter().map(|(_, tensor)| tensor.set_requires_grad(true)).collect();
        let images = Tensor::ones([2, 3, 32, 32], (Kind::Float, of_tests()))
            * Tensor::from_slice(&[0.5f32, -1.0]).to_device(of_tests()).reshape([2, 1, 1, 1]);
        let texts = Tensor::from_slice(&[4i64, 1, 6, 0, 4, 2, 3, 6]).to_device(of_tests()).reshape([2, 4]);
        let images = normalised(&clip.image_features(&images));
        let logits = clip.logit_scale() * images.matmul(&normalised(&clip.text_features(&texts)).tr());
        let loss = logits.log_softmax(-1, Kind::Float).nll_loss(&Tensor::from_slice(&[0i64, 1]).to_device(of_tests()));
        let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false).unwrap();
        for ((name, _), gradient) in clip.parameters().iter().zip(gradients) {
            assert!(gradient.abs().sum(Kind::Double).double_value(&[]) > 0.0, "{name} gets no gradient");
        }
    }

    #[test]
    fn a_text_is_read_at_its_end_whatever_follows() {
        let clip = clip(&weights(7), Precision::Fp32);
        let short = clip.text_features(&Tensor::from_slice(&[4i64, 1, 6]).to_device(of_tests()).unsqueeze(0));
        let long = clip.text_features(&Tensor::from_slice(&[4i64, 1, 6, 3, 5, 0]).to_device(of_tests()).unsqueeze(0));
        assert!((short - long).abs().max().double_value(&[]) < 1e-6);
    }

    /// The values weighed by it are what the block's own attention gives.
    #[test]
    fn the_attention_of_the_class_token_is_what_its_block_computes_with() {
        let clip = clip(&weights(7), Precision::Fp32);
        let VisionTower::Transformer(tower) = &clip.vision else { panic!("a transformer") };
        let block = &tower.blocks[0];
        let none = addition::Added::default();
        let width = block.out_proj.bias.size()[0];
        let x = Tensor::arange(2 * 5 * width, (Kind::Float, of_tests())).sin().reshape([2, 5, width]);
        let shares = block.attention_of_first(&x, none);
        let [_, value] = block.split(&block.keys_values(&block.ln_1.forward(&x), none));
        let attended = transformer::merge_heads(&shares.unsqueeze(2).matmul(&value));
        let apart = block.finish(&x.narrow(1, 0, 1), &attended, none) - block.forward_first(&x, none);
        assert!(apart.abs().max().double_value(&[]) < 1e-5);
        let images = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, of_tests())).sin().reshape([2, 3, 32, 32]);
        let prompts = VisionPrompts { shallow: Some(x.get(0).narrow(0, 0, 3)), deep: Vec::new() };
        let found = clip.class_token_attention(&images, &prompts, &Additions::default()).unwrap();
        let patches = (clip.architecture().image_size / clip.architecture().patch_size).pow(2);
        assert_eq!(found.size(), [2, 1 + patches + 3]);
        let sums = found.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn lower_precision_gives_nearly_the_same_features() {
        let exact = clip(&weights(7), Precision::Fp32);
        let images = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, of_tests())).sin().reshape([2, 3, 32, 32]);
        let texts = Tensor::from_slice(&[4i64, 1, 6]).to_device(of_tests()).unsqueeze(0);
        let precisions =
            [(Precision::Fp16, Kind::Half), (Precision::Bf16, Kind::BFloat16), (Precision::Mixed, Kind::Float)];
        for (precision, kind) in precisions {
            let rounded = clip(&weights(7), precision);
            assert_eq!(rounded.kind(), kind);
            let pairs = [
                (exact.image_features(&images), rounded.image_features(&images)),
                (exact.text_features(&texts), rounded.text_features(&texts)),
            ];
            for (exact, rounded) in pairs {
                let cosine = (normalised(&exact) * normalised(&rounded.to_kind(Kind::Float))).sum(Kind::Double);
                assert!(cosine.double_value(&[]) / exact.size()[0] as f64 > 0.999, "{kind:?}: {cosine:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let some = weights(7)
            .iter()
            .filter(|(name, _)| !name.contains("ln_post"))
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect::<Vec<_>>();
        let backbone = Backbone::openai(Architecture { vocabulary: 7, ..Architecture::tiny() });
        let some = Weights::from_tensors(some);
        let message = Clip::from_weights(&some, &backbone, Device::Cpu, Precision::Fp32).unwrap_err().to_string();
        assert_eq!(message, "the weights do not fit: missing: `visual.ln_post.bias`, `visual.ln_post.weight`");
    }
}
