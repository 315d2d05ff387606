"""What a target can fuse into integer kernels, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from deploypipe.core.shelf import Shelf


class Kind(StrEnum):
    """The ways in which a node can be part of 8-bit arithmetic."""

    CONV = "conv"  # weights; its output must be 8-bit
    LINEAR = "linear"  # weights; its output may be float
    BINARY = "binary"  # all inputs and the output are 8-bit, each with its own scale
    UNARY = "unary"  # pooling, and functions that are tables of 256 numbers
    CONCAT = "concat"
    MOVE = "move"  # input and output share scale and zero point: the bytes only move

    @property
    def has_weight(self) -> bool:
        """Worth quantizing for its own sake; the others follow where all inputs are 8-bit."""
        return self in (Kind.CONV, Kind.LINEAR)


@dataclass(frozen=True)
class Profile:
    """What fuses on one target.  Fields are options; the facts are class variables."""

    kinds: ClassVar[Mapping[str, Kind]] = {}
    """Operator -> how it takes part."""
    folds: ClassVar[frozenset[str]] = frozenset()
    """Activations that vanish between a unit's node and the rounding of its output."""
    reasons: ClassVar[Mapping[str, str]] = {}
    """Operator -> why it stays float."""
    min_opset: ClassVar[int] = 13
    """13 brought the axis of DequantizeLinear, which per-channel weights need."""
    levels: ClassVar[int] = 255
    """Activations are uint8: zero point and values in [0, levels]."""
    weight_bits: int = 8
    """Weights are symmetric: -(2^(bits-1)-1) to 2^(bits-1)-1."""

    def __post_init__(self) -> None:
        if not 2 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits must be in 2..8, got {self.weight_bits}")

    @property
    def weight_limit(self) -> int:
        """The largest weight: 127 for 8 bits."""
        return int(2 ** (self.weight_bits - 1)) - 1


PROFILES: Shelf[Profile] = Shelf("profile", "deploypipe.quantize.profiles", Profile)
