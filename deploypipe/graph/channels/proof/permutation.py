"""The removal is tested as it will run: against the noise of the model's own sums.

Permuting a model's channels leaves its function alone and changes the order of its sums.  How far
the outputs move then is what rounding does in this model, dtype and runtime; no tolerance need be
picked by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from deploypipe.core.errors import UserError
from deploypipe.graph.channels.cells import Axis, cells_on
from deploypipe.graph.channels.dataflow import Dataflow
from deploypipe.graph.channels.groups import Group, groups_of
from deploypipe.graph.channels.proof.finding import Finding, judged, not_applicable
from deploypipe.graph.channels.proof.real_weights import largest_error
from deploypipe.graph.check import Run
from deploypipe.graph.constants import constant_of
from deploypipe.graph.shapes import infer_shapes

Array = npt.NDArray[Any]
_finfo: Any = ml_dtypes.finfo

NAME = "as deployed, against the noise of permuted channels"
TIMES = 4.0
"""How many times the noise is allowed."""
ROUNDINGS = 16.0
"""How many units in the last place of the largest output are always allowed."""


def as_deployed(
    before: ir.Model, after: ir.Model, run: Run, feeds: Mapping[str, Array], draws: int = 3
) -> Finding:
    """Whether ``after`` is as near to ``before`` as ``before`` is to itself with permuted channels.

    Not applicable where a permutation moves the outputs by more than half their digits: then no
    tolerance would tell a wrong channel from rounding.  A UserError of ``run`` on ``after`` refutes.
    """
    expected = run(before, feeds)
    eps = _eps(expected)
    noise = permutation_noise(before, run, feeds, draws, expected)
    limit = TIMES * noise + ROUNDINGS * eps
    try:
        given = run(after, feeds)
    except UserError as error:
        return Finding(NAME, float("inf"), limit, False, f"it does not run: {error.what}")
    if not noise <= np.sqrt(eps):
        return not_applicable(NAME, limit, f"a permutation moves the outputs by {noise:.1e}")
    return judged(NAME, largest_error(expected, given), limit, "outputs moved by")


def permutation_noise(
    before: ir.Model,
    run: Run,
    feeds: Mapping[str, Array],
    draws: int = 3,
    expected: Mapping[str, Array] | None = None,
) -> float:
    """Largest relative error of ``before`` with randomly permuted channels, of ``draws`` draws."""
    expected = run(before, feeds) if expected is None else expected
    runs = (run(permuted(before, seed), feeds) for seed in range(draws))
    return max((largest_error(expected, given) for given in runs), default=0.0)


def permuted(model: ir.Model, seed: int = 0) -> ir.Model:
    """The same function with the free channels in another, random order; ``model`` stays as it is."""
    copy = model.clone()
    InlinePass()(copy)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    infer_shapes(copy)
    flow = Dataflow(copy.graph)
    rng = np.random.default_rng(seed)
    order, counted = np.arange(flow.cells.count), _counted(flow)
    for group in groups_of(flow):
        for classes in _alike(flow, group):
            free = classes[~counted[classes]]
            order[free] = rng.permutation(free)
    for axis in flow.cells.first:
        _reorder(flow, axis, order)
    return copy


def _counted(flow: Dataflow) -> Array:
    """bool [cells]: in a class that a grouped op only counts, so its weights are not tied to it."""
    axes = (axis for limit in flow.limits for axis in limit.axes if axis in flow.cells.first)
    return flow.whole_classes(cells_on(flow.cells, axes))


def _alike(flow: Dataflow, group: Group) -> list[Array]:
    """The group's classes, apart by how many cells they have on every axis."""
    axes = [flow.classes[flow.cells.ids(axis)] for axis in group.axes]
    counts = np.stack([_counts(labels, group.classes) for labels in axes])
    _, kinds = np.unique(counts, axis=1, return_inverse=True)
    kinds = kinds.reshape(-1)
    return [group.classes[kinds == kind] for kind in range(int(kinds.max(initial=-1)) + 1)]


def _counts(labels: Array, classes: Array) -> Array:
    places = np.searchsorted(classes, labels)
    places = np.minimum(places, len(classes) - 1)
    return np.bincount(places[classes[places] == labels], minlength=len(classes))


def _reorder(flow: Dataflow, axis: Axis, order: Array) -> None:
    """Put the cells of ``order[c]`` of a constant's axis where those of class c were."""
    value, number = axis
    array = constant_of(value)
    if array is None:
        return
    labels = flow.classes[flow.cells.ids(axis)]
    wanted = order[labels]
    if np.array_equal(wanted, labels):
        return
    # Both sorts are stable, so the k-th cell of a class goes where the k-th of the other was.
    index = np.empty(len(labels), np.int64)
    index[np.argsort(wanted, kind="stable")] = np.argsort(labels, kind="stable")
    value.const_value = ir.tensor(np.take(array, index, number), name=value.name)


def _eps(outputs: Mapping[str, Array]) -> float:
    """Of the coarsest float dtype among the outputs; of float32 where there is none."""
    kinds = {array.dtype for array in outputs.values()}
    floats = [kind for kind in kinds if ir.DataType.from_numpy(kind).is_floating_point()]
    return max((float(_finfo(kind).eps) for kind in floats), default=2.0**-23)
