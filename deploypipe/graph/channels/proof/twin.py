"""A model's twin in whole numbers: the same graph, the same zeros, arithmetic without rounding.

    Conv(x, w, b)  becomes  Conv(x, w', b')    w' from -2, -1, 1, 2 where w is not zero
                                               b' from -4, -2, -1, 1, 2, 4 where b is not zero

A BatchNormalization scales by its scale alone, and what is not a whole number behind a function is
rounded (see ``stand_ins``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from deploypipe.graph.channels.proof.stand_ins import insert_stand_ins
from deploypipe.graph.constants import constant_of, input_of
from deploypipe.graph.shapes import infer_shapes

Array = npt.NDArray[Any]


class NoTwin(Exception):  # noqa: N818
    """The model has no twin in whole numbers; the message says why."""


_WEIGHTS = np.array([-2, -1, 1, 2], np.int8)
_OFFSETS = np.array([-4, -2, -1, 1, 2, 4], np.int8)

_ANY = (0, 1, 2, 3)
_WEIGHT_INPUTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "PRelu"), (1,)),
    **dict.fromkeys(("Concat", "Einsum", "MatMul", "Mul", "Div"), _ANY),
    **dict.fromkeys(("Gather", "Expand", "Flatten", "Identity", "Reshape", "Slice"), (0,)),
    **dict.fromkeys(("Squeeze", "Transpose", "Unsqueeze"), (0,)),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "LayerNormalization"), (1,)),
    **dict.fromkeys(("GroupNormalization", "RMSNormalization"), (1,)),
    "Gemm": (0, 1),
}
_OFFSET_INPUTS = {
    **dict.fromkeys(("Add", "Sub", "Sum"), _ANY),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "BatchNormalization"), (2,)),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), (2,)),
    "Where": (1, 2),
}

_NO_TWIN = frozenset({"GRU", "If", "LSTM", "Loop", "RNN", "Scan", "SequenceMap"})


def integer_twin(model: ir.Model, seed: int = 0) -> ir.Model:
    """The twin of ``model``, which stays as it is.

    Raises:
        NoTwin: the opset is older than 11, or an op keeps sums or a subgraph to itself.
    """
    twin = model.clone()
    InlinePass()(twin)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(twin)
    infer_shapes(twin)
    if twin.graph.opset_imports.get("", 0) < 11:
        raise NoTwin("opsets before 11 have no Round")
    rng = np.random.default_rng(seed)
    for value in list(twin.graph.initializers.values()):
        _draw(value, rng)
    for node in list(twin.graph):
        if node.op_type in _NO_TWIN:
            raise NoTwin(node.op_type)
        _settle_norm(node)
    insert_stand_ins(twin.graph)
    infer_shapes(twin)
    return twin


def whole_feeds(feeds: dict[str, Array], seed: int = 0) -> dict[str, Array]:
    """``feeds`` with every float drawn anew from -2 ... 2, shapes and dtypes kept."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(-2, 3, array.shape).astype(array.dtype) if _is_float(array) else array
        for name, array in feeds.items()
    }


def _draw(value: ir.Value, rng: np.random.Generator) -> None:
    """Give a constant new numbers if what reads it is arithmetic; zeros and infinities stay."""
    array, choices = constant_of(value), _choices(value)
    if array is None or choices is None or not _is_float(array):
        return
    drawn = choices.astype(array.dtype)[rng.integers(0, len(choices), array.shape, np.int8)]
    drawn = np.where((array == 0) | ~np.isfinite(array), array, drawn)
    value.const_value = ir.tensor(drawn, name=value.name)


def _choices(value: ir.Value) -> Array | None:
    for node, index in value.uses():
        if index in _WEIGHT_INPUTS.get(node.op_type, ()):
            return _WEIGHTS
        if index in _OFFSET_INPUTS.get(node.op_type, ()):
            return _OFFSETS
    return None


def _settle_norm(node: ir.Node) -> None:
    """Let a BatchNormalization be ``scale * x + bias`` with exactly these numbers."""
    if node.op_type != "BatchNormalization":
        return
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)
    for index, fill in ((3, 0), (4, 1)):
        value = input_of(node, index)
        array = constant_of(value)
        if value is None or array is None:
            raise NoTwin("BatchNormalization whose statistics are not constant")
        value.const_value = ir.tensor(np.full_like(array, fill), name=value.name)


def _is_float(array: Array) -> bool:
    return ir.DataType.from_numpy(array.dtype).is_floating_point()
