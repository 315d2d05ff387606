"""The ways to quantize: what is stored and computed in how many bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.core.progress import Progress
from deploypipe.core.shelf import Shelf
from deploypipe.quantize.calibrator import Calibrator
from deploypipe.quantize.correction import Correction
from deploypipe.quantize.decide import Race
from deploypipe.quantize.embeddings import store_tables
from deploypipe.quantize.lookout import Arrays
from deploypipe.quantize.memory import Memory
from deploypipe.quantize.profile import Profile
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.story import CHEAP, Quantized
from deploypipe.runtime import Target


@dataclass(frozen=True)
class Job:
    """All that a method may lean on; those that need no samples look at no ``feeds``.

    ``keep_float`` maps names of nodes to the reason why they are to stay as they are.
    """

    target: Target
    calibrator: Calibrator
    profile: Profile
    feeds: Iterable[Arrays] = ()
    samples: int = 0
    race: Race | None = None
    progress: Progress | None = None
    corrections: Sequence[Correction] = CHEAP
    keep_float: Mapping[str, str] = field(default_factory=dict)
    least_sqnr: float | None = None
    """dB that the outputs are to keep; units go back to float for it."""
    diagnosis: bool = False
    """Whether to tell what every unit loses, and the worst causes."""
    memory: Memory | None = None
    """Where observations are kept, so that they serve again."""


class Method(ABC):
    """One way to quantize.  Options are the constructor's parameters."""

    needs_samples: ClassVar[bool] = False

    @abstractmethod
    def quantize(self, model: ir.Model, job: Job) -> Quantized:
        """A quantized copy; ``model`` stays as it is.

        Raises:
            UserError: the model does not allow it, or nothing of it can be quantized.
        """


METHODS: Shelf[Method] = Shelf("method", "deploypipe.quantize.methods", Method)


def check_names(asked: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise a user's error for a name to keep in float that is no node that could be quantized."""
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UserError(
            f"keep_float names '{unknown[0]}', which is no node that could be quantized"
        )


def finished(
    model: ir.Model,
    rewriter: Rewriter,
    converted: Sequence[str],
    made: Sequence[str],
    reasons: Mapping[str, str],
    embeddings: bool,
) -> Quantized:
    """What a method without samples hands out: ``made`` are its changes, ``reasons`` its refusals.

    With ``embeddings``, large tables become int8 too.

    Raises:
        UserError: nothing was changed.
    """
    result, tables = rewriter.finish(), list[str]()
    if embeddings:
        result, tables = store_tables(result)
    check_worth([*made, *tables], reasons)
    return Quantized(result, True, [*converted, *made, *tables], told(model, reasons), [])


def check_worth(changes: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Raise a user's error if nothing was changed."""
    if not changes:
        first = "; ".join(f"'{name}': {why}" for name, why in list(reasons.items())[:3])
        raise UserError(
            "no weight can be stored in fewer bits",
            then=f"Why: {first}" if first else "It has no large constant weights",
        )


def told(model: ir.Model, reasons: Mapping[str, str], stays: str = "stays float") -> list[str]:
    """A sentence for every node that stays as it is."""
    ops = {node.name or str(node.outputs[0].name): node.op_type for node in model.graph.all_nodes()}
    return [f"{ops.get(name, 'node')} '{name}' {stays}: {why}" for name, why in reasons.items()]
