"""One graph: cut it, run both, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper

from channel_fuzz.scale import Array
from deploypipe.graph.check import relative_error
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

TOLERANCE, HALF_TOLERANCE = 1e-5, 1e-2
NOISE = 20
"""A difference below so many times what a relative change of 1e-7 of the weights makes is rounding."""

Cut = Callable[[onnx.ModelProto, int], tuple[onnx.ModelProto, bool, list[str]]]
"""(model, round_to) -> the model without its dead channels, whether any went, what was told."""


class Verdict(StrEnum):
    """What came of a graph."""

    EXACT = "exact"
    CLOSE = "close"
    ROUNDING = "rounding"
    WRONG = "wrong"
    BROKEN = "broken"
    DISCARDED = "discarded"

    @property
    def bad(self) -> bool:
        return self in (Verdict.WRONG, Verdict.BROKEN)


@dataclass(frozen=True)
class Trial:
    """The verdict, the largest relative error, whether channels went, and why it is bad."""

    verdict: Verdict
    error: float = 0.0
    cut: bool = False
    why: str = ""


def engine(model: onnx.ModelProto, round_to: int) -> tuple[onnx.ModelProto, bool, list[str]]:
    """The pass, without the proof that would take back what is wrong."""
    copy = ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))
    outcome = DropDeadChannels(round_to, prove=False).call(copy)
    return ir.serde.serialize_model(outcome.model), outcome.modified, outcome.changes


def alarm(model: onnx.ModelProto) -> str:
    """What the pass' own proof says against a removal; empty where it agrees."""
    copy = ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))
    outcome = DropDeadChannels(1).call(copy)
    return "; ".join(line for line in outcome.refusals if "please report" in line)


def attempt(
    model: onnx.ModelProto,
    exact: bool,
    half: bool = False,
    rounds: tuple[int, ...] = (1, 4),
    cut: Cut = engine,
) -> Trial:
    """Cut a graph with each ``round_to`` and compare at batch 1 and 2."""
    try:
        check(model)
        cases = [(feeds, run(model, feeds)) for feeds in feeds_of(model)]
    except Exception as error:  # the generator's fault, or a limit of the runtime: counted
        return Trial(Verdict.DISCARDED, why=_first_line(error))
    if any(not np.isfinite(array).all() for _, found in cases for array in found):
        return Trial(Verdict.DISCARDED, why="answers that are not finite")
    trials = [_compared(model, cases, exact, half, round_to, cut) for round_to in rounds]
    order = list(Verdict)
    worst = max(trials, key=lambda trial: order.index(trial.verdict))
    return Trial(worst.verdict, worst.error, any(trial.cut for trial in trials), worst.why)


Case = tuple[dict[str, Array], list[Array]]


def _compared(
    model: onnx.ModelProto, cases: list[Case], exact: bool, half: bool, round_to: int, cut: Cut
) -> Trial:
    where = f"round_to {round_to}: "
    try:
        after, modified, told = cut(model, round_to)
        check(after)
        error = max(_error(after, feeds, expected) for feeds, expected in cases)
    except Exception as problem:  # whatever the engine or the runtime says, the graph is broken
        return Trial(Verdict.BROKEN, np.inf, True, where + _first_line(problem))
    if error == 0:
        return Trial(Verdict.EXACT, 0.0, modified)
    # Merged into one constant, the weights are scaled by ratios that need not be exact.
    merged = any(line.endswith("into one of them") for line in told)
    why = f"{where}relative error {error:.2g}; " + "; ".join(told)
    if error <= (HALF_TOLERANCE if half else TOLERANCE) and (merged or half or not exact):
        return Trial(Verdict.CLOSE, error, modified)
    if (merged or not exact) and error <= NOISE * _noise(model, cases, half):
        return Trial(Verdict.ROUNDING, error, modified, why)
    return Trial(Verdict.WRONG, error, modified, why)


def _error(model: onnx.ModelProto, feeds: dict[str, Array], expected: list[Array]) -> float:
    given = run(model, feeds)
    if len(given) != len(expected):
        raise ValueError(f"{len(given)} outputs instead of {len(expected)}")
    for a, b in zip(expected, given, strict=True):
        if a.shape != b.shape or not np.isfinite(b).all():
            raise ValueError(f"an output of shape {b.shape}, {a.shape} before, or not finite")
    return max(relative_error(a, b) for a, b in zip(expected, given, strict=True))


def _noise(model: onnx.ModelProto, cases: list[Case], half: bool) -> float:
    """How much the answers move where the weights do by a relative 1e-7 (1e-3 in float16)."""
    rng, found = np.random.default_rng(0), 0.0
    for _ in range(4):
        moved = onnx.ModelProto()
        moved.CopyFrom(model)
        for tensor in moved.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f" and array.ndim:
                step = 1e-3 if half else 1e-7
                array = array * (1 + step * rng.choice([-1, 1], array.shape))
                new = numpy_helper.from_array(array.astype(numpy_helper.to_array(tensor).dtype))
                tensor.raw_data = new.raw_data
        found = max(found, *(_error(moved, feeds, expected) for feeds, expected in cases))
    return found


def check(model: onnx.ModelProto) -> None:
    """onnx's own check, where it knows all ops: of two it holds that no file should have them."""
    unknown = {"SimplifiedLayerNormalization", "GroupNormalization"}
    if model.opset_import[0].version >= 21:
        unknown.remove("GroupNormalization")
    if all(node.op_type not in unknown for node in model.graph.node):
        onnx.checker.check_model(model, full_check=True)


def feeds_of(model: onnx.ModelProto) -> Iterator[dict[str, Array]]:
    """Small whole numbers at batch 1 and 2; once where the file knows the batch."""
    rng = np.random.default_rng(7)
    dims = [list(x.type.tensor_type.shape.dim) for x in model.graph.input]
    dynamic = any(dim and dim[0].dim_param == "N" for dim in dims)
    for batch in (1, 2) if dynamic else (2,):
        feeds = {}
        for x, sizes in zip(model.graph.input, dims, strict=True):
            shape = [_size(dim, batch) for dim in sizes]
            kind = onnx.helper.tensor_dtype_to_np_dtype(x.type.tensor_type.elem_type)
            feeds[x.name] = rng.integers(-3, 4, shape).astype(kind)
        yield feeds


def _size(dim: onnx.TensorShapeProto.Dimension, batch: int) -> int:
    """``N`` is the batch, ``N1_10`` a size that is 10 at batch 2 but need not depend on it."""
    if not dim.dim_param:
        return int(dim.dim_value)
    return batch if dim.dim_param == "N" else int(dim.dim_param.rpartition("_")[2])


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's plain kernels, two threads that do not spin."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def _first_line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text[:300]}"
