"""What it costs here to turn floats into 8 bits and back, measured on this target.

Between convolutions the 8-bit kernels want channels last and the float kernels channels in blocks,
so a tensor of images is also transposed where it changes sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploypipe.graph.files import to_bytes
from deploypipe.runtime import Target

_SIZES = (1 << 12, 1 << 16, 1 << 20)
_CHANNELS = 32
_RUNS = 9


@dataclass(frozen=True)
class Line:
    """Microseconds of a kernel: ``start + slope * elements``."""

    start: float
    slope: float

    def __call__(self, elements: float) -> float:
        return self.start + self.slope * elements


@dataclass(frozen=True)
class Conversions:
    """float32 -> uint8, uint8 -> float32, and uint8 between channels first and last."""

    quantize: Line
    dequantize: Line
    transpose: Line


def measure_conversions(target: Target) -> Conversions:
    """Time each conversion at three sizes and draw a line through them."""
    kinds = (
        ("QuantizeLinear", np.float32),
        ("DequantizeLinear", np.uint8),
        ("Transpose", np.uint8),
    )
    lines = [
        _line(_SIZES, [_microseconds(op, dtype, size, target) for size in _SIZES])
        for op, dtype in kinds
    ]
    return Conversions(*lines)


def _line(sizes: Sequence[int], times: Sequence[float]) -> Line:
    """Through the points, each weighed by its size: what is small costs little anyway."""
    slope, start = np.polyfit(sizes, times, 1, w=1 / np.maximum(times, 1.0))
    return Line(max(float(start), 0.0), max(float(slope), 0.0))


def _microseconds(op: str, dtype: type[np.generic], size: int, target: Target) -> float:
    array = np.ones((1, _CHANNELS, size // _CHANNELS // 64, 64), dtype)
    with target.open(to_bytes(_alone(op, array)), profile=True) as session:
        for _ in range(_RUNS):
            session({"x": array})
        return sum(one.microseconds for one in session.placement())


def _alone(op: str, array: np.ndarray) -> ir.Model:
    """One node on an input like ``array``."""
    x = ir.Value(
        name="x",
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        shape=ir.Shape(array.shape),
    )
    more: list[ir.Value] = []
    attributes = {"perm": [0, 2, 3, 1]} if op == "Transpose" else None
    if op != "Transpose":
        for name, number in (("scale", np.float32(0.1)), ("zero", np.uint8(0))):
            more.append(ir.Value(name=name, const_value=ir.tensor(number, name=name)))
    node = ir.node(op, [x, *more], attributes)
    y = node.outputs[0]
    y.name, y.type = (
        "y",
        ir.TensorType(ir.DataType.FLOAT if op == "DequantizeLinear" else ir.DataType.UINT8),
    )
    graph = ir.Graph([x], [y], nodes=[node], initializers=more, opset_imports={"": 17}, name="g")
    return ir.Model(graph, ir_version=8)
