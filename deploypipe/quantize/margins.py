"""How many of a classifier's answers rounding will change, foretold without labels.

An answer is the largest of a sample's outputs.  It changes where noise exceeds its lead over another
one.  If the noise of leads is Gaussian, that happens with the probability that a normal variable
exceeds lead / deviation; over several rivals the sum is an upper bound (Boole).  Leads are known from
every calibration sample and the deviation from a few, so that far fewer samples are needed than to
see answers change.

The deviation is measured on leads, not taken from the outputs' SQNR: on CIFAR's ResNets the outputs
that lead err against each other, by 1.4 to 1.9 times what independent noise would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

RIVALS = 7
"""Of each sample, the next to the largest output that are kept; others hardly ever win."""
_HALVINGS = 60
_LEAST = 1e-7
"""Of the largest lead: float32 is no more exact than that."""
_PROBABILITIES = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
_PASSING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Clip"})


@dataclass(frozen=True)
class Margins:
    """``leads`` float32 [samples, 1..7]: the largest output minus the next ones, ascending; the
    samples are in an order of their own."""

    leads: npt.NDArray[np.float32]

    def kept(self, deviation: float) -> float:
        """The share of the answers that are expected to stay with such noise on the leads."""
        if deviation == 0:
            return 1.0
        lost = _beyond(self.leads / np.float64(deviation)).sum(axis=1)
        return float(1 - np.minimum(lost, 1).mean())

    def deviation(self, share: float) -> float:
        """The largest noise with which that share is expected to stay; 0 if none is so small, because
        too many samples are ties."""
        high = 10 * float(np.max(self.leads, initial=0, where=np.isfinite(self.leads)))
        low = _LEAST * high
        if self.kept(low) < share:
            return 0.0
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.kept(middle) >= share else (low, middle)
        return low


@dataclass
class Collector:
    """Gathers margins from batches that come in any order and from any thread: neither leaves a
    trace."""

    found: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def add(self, outputs: npt.NDArray[Any]) -> None:
        """float32 [samples, classes]; what is not, and samples without a finite answer, are nothing."""
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            rows = outputs[np.isfinite(outputs.max(axis=1))]  # what is masked may be minus infinity
            count = min(RIVALS + 1, rows.shape[1])
            largest = np.sort(np.partition(rows, -count, axis=1)[:, -count:], axis=1)
            self.found.append((largest[:, -1:] - largest[:, -2::-1]).astype(np.float32))

    def margins(self) -> Margins | None:
        """Of all; None if there are none."""
        found = [leads for leads in self.found if len(leads)]
        if len({leads.shape[1] for leads in found}) != 1:
            return None
        leads = np.concatenate(found)
        return Margins(leads[np.lexsort(leads.T)])


def lead_noise(answers: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """Root mean square of the error of leads, of pairs of expected and given outputs [samples,
    classes]; infinite where a NaN or another shape is given.

    Over the half of the samples that are decided most narrowly: only their answers are at stake, and
    their noise may be larger than that of others (resnet56 on CIFAR-10: by a fifth).
    """
    found = [_leads_and_errors(expected, given) for expected, given in answers]
    leads, errors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(leads):
        return 0.0
    narrow = np.argsort(leads, kind="stable")[: (len(leads) + 1) // 2]
    noise = math.sqrt(float(np.square(errors[narrow]).mean()))
    return math.inf if math.isnan(noise) else noise


def _leads_and_errors(
    expected: npt.NDArray[Any], given: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of every sample with a finite answer: its lead over the next one, and how far that is off."""
    sound = np.isfinite(expected.max(axis=1))
    rows, order = np.flatnonzero(sound), np.argsort(-expected[sound], axis=1)
    first, second = order[:, 0], order[:, 1]
    leads = (expected[rows, first] - expected[rows, second]).astype(np.float64)
    if given.shape != expected.shape:
        return leads, np.full(len(leads), np.nan)
    return leads, given[rows, first].astype(np.float64) - given[rows, second] - leads


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
