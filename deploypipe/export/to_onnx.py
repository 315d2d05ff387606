"""A torch module as an ONNX graph, by torch's dynamo exporter.

The batch is dynamic.  Inputs and outputs have the names that were asked for, whatever the exporter
would call its own tensors.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import onnx_ir as ir
import torch

from deploypipe.core.errors import UserError

_MOST = 4096  # largest batch that the exporter is told of


def to_onnx(
    module: torch.nn.Module,
    sample: Mapping[str, np.ndarray],
    *,
    outputs: Sequence[str] = (),
    dynamic: Mapping[str, Sequence[int]] | None = None,
    keep_parameters: bool = False,
) -> ir.Model:
    """Export ``module`` for inputs like ``sample``.

    Args:
        module: the model; exported in evaluation mode.
        sample: arrays with at least two samples each, in the order of ``forward``'s parameters.
        outputs: names for the outputs; ``logits``, then ``output_1`` and so on, where not given.
        dynamic: further dynamic axes by input name; axis 0 is always dynamic.
        keep_parameters: keep every parameter's name and leave norms unfused (for finding groups).

    Raises:
        UserError: the exporter cannot trace the model, or the names do not fit it.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in sample.items()}
    shapes = _dynamic_shapes(tensors, dynamic or {})
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module.eval(),
                tuple(tensors.values()),
                dynamo=True,
                optimize=not keep_parameters,
                input_names=list(tensors),
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever the model made it raise
        raise UserError(
            f"torch cannot export the model: {_reason(error)}",
            where="export",
            then="Remove control flow that depends on tensor values from forward()",
        ) from error
    assert program is not None
    model = program.model
    _name(model, list(tensors), outputs)
    return model


def expected_seconds(module: torch.nn.Module) -> float:
    """About how long an export takes; it grows with the modules, whatever their size."""
    leaves = sum(not any(True for _ in one.children()) for one in module.modules())
    return 3 + 0.03 * leaves


def _dynamic_shapes(
    tensors: Mapping[str, torch.Tensor], dynamic: Mapping[str, Sequence[int]]
) -> tuple[dict[int, object], ...]:
    batch = torch.export.Dim("batch", min=1, max=_MOST)
    return tuple(
        {0: batch, **{axis: torch.export.Dim.DYNAMIC for axis in dynamic.get(name, ()) if axis}}
        for name in tensors
    )


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, and warns and logs of its own affairs."""
    level, silence = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(silence), redirect_stderr(silence):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _name(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their names; any other tensor of such a name steps aside."""
    graph = model.graph
    if len(outputs) > len(graph.outputs):
        raise UserError(
            f"{len(outputs)} output names were given, the model has {len(graph.outputs)} outputs",
            where="export.outputs",
        )
    wanted = [*outputs, *(["logits"] if not outputs else [])][: len(graph.outputs)]
    wanted += [f"output_{i}" for i in range(len(wanted), len(graph.outputs))]
    ends = {id(value): name for value, name in zip(graph.inputs, inputs, strict=True)}
    ends |= {id(value): name for value, name in zip(graph.outputs, wanted, strict=True)}
    taken = set(ends.values())
    if len(taken) < len(ends):
        raise UserError(f"inputs and outputs share a name: {sorted(ends.values())}", where="export")
    for value in [*graph.initializers.values(), *(v for node in graph for v in node.outputs)]:
        if id(value) not in ends and value.name in taken:
            value.name = f"{value.name}.inner"
    for value in [*graph.inputs, *graph.outputs]:
        value.name = ends[id(value)]
