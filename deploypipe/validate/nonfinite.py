"""Which node made the NaN?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from deploypipe.runtime import Feeds, Target
from deploypipe.validate.inside import Inner, OnnxInside, chunks


def first_nonfinite(
    candidate: ir.Model, reference: ir.Model, feeds: Feeds, target: Target
) -> str | None:
    """The first node, in the order of computing, that makes NaN or infinity; None if none does.

    A tensor that the reference has under the same name with the same values NaN or infinity (a
    mask, say) is passed over.  Looks at the tensors in chunks and stops at the first find.
    """
    batch = len(next(iter(feeds.values())))
    there, here = OnnxInside(reference, target, batch), OnnxInside(candidate, target, batch)
    known = {tensor.name for tensor in there.tensors}
    for part in chunks(here.tensors):
        found = _values(here, [tensor.name for tensor in part], feeds)
        broken = [t for t in part if not _is_finite(found[t.name])]
        expected = _values(there, [t.name for t in broken if t.name in known], feeds)
        for tensor in broken:
            if not _same_mask(found[tensor.name], expected.get(tensor.name)):
                return told(tensor)
    return None


def told(tensor: Inner) -> str:
    """``Log 'node_3' (tensor 'z')``."""
    node = f" '{tensor.node}'" if tensor.node else ""
    return f"{tensor.op}{node} (tensor '{tensor.name}')"


def _values(inside: OnnxInside, names: list[str], feeds: Feeds) -> Mapping[str, np.ndarray]:
    if not names:
        return {}
    with inside.looking(names) as look:
        return look(feeds)


def _is_finite(array: object) -> bool:
    floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
    return not floats or bool(np.isfinite(array).all())  # type: ignore[call-overload]


def _same_mask(found: np.ndarray, expected: np.ndarray | None) -> bool:
    if expected is None or expected.shape != found.shape:
        return False
    return bool((np.isfinite(found) == np.isfinite(expected)).all())
