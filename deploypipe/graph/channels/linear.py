"""What Conv, ConvTranspose, Gemm and MatMul share: sums over input channels with known weights.

    y[g, o] = sum over i of w[g, o, i] * x[g, i] + b[g, o]

Output o is a constant where every weight that meets a live input is zero, whatever the padding;
input i is needed where some needed output has a weight for it.  A constant input c that goes is
made good for in the bias, which is exact only where no padding can be seen, or by the weights of
one other constant input r:  w[o, r] += w[o, i] * c / c_r, exact for every pad, stride and dilation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import onnx_ir as ir

from deploypipe.graph.channels.cells import Axis, axis_size
from deploypipe.graph.channels.quantized import (
    add_codes,
    codes_exact,
    is_dequantized,
    is_known,
    known_array,
)
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
from deploypipe.graph.constants import add_initializer, constant_of, input_of, is_constant


class Linear(Rule):
    """A sum over the channels of ``x``; subclasses say where the weights' axes lie."""

    @property
    def weights(self) -> ir.Value:
        value = input_of(self.node, 1)
        assert value is not None
        return value

    @property
    def bias(self) -> ir.Value | None:
        return input_of(self.node, 2)

    @property
    def groups(self) -> int:
        """Blocks of outputs that see blocks of inputs."""
        return 1

    @property
    def in_axis(self) -> Axis:
        return self.x, 1

    @property
    def out_axis(self) -> Axis:
        return self.y, 1

    @property
    def scales(self) -> tuple[float, float]:
        """Factors of the product and of the bias."""
        return 1.0, 1.0

    @property
    @abstractmethod
    def borderless(self) -> bool:
        """Whether every output pixel sees all taps."""

    @abstractmethod
    def as_matrix(self, array: np.ndarray) -> np.ndarray:
        """A view of the weights, or of an array like them: [groups, outputs, inputs, taps]."""

    def is_sink(self) -> bool:
        """Whether inputs are summed over; each has its own output in a depthwise convolution."""
        return True

    def refusal(self) -> str | None:
        if not is_known(input_of(self.node, 1)):
            return "has weights that are computed"
        unknown = axis_size(*self.in_axis) is None or axis_size(*self.out_axis) is None
        return "has an unknown number of channels" if unknown else None

    @cached_property
    def nonzero(self) -> np.ndarray:
        """bool [groups, outputs, inputs]: some tap is not zero."""
        return np.asarray((self.as_matrix(self._array()) != 0).any(-1))

    def sinks(self) -> Iterable[Sink]:
        if self.is_sink():
            size = axis_size(*self.in_axis) or 0
            pool = np.arange(size) // max(size // self.groups, 1)
            reads = self.nonzero.any(1).reshape(-1)
            shared = self.weights if len(self.weights.uses()) > 1 else None
            yield Sink(self.in_axis, self._absorb(), reads, pool, shared)

    def values(self, known: Values) -> None:
        given = known.of(*self.in_axis).reshape(self.groups, 1, -1)
        counts = np.isnan(given) if self.borderless else given != 0  # NaN != 0 as well
        live = self._any_input(counts)
        bias = self.bias_values()
        total = bias.copy()
        if self.borderless:
            rows = np.flatnonzero(~live)
            total[rows] += self._constant_part(np.nan_to_num(given[:, 0, :]), rows)
        known[self.out_axis] = np.where(live, LIVE, self._rounded(total))

    def demand(self, needs: Needs, known: Values) -> None:
        wanted = needs.of(*self.out_axis).reshape(self.groups, -1)
        full = wanted.all()
        blocks = [
            self.nonzero[g] if full else self.nonzero[g][wanted[g]] for g in range(len(wanted))
        ]
        needs.add(*self.in_axis, np.concatenate([block.any(0) for block in blocks]))
        axis = self.bias_axis()
        if axis is not None:
            needs.add(*axis, needs.of(*self.out_axis))

    def bias_axis(self) -> Axis | None:
        """The bias' axis that runs along the outputs."""
        bias = self.bias
        return None if bias is None else (bias, 0)

    def bias_values(self) -> np.ndarray:
        """float64 [outputs]: the constant bias, LIVE where it is computed."""
        size = axis_size(*self.out_axis) or 0
        if self.bias is None:
            return np.zeros(size)
        array = known_array(self.bias)
        if array is None or (array.size != 1 and array.shape[-1] != array.size):
            return np.full(size, LIVE)  # it may differ between rows
        return np.broadcast_to(array.reshape(-1).astype(np.float64) * self.scales[1], size).copy()

    def compensate(self, axis: Axis, gone: Constants, kept: Kept) -> None:
        folded = gone.into < 0
        if folded.any():
            self._fold(gone.index[folded], gone.values[folded], kept)
        if not folded.all():
            self._merge(gone, ~folded)

    def _merge(self, gone: Constants, which: np.ndarray) -> None:
        array = self._array()
        new = array.astype(np.float64, "C") if array.itemsize < 4 else array.copy()
        matrix = self.as_matrix(new)
        each = matrix.shape[2]
        triples = zip(gone.index[which], gone.into[which], gone.ratio[which], strict=True)
        for index, into, ratio in triples:
            group = index // each
            matrix[group, :, into % each] += matrix[group, :, index % each] * new.dtype.type(ratio)
        set_array(self.weights, new.astype(array.dtype))

    def _fold(self, index: np.ndarray, values: np.ndarray, kept: Kept) -> None:
        given = np.zeros(axis_size(*self.in_axis) or 0)
        given[index] = values
        outputs = np.arange(axis_size(*self.out_axis) or 0)
        delta = self._constant_part(given.reshape(self.groups, -1), outputs)
        if is_dequantized(self.bias):
            add_codes(self.bias, delta)
        else:
            self.add_to_bias(delta / self.scales[1], kept)

    def add_to_bias(self, delta: np.ndarray, kept: Kept) -> None:
        """Add to the bias, or give the node one of its own: float64 [outputs]."""
        left = delta[kept.index(*self.out_axis)]
        if not left.any():
            return
        array = constant_of(self.bias)
        if self.bias is not None and array is not None and self.bias_axis() is not None:
            set_array(self.bias, (array.astype(np.float64) + delta).astype(array.dtype))
            return
        # There is none, or one that is stretched over the outputs, and perhaps shared.
        total = left + (0.0 if array is None else array.astype(np.float64))
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        bias = add_initializer(graph, f"{self.y.name}.bias", total.astype(self._array().dtype))
        self.node.resize_inputs(3)
        self.node.replace_input_with(2, bias)

    def _constant_part(self, given: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [rows]: what constant inputs, float64 [groups, inputs], add to some outputs."""
        total = np.zeros(len(rows))
        if not len(rows) or not given.any():
            return total
        matrix = self.as_matrix(self._array())
        group, place = np.divmod(rows, matrix.shape[1])
        for one in np.unique(group):
            columns, mine = np.flatnonzero(given[one]), group == one
            for part in np.split(columns, range(512, len(columns), 512)):  # each is copied
                taps = matrix[one][np.ix_(place[mine], part)].sum(-1, dtype=np.float64)
                total[mine] += self.scales[0] * taps @ given[one, part]
        return total

    def _absorb(self) -> Absorb:
        if len(self.weights.uses()) > 1 and not self._shares_weights():
            return Absorb.NOT  # another node would see the change
        if is_dequantized(self.weights):
            exact = self.borderless and self.scales == (1.0, 1.0)
            exact = exact and codes_exact(self.x, self.weights, self.bias)
            return Absorb.FOLD if exact else Absorb.NOT
        if self.bias is not None and not is_constant(self.bias):
            return Absorb.MERGE
        if self.bias is not None and self.bias_axis() and len(self.bias.uses()) > 1:
            return Absorb.MERGE
        return Absorb.FOLD if self.borderless and self.scales[1] else Absorb.MERGE

    def _shares_weights(self) -> bool:
        """Whether all readers of the weights sum with them in this node's way."""
        uses, graph = self.weights.uses(), self.node.graph
        alike = (
            use.idx == 1 and use.node.graph is graph and _way(use.node) == _way(self.node)
            for use in uses
        )
        return (
            self.groups == 1
            and is_constant(self.weights)
            and not self.weights.is_graph_output()
            and all(alike)
        )

    def _any_input(self, counts: np.ndarray) -> np.ndarray:
        """bool [groups * outputs]: some weight meets an input that counts."""
        if counts.all():
            return np.asarray(self._any.reshape(-1))
        if not counts.any():
            return np.zeros(self._any.size, bool)
        return np.asarray((self.nonzero & counts).any(-1).reshape(-1))

    @cached_property
    def _any(self) -> np.ndarray:
        return np.asarray(self.nonzero.any(-1))

    def _rounded(self, total: np.ndarray) -> np.ndarray:
        return total.astype(self._array().dtype).astype(np.float64)

    def _array(self) -> np.ndarray:
        array = known_array(self.weights)
        assert array is not None  # refusal() saw to it
        return array


def _way(node: ir.Node) -> tuple[str, str, int, int]:
    """Nodes alike in this see the same axes of their weights as inputs and outputs."""
    return node.domain, node.op_type, integer(node, "group", 1), integer(node, "transB", 0)


def set_array(value: ir.Value, array: np.ndarray) -> None:
    """Give an initializer another content."""
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.shape = ir.Shape(array.shape)
