"""How many of a classifier's answers the noise at its outputs will change, foretold without labels.

An answer is the largest of a sample's outputs.  It changes where the noise exceeds its lead over
another one.  With independent Gaussian noise of standard deviation s on each, that happens with the
probability that a normal variable exceeds lead / (s sqrt 2); over several rivals the sum is an upper
bound (Boole).  Leads are known from every calibration sample, so that far fewer samples are needed
than to see answers change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

LEADERS = 8
"""The largest outputs of each sample that are kept; rivals behind them hardly ever win."""
_HALVINGS = 40
_MOST_DB = 120.0
"""float32 is no more exact than that."""
_PROBABILITIES = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})


@dataclass(frozen=True)
class Margins:
    """Of each sample, in an order of their own: float32 [samples, 2..8] the largest outputs,
    descending, and float64 [samples] the mean square of all of them."""

    leaders: npt.NDArray[np.float32]
    powers: npt.NDArray[np.float64]

    @cached_property
    def _leads(self) -> npt.NDArray[np.float64]:
        """float64 [samples, rivals], relative to the root mean square of the outputs, over sqrt 2."""
        wide = self.leaders.astype(np.float64)
        size = math.sqrt(float(self.powers.mean())) or 1.0
        return (wide[:, :1] - wide[:, 1:]) / (size * math.sqrt(2))

    def kept(self, sqnr_db: float) -> float:
        """The share of the answers that are expected to stay with so many dB at the outputs."""
        deviation = 10 ** (-sqnr_db / 20)
        lost = _beyond(self._leads / deviation).sum(axis=1)
        return float(1 - np.minimum(lost, 1).mean())

    def decibels(self, share: float) -> float:
        """The least SQNR with which that share is expected to stay; rounded up to a tenth."""
        low, high = -20.0, _MOST_DB
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.kept(middle) >= share else (middle, high)
        return math.ceil(10 * high - 1e-6) / 10


@dataclass
class Collector:
    """Gathers margins from batches that come in any order, which leaves no trace."""

    classes: int
    leaders: list[npt.NDArray[np.float32]] = field(default_factory=list)
    powers: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, outputs: npt.NDArray[np.float32]) -> None:
        """float32 [samples * classes] of some samples."""
        rows = outputs.reshape(-1, self.classes)
        rows = rows[np.isfinite(rows.max(axis=1))]  # what is masked may be minus infinity
        finite = np.isfinite(rows)
        squares = np.square(np.where(finite, rows, 0), dtype=np.float64)
        self.leaders.append(-np.sort(-rows, axis=1)[:, :LEADERS])
        self.powers.append(squares.sum(axis=1) / np.maximum(finite.sum(axis=1), 1))

    def margins(self) -> Margins | None:
        """Of all; None if there are none."""
        if not sum(map(len, self.powers)):
            return None
        leaders, powers = np.concatenate(self.leaders), np.concatenate(self.powers)
        order = np.lexsort((powers, *leaders.T))
        return Margins(leaders[order], powers[order])


def answers_of(model: ir.Model) -> tuple[str, int] | None:
    """Name and width of the output that holds a classifier's answers: the only one, [N, classes]."""
    if why_no_answers(model):
        return None
    (output,), shape = model.graph.outputs, model.graph.outputs[0].shape
    return str(output.name), int(shape[1])  # type: ignore[index,arg-type]


def why_no_answers(model: ir.Model) -> str | None:
    """Why margins tell nothing of this model; None if they do."""
    outputs = model.graph.outputs
    if len(outputs) != 1:
        return f"it has {len(outputs)} outputs"
    (output,), shape = outputs, outputs[0].shape
    classes = shape[1] if shape is not None and len(shape) == 2 else None
    if output.dtype not in (None, ir.DataType.FLOAT) or not isinstance(classes, int) or classes < 2:
        return f"its output '{output.name}' is not float [N, classes], with two classes or more"
    producer = output.producer()
    if producer is None:
        return f"its output '{output.name}' is an input"
    if producer.op_type in _PROBABILITIES:
        return f"it ends in {producer.op_type}, behind which noise is not alike for all samples"
    return None


def _beyond(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The probability that a normal variable exceeds each."""
    tails = (0.5 * math.erfc(value / math.sqrt(2)) for value in chain.from_iterable(values))
    return np.fromiter(tails, np.float64, values.size).reshape(values.shape)
