"""What a target can fuse into integer kernels, as data."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
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
    RESIDUAL = "residual"  # a sum that ends a convolution: only the other branch is 8-bit

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
    """Activations take the values 0 to ``levels``, stored as uint8."""
    signed: ClassVar[bool] = False
    """Activations are stored as int8 instead: 128 less."""
    symmetric: ClassVar[bool] = False
    """The zero point of every activation is the middle one."""
    float_outputs: ClassVar[frozenset[Kind]] = frozenset({Kind.LINEAR})
    """Kernels that take 8 bits and give floats; all others round their output."""
    int32_bias: ClassVar[bool] = True
    """The bias of a Gemm is stored as int32; else all biases stay float."""
    pair_limit: ClassVar[int | None] = None
    """Largest sum of two neighbouring weights' magnitudes, where kernels add two products in 16
    bits; None where they have 32."""
    machines: ClassVar[frozenset[str]] = frozenset()
    """``platform.machine()`` of the processors that it is about; none: any."""
    flags: ClassVar[frozenset[str]] = frozenset()
    """Instruction sets, any of which makes a processor one of them."""
    without: ClassVar[frozenset[str]] = frozenset()
    """Instruction sets that make a processor another one, with other times."""
    provider: ClassVar[str] = "CPUExecutionProvider"
    """The execution provider of ONNX Runtime that the facts are about."""
    weight_bits: int = 8
    """Weights are symmetric: -(2^(bits-1)-1) to 2^(bits-1)-1."""

    def __post_init__(self) -> None:
        if not 2 <= self.weight_bits <= 8:
            raise ValueError(f"weight_bits must be in 2..8, got {self.weight_bits}")

    def elsewhere(self, provider: str) -> str | None:
        """Why what ``provider`` makes of a model here says nothing about this profile; or None."""
        if provider != self.provider:
            return f"it is for {self.provider}, the target is {provider}"
        machine = platform.machine().lower()
        if self.machines and machine not in self.machines:
            return f"it is for {'/'.join(sorted(self.machines))}, this machine is {machine}"
        return None

    def strange(self, flags: Collection[str]) -> str | None:
        """Why times of a processor with these instruction sets say nothing about this profile."""
        if self.flags and not self.flags & set(flags):
            return f"this processor has none of {', '.join(sorted(self.flags))}"
        if others := sorted(self.without & set(flags)):
            return f"it is for processors without {others[0]}"
        return None

    def resolve(self) -> Profile:
        """The profile itself, or for a name that depends on the machine the one that fits here."""
        return self

    @property
    def weight_limit(self) -> int:
        """The largest weight: 127 for 8 bits."""
        return int(2 ** (self.weight_bits - 1)) - 1


PROFILES: Shelf[Profile] = Shelf("profile", "deploypipe.quantize.profiles", Profile)
