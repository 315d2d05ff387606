"""Vision transformers of the size "tiny".

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
arXiv:2010.11929; the size is DeiT-Ti of Touvron et al. 2020, "Training data-efficient image
transformers & distillation through attention", arXiv:2012.12877.  Input ``image`` float32 [batch, 3,
size, size] of one fixed size; output logits float32 [batch, classes], read off the class token.

Parameters are called as in timm, ``cls_token pos_embed patch_embed.proj norm head`` and
``blocks.{i}.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def vit_tiny(
    classes: int = 1000, dimensions: int = 192, layers: int = 12, heads: int = 3
) -> nn.Module:
    """For 224x224 images in patches of 16x16: 5.72 M parameters, 1.25 G multiply-adds."""
    return VisionTransformer(224, 16, classes, dimensions, layers, heads)


def vit_tiny_cifar(
    classes: int = 10, dimensions: int = 192, layers: int = 6, heads: int = 3
) -> nn.Module:
    """For 32x32 images in patches of 4x4, half as deep: 2.69 M parameters, 0.18 G multiply-adds."""
    return VisionTransformer(32, 4, classes, dimensions, layers, heads)


class VisionTransformer(nn.Module):
    """Patches and a class token, pre-norm encoder blocks, a linear classifier."""

    def __init__(
        self, size: int, patch: int, classes: int, dimensions: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        tokens = (size // patch) ** 2 + 1
        self.patch_embed = Patches(patch, dimensions)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dimensions))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, dimensions))
        self.blocks = nn.Sequential(*(Block(dimensions, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(dimensions, eps=1e-6)
        self.head = nn.Linear(dimensions, classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(initialise)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed(image)
        token = self.cls_token.expand(image.shape[0], -1, -1)
        x = self.blocks(torch.cat((token, patches), 1) + self.pos_embed)
        # The norm acts on each token alone, so the class token's is enough.
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


class Patches(nn.Module):
    """float32 [batch, 3, size, size] -> [batch, (size / patch)^2, dimensions]."""

    def __init__(self, patch: int, dimensions: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dimensions, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        pixels: Tensor = self.proj(image)
        return pixels.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """``x -> + attention(norm(x)) -> + mlp(norm(x)) -> y``."""

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dimensions, eps=1e-6)
        self.attn = Attention(dimensions, heads)
        self.norm2 = nn.LayerNorm(dimensions, eps=1e-6)
        self.mlp = Mlp(dimensions, 4 * dimensions)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Attention(nn.Module):
    """``softmax(q k' / sqrt(size of a head)) v`` for each head, on [batch, tokens, dimensions].

    Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762.
    """

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        if dimensions % heads:
            raise ValueError(f"heads must divide dimensions = {dimensions}, got {heads}")
        self.heads = heads
        self.qkv = nn.Linear(dimensions, 3 * dimensions)
        self.proj = nn.Linear(dimensions, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        # Slices, since chunk() is exported as a sequence wherever the exporter does not optimize.
        width, qkv = x.shape[-1], self.qkv(x)
        q, k, v = (self.split(qkv[..., i * width : (i + 1) * width]) for i in range(3))
        scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]))
        y: Tensor = self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return y

    def split(self, x: Tensor) -> Tensor:
        """[batch, tokens, dimensions] -> [batch, heads, tokens, dimensions / heads]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Mlp(nn.Module):
    """``x -> linear -> GELU -> linear -> y`` on every token."""

    def __init__(self, dimensions: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dimensions, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


def initialise(module: nn.Module) -> None:
    """Weights of linear layers from a truncated normal of deviation 0.02, their biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
