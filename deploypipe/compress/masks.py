"""Masks: which indices of which parameters are dead, as data, and held at zero while training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from deploypipe.core.files import Json


@dataclass(frozen=True)
class Mask:
    """The dead positions along one axis of a parameter."""

    parameter: str
    axis: int
    dead: tuple[int, ...]


def apply_masks(module: torch.nn.Module, masks: Iterable[Mask]) -> None:
    """Set the masked weights to zero, in place."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for mask in masks:
            index = torch.tensor(mask.dead)
            parameters[mask.parameter].index_fill_(mask.axis, index, 0)


def dense_masks(
    module: torch.nn.Module, masks: Iterable[Mask]
) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Each masked parameter with a tensor of its shape: one where it lives, zero where dead."""
    parameters = dict(module.named_parameters())
    dense: dict[str, torch.Tensor] = {}
    for mask in masks:
        ones = dense.setdefault(mask.parameter, torch.ones_like(parameters[mask.parameter]))
        ones.index_fill_(mask.axis, torch.tensor(mask.dead), 0)
    return [(parameters[name], tensor.detach()) for name, tensor in dense.items()]


def masks_to_json(masks: Sequence[Mask]) -> Json:
    """Plain JSON, for ``masks.json``."""
    return [{"parameter": m.parameter, "axis": m.axis, "dead": list(m.dead)} for m in masks]


def masks_from_json(value: Json) -> list[Mask]:
    """The inverse of :func:`masks_to_json`."""
    return [Mask(m["parameter"], m["axis"], tuple(m["dead"])) for m in value]
