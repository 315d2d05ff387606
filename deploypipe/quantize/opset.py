"""Models that are too old for what quantization writes into them."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from deploypipe.core.errors import UserError
from deploypipe.graph.files import name_own_domain, to_bytes

RAISED = 17
"""The opset that an older model is converted to: every runtime of today knows it."""


def modern(
    model: ir.Model, needed: int, what: str = "per-channel 8-bit weights"
) -> tuple[ir.Model, list[str]]:
    """The model itself, or a copy at opset 17 where its own is below what ``what`` needs, and what
    was done.  ONNX's own domain has its short name in it.

    Raises:
        UserError: onnx cannot convert it.
    """
    if "ai.onnx" in model.opset_imports:
        model = model.clone()
        name_own_domain(model)
    opset = model.opset_imports.get("", 0)
    if opset >= needed:
        return model, []
    try:
        old = onnx.load_model_from_string(to_bytes(model))
        new = ir.from_proto(onnx.version_converter.convert_version(old, RAISED))
    except Exception as error:  # the converter raises whatever its C++ does
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the model has opset {opset}, {what} need {needed}, and onnx cannot convert it: {reason}",
            then="Export it again with a newer opset",
        ) from error
    return new, [f"opset {opset} became {RAISED}: {what} need {needed}"]
