"""Other kernels for a linear node that takes floats and gives floats.

On the float side of the cut a Gemm or MatMul need not be the float one: the runtime also has kernels
with int8 weights that round the activations themselves, and so need no conversions beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import onnx_ir as ir

from deploypipe.quantize.dynamic import dynamically
from deploypipe.quantize.nbits import in_blocks
from deploypipe.quantize.plan import constants_of
from deploypipe.quantize.profile import Kind, Profile
from deploypipe.quantize.rewriting import Rewriter
from deploypipe.quantize.units import Unit

DYNAMIC, WEIGHT_ONLY = "dynamic", "weight-only"
SMALLEST = 1024
"""A weight of fewer numbers takes no time worth measuring."""

_MAKERS: Mapping[str, Callable[[Rewriter, Unit, Profile], None]] = {
    DYNAMIC: dynamically,
    WEIGHT_ONLY: lambda rewriter, unit, _: in_blocks(rewriter, unit),
}
NAMES = tuple(_MAKERS)


def eligible(model: ir.Model, units: Iterable[Unit], provider: str) -> list[Unit]:
    """The linear units that are worth another form; the forms are those of the processor."""
    if provider != "CPUExecutionProvider":
        return []
    constants = constants_of(model)
    found = []
    for unit in units:
        value = constants.get(unit.weight)
        tensor = value.const_value if value is not None else None
        if unit.kind is Kind.LINEAR and (tensor is None or tensor.size >= SMALLEST):
            found.append(unit)
    return found


def in_forms(
    model: ir.Model, units: Iterable[Unit], forms: Mapping[str, str], profile: Profile
) -> ir.Model:
    """A copy in which each unit named in ``forms`` has that form; the model may be an emitted one."""
    rewriter = Rewriter(model)
    for unit in units:
        if unit.name in forms:
            _MAKERS[forms[unit.name]](rewriter, unit, profile)
    return rewriter.finish()


def adopted(model: ir.Model, numbers: Mapping[str, int]) -> dict[str, int]:
    """``numbers`` with those of the nodes that a form has added: the number of their reader."""
    found = dict(numbers)
    for node in reversed(list(model.graph)):
        names = [str(out.name) for out in node.outputs]
        if any(name in found for name in names):
            continue
        readers = [str(use.node.outputs[0].name) for out in node.outputs for use in out.uses()]
        number = next((found[name] for name in readers if name in found), None)
        if number is not None:
            found.update(dict.fromkeys(names, number))
    return found


def counted(forms: Mapping[str, str], units: Collection[Unit]) -> list[str]:
    """A sentence for each form."""
    told = {
        DYNAMIC: "with int8 weights and dynamic activations",
        WEIGHT_ONLY: "with int8 weights in blocks",
    }
    lines = []
    for form, how in told.items():
        ops = sorted({unit.op for unit in units if forms.get(unit.name) == form})
        count = sum(1 for one in forms.values() if one == form)
        if count:
            lines.append(f"{count} {' and '.join(ops)} {how}")
    return lines
