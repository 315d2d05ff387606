"""A sentence encoder: BERT, mean-pooled and normalised.

Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv:1810.04805, pooled as in Reimers, Gurevych 2019, "Sentence-BERT: Sentence Embeddings using
Siamese BERT-Networks", arXiv:1908.10084.  Inputs ``input_ids`` and ``attention_mask`` int64 [batch,
length], the mask 1 for a token and 0 for padding; output float32 [batch, dimensions] of length 1, so
that the inner product of two embeddings is their cosine.

Parameters are called as in the ``BertModel`` of transformers, without its pooler.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN_SCORE = -1e4
"""Attention score of padding: its weight is exactly 0, and float16 can hold it."""


def text_encoder(
    vocabulary: int = 30522,
    dimensions: int = 128,
    layers: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    positions: int = 512,
    dropout: float = 0.1,
) -> nn.Module:
    """4.37 M parameters by default, 3.91 M of them the words'.

    ``hidden`` is the width between a layer's two linear maps, 4 * dimensions unless given;
    ``positions`` the greatest length.
    """
    return TextEncoder(
        Embeddings(vocabulary, dimensions, positions, dropout),
        [Layer(dimensions, heads, hidden or 4 * dimensions, dropout) for _ in range(layers)],
    )


class TextEncoder(nn.Module):
    """Embeddings, post-norm encoder layers, the mean over the tokens, divided by its norm."""

    def __init__(self, embeddings: Embeddings, layers: list[Layer]) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.encoder = Layers(layers)
        self.apply(initialise)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.encoder(self.embeddings(input_ids), (attention_mask == 0)[:, None, None, :])
        return normalise(mean_over_tokens(x, attention_mask))


def mean_over_tokens(x: Tensor, attention_mask: Tensor) -> Tensor:
    """[batch, length, dimensions] -> [batch, dimensions]; zero where the mask leaves no token."""
    mask = attention_mask.to(x.dtype)[:, :, None]
    return (x * mask).sum(1) / mask.sum(1).clamp(min=1.0)


def normalise(x: Tensor) -> Tensor:
    """Each row divided by its length.  As F.normalize, which would export an Expand of the length."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp(min=1e-12)


class Embeddings(nn.Module):
    """int64 [batch, length] -> float32 [batch, length, dimensions]: word + position + type 0."""

    def __init__(self, vocabulary: int, dimensions: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dimensions)
        self.position_embeddings = nn.Embedding(positions, dimensions)
        self.token_type_embeddings = nn.Embedding(2, dimensions)
        self.LayerNorm = nn.LayerNorm(dimensions, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        where = self.position_embeddings(places) + self.token_type_embeddings.weight[0]
        x: Tensor = self.dropout(self.LayerNorm(self.word_embeddings(input_ids) + where))
        return x


class Layers(nn.Module):
    """The encoder's layers, one after the other, under the same padding."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, padding)
        return x


class Layer(nn.Module):
    """``x -> norm(x + attention(x)) -> norm(x + mlp(x)) -> y``."""

    def __init__(self, dimensions: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        inner = {
            "self": Attention(dimensions, heads),
            "output": Add(dimensions, dimensions, dropout),
        }
        self.attention = nn.ModuleDict(inner)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(dimensions, hidden)})
        self.output = Add(hidden, dimensions, dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, padding), x)
        y: Tensor = self.output(F.gelu(self.intermediate["dense"](x)), x)
        return y


class Attention(nn.Module):
    """``softmax(q k' / sqrt(size of a head)) v`` for each head, on [batch, length, dimensions].

    Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762.  ``padding`` is bool
    [batch, 1, 1, length]; where it is true no token looks.
    """

    def __init__(self, dimensions: int, heads: int) -> None:
        super().__init__()
        if dimensions % heads:
            raise ValueError(f"heads must divide dimensions = {dimensions}, got {heads}")
        self.heads = heads
        self.query = nn.Linear(dimensions, dimensions)
        self.key = nn.Linear(dimensions, dimensions)
        self.value = nn.Linear(dimensions, dimensions)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        q, k, v = (self.split(part(x)) for part in (self.query, self.key, self.value))
        scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]))
        weights = scores.masked_fill(padding, HIDDEN_SCORE).softmax(-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def split(self, x: Tensor) -> Tensor:
        """[batch, length, dimensions] -> [batch, heads, length, dimensions / heads]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Add(nn.Module):
    """``norm(x + dense(y))``: a sublayer's last linear map and its way back into the stream."""

    def __init__(self, inputs: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, dimensions)
        self.LayerNorm = nn.LayerNorm(dimensions, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        z: Tensor = self.LayerNorm(x + self.dropout(self.dense(y)))
        return z


def initialise(module: nn.Module) -> None:
    """Weights from a normal of deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
