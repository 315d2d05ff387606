"""LSTM, GRU and RNN: the hidden units are the channels.

    h' = o * tanh(f * c + i * tanh(Wc x + Rc h + b))      gates i, o, f likewise of x and h

A unit whose candidate is zero stays zero from an initial state of zero, whatever its gates say.
A unit goes also where nobody reads it, neither outside nor, by their columns of R, the units that
somebody reads.  It goes from both directions at once, since they lie side by side in Y.  A constant
input goes into the bias: no step of time is padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, Tie, axis_size
from deploypipe.graph.channels.linear import set_array
from deploypipe.graph.channels.rule import (
    LIVE,
    Absorb,
    Constants,
    Kept,
    Needs,
    Rule,
    Sink,
    Values,
    integer,
)
from deploypipe.graph.constants import add_initializer, constant_of, input_of

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""The candidate is the last of them."""
_THROUGH_ZERO = frozenset({"tanh", "relu", "leakyrelu", "elu", "softsign", "scaledtanh"})


class Recurrent(Rule):
    """Constant weights, [directions, gates * units, ...], and batches behind the time."""

    ops: ClassVar[frozenset[str]] = frozenset(_GATES)
    outputs: ClassVar[int | None] = None

    @property
    def y(self) -> ir.Value:
        return self._results[0][0]

    def refusal(self) -> str | None:
        if any(constant_of(value) is None for value in self._parameters if value is not None):
            return "has weights that are computed"
        if integer(self.node, "layout", 0):
            return "has its batches before the time"
        axes = [(self.x, 2), *self._results]
        unknown = any(axis_size(*axis) is None for axis in axes)
        return "has an unknown number of channels" if unknown else None

    def ties(self) -> Iterable[Tie | None]:
        unit = self._results[0]
        for other in (*self._results[1:], *self._states):
            yield Tie.same(other, unit)
        weights, hidden, bias, peephole = self._parameters
        for value in (value for value in (weights, hidden, bias, peephole) if value is not None):
            rows = np.arange(axis_size(value, 1) or 0)
            yield Tie((value, 1), unit, rows, rows % self._units)
        assert hidden is not None
        assert weights is not None
        yield Tie.same((hidden, 2), unit)
        yield Tie.same((self.x, 2), (weights, 2))

    def sinks(self) -> Iterable[Sink]:
        size = axis_size(self.x, 2) or 0
        reads = (self._weights != 0).any((0, 1, 2))
        bias = self._parameters[2]
        alone = bias is None or len(bias.uses()) == 1  # another node would see the change
        absorb = Absorb.FOLD if alone else Absorb.NOT
        yield Sink((self.x, 2), absorb, reads, np.zeros(size, np.int64))

    def values(self, known: Values) -> None:
        zero = self._zero(known)
        for axis in self._results:
            known[axis] = np.where(zero, 0.0, LIVE)

    def demand(self, needs: Needs, known: Values) -> None:
        # What a unit that is zero in any case reads into its gates changes nothing.
        candidate = np.arange(_GATES[self.node.op_type]) == _GATES[self.node.op_type] - 1
        counts = candidate[:, None] | ~self._zero(known)[None, :]
        readers = ((self._hidden != 0) & counts[..., None]).any((0, 1))
        wanted = np.any([needs.of(*axis) for axis in self._results], axis=0)
        while (more := wanted | readers[wanted].any(0)).sum() > wanted.sum():
            wanted = more
        for axis in (*self._results, *self._states):
            needs.add(*axis, wanted)
        inputs = ((self._weights != 0) & counts[..., None]).any((0, 1))
        needs.add(self.x, 2, inputs[wanted].any(0))

    def compensate(self, axis: Axis, gone: Constants, kept: Kept) -> None:
        delta = self._weights[..., gone.index].astype(np.float64) @ gone.values
        bias = self._parameters[2]
        if bias is not None:
            array = constant_of(bias)
            assert array is not None  # refusal() saw to it
            total = array.astype(np.float64)
            total[:, : total.shape[1] // 2] += delta.reshape(len(delta), -1)
            set_array(bias, total.astype(array.dtype))
            return
        left = delta[..., kept.index(*self._results[0])].reshape(len(delta), -1)
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        whole = np.concatenate([left, np.zeros_like(left)], 1).astype(self._weights.dtype)
        self.node.resize_inputs(max(4, len(self.node.inputs)))
        new = add_initializer(graph, f"{self.y.name}.bias", whole)
        self.node.replace_input_with(3, new)

    def rewrite(self, kept: Kept) -> None:
        left = kept.count(*self._results[0])
        self.node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", left)

    def _zero(self, known: Values) -> np.ndarray:
        """bool [units]: zero at every step, in all directions."""
        if not self._keeps_zero():
            return np.zeros(self._units, bool)
        starts = [known.of(*axis) == 0 for axis in self._states]
        inputs = known.of(self.x, 2) != 0  # NaN != 0 as well
        moved = ((self._weights[:, -1] != 0) & inputs).any((0, -1)) | self._shifted()
        zero = np.all(starts, axis=0) & ~moved
        readers = (self._hidden[:, -1] != 0).any(0)
        while (less := zero & ~readers[:, ~zero].any(1)).sum() < zero.sum():
            zero = less
        return np.asarray(zero)

    def _shifted(self) -> np.ndarray:
        """bool [units]: the candidate has a bias."""
        array = constant_of(self._parameters[2])
        if array is None:
            return np.zeros(self._units, bool)
        of_inputs, of_units = self._split(array[..., None], 2)[:, :, -1, :, 0].swapaxes(0, 1)
        if self.node.op_type == "GRU":  # the reset gate may stand between the two
            return np.asarray(((of_inputs != 0) | (of_units != 0)).any(0))
        return np.asarray((of_inputs + of_units != 0).any(0))

    def _keeps_zero(self) -> bool:
        """Whether the functions of candidate and cell are zero at zero."""
        given = self.node.attributes.get("activations")
        if given is None:
            return True
        each = {"LSTM": 3, "GRU": 2, "RNN": 1}[self.node.op_type]
        names = [name.lower() for name in given.as_strings()]
        gates = 1 if each > 1 else 0  # the first is that of the gates
        return all(name in _THROUGH_ZERO for k, name in enumerate(names) if k % each >= gates)

    @property
    def _parameters(self) -> tuple[ir.Value | None, ...]:
        """Weights of the inputs, of the units, biases, peepholes."""
        w, r, b, p = (input_of(self.node, place) for place in (1, 2, 3, 7))
        return w, r, b, p

    @cached_property
    def _results(self) -> list[Axis]:
        """The units' axis in all outputs that there are."""
        places = zip(self.node.outputs, (3, 2, 2), strict=False)
        return [(value, axis) for value, axis in places if value.name]

    @property
    def _states(self) -> list[Axis]:
        """The units' axis in the initial states that are given."""
        values = (input_of(self.node, place) for place in (5, 6))
        return [(value, 2) for value in values if value is not None]

    @property
    def _units(self) -> int:
        return axis_size(*self._results[0]) or 0

    @cached_property
    def _weights(self) -> np.ndarray:
        """[directions, gates, units, inputs]."""
        return self._split(constant_of(self._parameters[0]))[:, 0]

    @cached_property
    def _hidden(self) -> np.ndarray:
        """[directions, gates, units, units]: who reads whom."""
        return self._split(constant_of(self._parameters[1]))[:, 0]

    def _split(self, array: np.ndarray | None, parts: int = 1) -> np.ndarray:
        """[directions, parts, gates, units, columns]."""
        assert array is not None  # refusal() saw to it
        directions, _, columns = array.shape
        gates = _GATES[self.node.op_type]
        return array.reshape(directions, parts, gates, self._units, columns)
