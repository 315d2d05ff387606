"""Which residual branches are missed least.

A residual network works like an ensemble of paths, and most single branches can be taken away
without much harm (Veit, Wilber & Belongie 2016, arXiv:1605.06431).  Where a runtime's cost per layer is
more than its arithmetic, a branch fewer saves what no narrower layer can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from deploypipe.compress.masks import Mask, apply_masks
from deploypipe.compress.training import call, tensors_of
from deploypipe.core.progress import Progress
from deploypipe.data import Split

SAMPLES = 256


@dataclass(frozen=True)
class Lesion:
    """A branch, called ``name``, without which the answers move by ``divergence`` (KL, nats, mean
    over samples)."""

    name: str
    parameters: tuple[str, ...]
    divergence: float


def least_missed(
    module: nn.Module,
    branches: Mapping[str, Sequence[str]],
    split: Split,
    count: int,
    progress: Progress,
) -> list[Lesion]:
    """Take branches away one after the other, each time the one that is missed least.

    ``branches`` maps a name to the parameters that are zero without it.  ``module`` is left as it
    was.  The divergence is from the whole module's answers on the first `SAMPLES` samples.
    """
    state = {name: value.detach().clone() for name, value in module.named_parameters()}
    batch = split.batch(range(min(SAMPLES, len(split))))
    inputs, _ = tensors_of(batch)
    module.eval()
    gone: list[Lesion] = []
    rounds = range(len(branches), len(branches) - count, -1)
    with torch.no_grad(), progress.task("branches", sum(rounds)) as task:
        expected = call(module, inputs).flatten(1).log_softmax(1)
        while len(gone) < count:
            tried = []
            for name in branches.keys() - {one.name for one in gone}:
                without = [*(p for one in gone for p in one.parameters), *branches[name]]
                apply_masks(module, whole_masks(module, without))
                answers = call(module, inputs).flatten(1).log_softmax(1)
                moved = nn.functional.kl_div(
                    answers, expected, reduction="batchmean", log_target=True
                )
                tried.append(Lesion(name, tuple(branches[name]), float(moved)))
                _put_back(module, state)
                task.advance(1)
            gone.append(min(tried, key=lambda one: (one.divergence, one.name)))
    return gone


def whole_masks(module: nn.Module, names: Sequence[str]) -> list[Mask]:
    """Masks over all of these parameters."""
    parameters = dict(module.named_parameters())
    # A scalar has no axis, and is one row all the same.
    rows = {name: parameters[name].shape[:1].numel() for name in names}
    return [Mask(name, 0, tuple(range(rows[name]))) for name in names]


def _put_back(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    for name, value in module.named_parameters():
        value.copy_(state[name])
