"""A training step of VPT (deep vision prompting) as the published code computes it, in plain PyTorch: ViT-B/16, eight tokens, twelve
blocks, fp32, a batch of 4, 50 classes, random weights. To compare with `maple-pipe bench step --method vpt --classes 50 --precision
fp32 --threads N` in the same hour of the same machine: `python published_vpt.py N`, with the PyTorch of scripts/libtorch.txt.

The model is `VisionTransformer` of clip/model.py with its `ResidualAttentionBlock_IVLP`: nn.MultiheadAttention, tokens behind the
patches, replaced in front of every block. The texts are constants, as in the trainer.
"""

import sys
import time

import torch
from torch import nn

WIDTH, HEADS, BLOCKS, TOKENS, BATCH, CLASSES, STEPS = 768, 12, 12, 8, 4, 50, 6
torch.set_num_threads(int(sys.argv[1]))


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, is_first):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), QuickGELU(), nn.Linear(4 * WIDTH, WIDTH))
        if not is_first:
            self.VPT_shallow = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.02)

    def forward(self, x):
        if hasattr(self, "VPT_shallow"):
            tokens = self.VPT_shallow.expand(x.shape[1], -1, -1).permute(1, 0, 2)
            x = torch.cat([x[: x.shape[0] - TOKENS], tokens], dim=0)
        normalised = self.ln_1(x)
        x = x + self.attn(normalised, normalised, normalised, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 16, 16, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH) * 0.02)
        self.positional_embedding = nn.Parameter(torch.randn(197, WIDTH) * 0.02)
        self.VPT = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.02)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Sequential(*[Block(block == 0) for block in range(BLOCKS)])
        self.proj = nn.Parameter(torch.randn(WIDTH, 512) * 0.02)

    def forward(self, x):
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1) + self.positional_embedding
        x = torch.cat([x, self.VPT.expand(x.shape[0], -1, -1)], dim=1)
        x = self.transformer(self.ln_pre(x).permute(1, 0, 2)).permute(1, 0, 2)
        return self.ln_post(x[:, 0]) @ self.proj


model = Vision()
for name, parameter in model.named_parameters():
    parameter.requires_grad_("VPT" in name)
learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.SGD(learned, lr=0.0025, momentum=0.9, weight_decay=5e-4)
images, labels = torch.randn(BATCH, 3, 224, 224), torch.randint(0, CLASSES, (BATCH,))
texts = nn.functional.normalize(torch.randn(CLASSES, 512), dim=-1)

seconds = []
for _ in range(STEPS):
    start = time.time()
    features = nn.functional.normalize(model(images), dim=-1)
    loss = nn.functional.cross_entropy(100 * features @ texts.t(), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()
    seconds.append(time.time() - start)
# The first step is slower.
print(f"{sorted(seconds[1:])[STEPS // 2 - 1]:.3f} s a step, the median of {STEPS - 1}")
