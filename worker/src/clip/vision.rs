//! The vision tower: a transformer, with room for learned prompts behind its patches, or a ResNet.

use tch::{Kind, Tensor};

use super::addition::{Additions, rows_of_images};
use super::resnet::ResNet;
use super::transformer::{Block, LayerNorm, PromptKind, project};
use crate::context::records_gradients;

/// Learned rows for the vision transformer; none by default.
#[derive(Debug, Default)]
pub struct VisionPrompts {
    /// `(n, vision width)`: appended after the patches and their positions, before the first layer norm.
    pub shallow: Option<Tensor>,
    /// `deep[i]`, `(n, vision width)`, replaces the last n rows before block `i + 1`.
    pub deep: Vec<Tensor>,
}

/// The vision tower of CLIP.
#[derive(Debug)]
pub(super) enum VisionTower {
    Transformer(VisionTransformer),
    ResNet(ResNet),
}

impl VisionTower {
    /// Images `(B, 3, R, R)` to features `(B, embedding)`, not normalised; the first of them is so many behind the first of
    /// its batch. A ResNet takes no prompts and no additions.
    pub(super) fn features(
        &self,
        images: &Tensor,
        prompts: &VisionPrompts,
        additions: &Additions,
        first: i64,
    ) -> Tensor {
        match self {
            VisionTower::Transformer(tower) => tower.features(images, prompts, additions, first),
            VisionTower::ResNet(tower) => {
                let is_plain = prompts.shallow.is_none() && prompts.deep.is_empty() && additions.is_empty();
                assert!(is_plain, "a ResNet takes no prompts and no additions");
                tower.features(images)
            }
        }
    }

    /// Images `(B, 3, R, R)` to how much of each token `(B, tokens)` the class token takes in the last block, the mean over the
    /// heads: of itself, of the patches, of the prompts. A ResNet has no class token.
    pub(super) fn attention(&self, images: &Tensor, prompts: &VisionPrompts, additions: &Additions) -> Option<Tensor> {
        match self {
            VisionTower::Transformer(tower) => Some(tower.attention(images, prompts, additions)),
            VisionTower::ResNet(_) => None,
        }
    }
}

/// The vision transformer of CLIP.
#[derive(Debug)]
pub(super) struct VisionTransformer {
    pub(super) prompt_kind: PromptKind,
    /// `(width, 3, patch, patch)`.
    pub(super) conv1: Tensor,
    /// `(width,)`.
    pub(super) class_embedding: Tensor,
    /// `(1 + patches, width)`.
    pub(super) positional_embedding: Tensor,
    pub(super) ln_pre: LayerNorm,
    pub(super) blocks: Vec<Block>,
    pub(super) ln_post: LayerNorm,
    /// `(width, embedding)`.
    pub(super) proj: Tensor,
}

impl VisionTransformer {
    /// Images `(B, 3, R, R)` to features `(B, embedding)`, not normalised.
    fn features(&self, images: &Tensor, prompts: &VisionPrompts, additions: &Additions, first: i64) -> Tensor {
        let (x, rows) = self.before_last(images, prompts, additions, first);
        // Only the class token is read from the last block.
        let x = self.last().forward_first(&x, additions.to(self.blocks.len() - 1, rows.as_ref()));
        project(&self.ln_post.forward(&x.select(1, 0)), &self.proj)
    }

    /// Images `(B, 3, R, R)` to the attention of the class token in the last block `(B, tokens)`.
    fn attention(&self, images: &Tensor, prompts: &VisionPrompts, additions: &Additions) -> Tensor {
        let (x, rows) = self.before_last(images, prompts, additions, 0);
        let of_heads = self.last().attention_of_first(&x, additions.to(self.blocks.len() - 1, rows.as_ref()));
        of_heads.mean_dim([1i64].as_slice(), false, Kind::Float)
    }

    fn last(&self) -> &Block {
        self.blocks.last().expect("a transformer has blocks")
    }

    /// What the last block reads `(B, tokens, width)`, and the numbers of its rows, where additions draw by them.
    fn before_last(
        &self,
        images: &Tensor,
        prompts: &VisionPrompts,
        additions: &Additions,
        first: i64,
    ) -> (Tensor, Option<Tensor>) {
        let mut x = self.embed(images);
        if let Some(shallow) = &prompts.shallow {
            x = self.append(&x, shallow);
        }
        x = self.ln_pre.forward(&x);
        let rows = additions.draw().then(|| rows_of_images(images, first, x.size()[1]));
        let last = self.blocks.len() - 1;
        for (index, block) in self.blocks.iter().enumerate() {
            if let Some(deep) = index.checked_sub(1).and_then(|index| prompts.deep.get(index)) {
                x = self.replace(x, deep);
            }
            if index < last {
                x = block.forward(&x, false, additions.to(index, rows.as_ref()));
            }
        }
        (x, rows)
    }

    /// `x` `(B, L, width)` with `prompt` `(n, width)` behind it.
    fn append(&self, x: &Tensor, prompt: &Tensor) -> Tensor {
        Tensor::cat(&[x, &self.prompt_kind.rows(prompt, x)], 1)
    }

    /// `x` `(B, L, width)`, which nobody else reads, with `prompt` `(n, width)` in place of its last rows.
    fn replace(&self, x: Tensor, prompt: &Tensor) -> Tensor {
        let kept = x.size()[1] - prompt.size()[0];
        if records_gradients() {
            return self.append(&x.narrow(1, 0, kept), prompt);
        }
        x.narrow(1, kept, prompt.size()[0]).copy_(&self.prompt_kind.rows(prompt, &x));
        x
    }

    /// Class token and patches with their positions, `(B, 1 + patches, width)`.
    fn embed(&self, images: &Tensor) -> Tensor {
        let size = self.conv1.size();
        let (width, patch) = (size[0], size[2]);
        let images = images.to_kind(self.conv1.kind());
        let patches = match images.device().is_cuda() {
            // The convolution is a product; cards have fast ways for products of any size.
            true => self.cut(&images, patch).linear(&self.conv1.flatten(1, -1), None::<&Tensor>),
            false => {
                let patches = images.conv2d(&self.conv1, None::<&Tensor>, [patch, patch], [0, 0], [1, 1], 1);
                patches.flatten(2, -1).transpose(1, 2)
            }
        };
        let patches = patches.to_kind(self.class_embedding.kind());
        let class = self.class_embedding.expand([patches.size()[0], 1, width], false);
        Tensor::cat(&[class, patches], 1) + &self.positional_embedding
    }

    /// Images `(B, 3, R, R)` in patches of so many pixels a side, `(B, patches, 3 * patch * patch)`.
    fn cut(&self, images: &Tensor, patch: i64) -> Tensor {
        let [count, channels, height, width] = images.size()[..] else { unreachable!("images have four axes") };
        let [rows, columns] = [height / patch, width / patch];
        let whole = images.narrow(2, 0, rows * patch).narrow(3, 0, columns * patch);
        let cut = whole.reshape([count, channels, rows, patch, columns, patch]).permute([0, 2, 4, 1, 3, 5]);
        cut.reshape([count, rows * columns, channels * patch * patch])
    }
}
