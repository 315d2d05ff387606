"""What quantization hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from deploypipe.core.files import Json
from deploypipe.graph import Outcome
from deploypipe.quantize.audit import Audit
from deploypipe.quantize.plan import QuantPlan

_NOTHING = QuantPlan((), {}, {}, {})


@dataclass
class Quantized(Outcome):
    """The quantized model (a copy) with its story; every unit of ``plan`` runs in 8 bits.

    ``notes`` is JSON: calibrator, profile, samples, units planned at first and fused in the end, the
    runtime's kernels, the range of every tensor, how near the outputs are, and the whole plan.
    """

    plan: QuantPlan = _NOTHING
    audit: Audit = field(default_factory=lambda: Audit({}, {}))
    notes: Mapping[str, Json] = field(default_factory=dict)


def why_float(model: ir.Model, reasons: Mapping[str, str]) -> list[str]:
    """A sentence for every node that stays float."""
    ops = {node.name or str(node.outputs[0].name): node.op_type for node in model.graph.all_nodes()}
    return [f"{ops.get(name, 'node')} '{name}' stays float: {why}" for name, why in reasons.items()]
