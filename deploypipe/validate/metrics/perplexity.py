"""How many tokens a language model hesitates between: the exponential of its mean loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deploypipe.validate import Estimator, Metric, of_means


@dataclass(frozen=True)
class Perplexity(Metric):
    """exp of the mean negative log likelihood of the labels, over all tokens of all samples.

    The label at a place is the token that the output there is to predict: labels come shifted.
    ``ignore`` marks places that do not count.  A row is (sum of losses in nats, tokens).
    """

    ignore: int = -100

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "perplexity"
    takes: ClassVar[str] = "outputs [N, tokens, vocabulary] and labels [N, tokens]"

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if outputs.ndim < 2 or labels.shape != outputs.shape[:-1]:
            raise self.refuse(outputs, labels)
        logits = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        tokens = labels.reshape(len(labels), -1)
        counted = tokens != self.ignore
        _check_tokens(tokens[counted], outputs.shape[-1])
        picked = np.where(counted, tokens, 0).astype(np.int64)
        loss = np.where(counted, _losses(logits, picked), 0.0)
        return np.stack([loss.sum(axis=1), counted.sum(axis=1)], axis=1).astype(np.float64)

    def estimator(self, rows: np.ndarray) -> Estimator:
        return of_means(rows, _perplexity)


def _check_tokens(tokens: np.ndarray, vocabulary: int) -> None:
    wrong = (tokens != np.floor(tokens)) | (tokens < 0) | (tokens >= vocabulary)
    if wrong.any():
        raise ValueError(f"label {tokens[wrong][0]} is not one of the model's {vocabulary} tokens")


def _losses(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """-log softmax at the tokens, float64 [N, T], one sample at a time: vocabularies are large."""
    losses = np.empty(tokens.shape)
    for row, (one, wanted) in enumerate(zip(logits, tokens, strict=True)):
        scores = one.astype(np.float64)
        top = scores.max(axis=-1, keepdims=True)
        total = np.log(np.exp(scores - top).sum(axis=-1)) + top[:, 0]
        losses[row] = total - np.take_along_axis(scores, wanted[:, None], axis=-1)[:, 0]
    return losses


def _perplexity(means: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.asarray(np.exp(means[:, 0] / means[:, 1]))
