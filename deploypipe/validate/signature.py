"""Two models can be compared only where they take and give the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploypipe.core.errors import UserError
from deploypipe.core.tensors import TensorSpec
from deploypipe.runtime import Session


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def shared_inputs(
    reference: Session | Signature, candidate: Session | Signature
) -> tuple[TensorSpec, ...]:
    """The inputs that fit both models: where one has a fixed dimension, it is fixed.

    Raises:
        UserError: inputs or outputs differ in name, dtype, rank or a fixed dimension.
    """
    _matched("output", reference.outputs, candidate.outputs)
    return _matched("input", reference.inputs, candidate.inputs)


def _matched(
    kind: str, reference: Sequence[TensorSpec], candidate: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    theirs = {spec.name: spec for spec in candidate}
    for name in theirs:
        if name not in {spec.name for spec in reference}:
            raise _differ(f"only the candidate has the {kind} '{name}'")
    for spec in reference:
        if spec.name not in theirs:
            raise _differ(f"only the reference has the {kind} '{spec.name}'")
    return tuple(_merged(kind, spec, theirs[spec.name]) for spec in reference)


def _merged(kind: str, reference: TensorSpec, candidate: TensorSpec) -> TensorSpec:
    pairs = list(zip(reference.shape, candidate.shape, strict=False))
    clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
    same = reference.dtype == candidate.dtype and len(reference.shape) == len(candidate.shape)
    if clash or not same:
        raise _differ(f"the {kind} of the reference is {reference}, of the candidate {candidate}")
    shape = tuple(b if isinstance(b, int) else a for a, b in pairs)
    return TensorSpec(reference.name, reference.dtype, shape)


def _differ(what: str) -> UserError:
    return UserError(
        f"the two models do not take and give the same: {what}",
        then="Compare models with equal names, dtypes and shapes",
    )
