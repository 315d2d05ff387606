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
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

LEADERS = 8
"""The largest outputs of each sample that are kept; rivals behind them hardly ever win."""
_HALVINGS = 40
_MOST_DB = 120.0
"""float32 is no more exact than that."""
_PROBABILITIES = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
_PASSING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Clip"})


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
        """The least SQNR with which that share is expected to stay, rounded up to a tenth; infinite
        if it takes more than float32 has, because too many samples are ties."""
        low, high = -20.0, _MOST_DB
        if self.kept(high) < share:
            return math.inf
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.kept(middle) >= share else (middle, high)
        return math.ceil(10 * high - 1e-6) / 10


@dataclass
class Collector:
    """Gathers margins from batches that come in any order and from any thread: neither leaves a
    trace."""

    found: list[Margins] = field(default_factory=list)

    def add(self, outputs: npt.NDArray[Any]) -> None:
        """float32 [samples, classes]; what is not, and samples without a finite answer, are nothing."""
        if outputs.ndim != 2 or outputs.shape[1] < 2:
            return
        rows = outputs[np.isfinite(outputs.max(axis=1))]  # what is masked may be minus infinity
        finite, count = np.isfinite(rows), min(LEADERS, rows.shape[1])
        squares = np.square(np.where(finite, rows, 0), dtype=np.float64)
        largest = np.partition(rows, -count, axis=1)[:, -count:]
        powers = squares.sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
        self.found.append(Margins(np.sort(largest, axis=1)[:, ::-1], powers))

    def margins(self) -> Margins | None:
        """Of all; None if there are none."""
        widths = {one.leaders.shape[1] for one in self.found if len(one.powers)}
        if len(widths) != 1:
            return None
        leaders = np.concatenate([one.leaders for one in self.found])
        powers = np.concatenate([one.powers for one in self.found])
        order = np.lexsort((powers, *leaders.T))
        return Margins(leaders[order], powers[order])


def answers_of(model: ir.Model) -> str | None:
    """The output that holds a classifier's answers: the only one, logits [N, classes]."""
    return None if why_no_answers(model) else str(model.graph.outputs[0].name)


def why_no_answers(model: ir.Model) -> str | None:
    """Why margins tell nothing of this model; None if they do."""
    outputs = model.graph.outputs
    if len(outputs) != 1:
        return f"it has {len(outputs)} outputs"
    (output,), shape = outputs, outputs[0].shape
    flat = shape is not None and len(shape) == 2 and shape[1] not in (0, 1)
    if output.dtype not in (None, ir.DataType.FLOAT) or not flat:
        return f"its output '{output.name}' is not float [N, classes], with two classes or more"
    producer = output.producer()
    while producer is not None and producer.op_type in _PASSING:
        producer = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    if producer is None:
        return f"its output '{output.name}' is an input"
    if producer.op_type in _PROBABILITIES:
        return f"it ends in {producer.op_type}, and noise on probabilities is not alike for all samples"
    return None


def _beyond(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The probability that a normal variable exceeds each."""
    tails = (0.5 * math.erfc(value / math.sqrt(2)) for value in chain.from_iterable(values))
    return np.fromiter(tails, np.float64, values.size).reshape(values.shape)
