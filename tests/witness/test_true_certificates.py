"""Certificates that are true, on models that one can read."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")

import certified_layouts
import certified_sums

TRUE = [
    make
    for module in (certified_sums, certified_layouts)
    for make in vars(module).values()
    if getattr(make, "__module__", "") == module.__name__
]


@pytest.mark.parametrize("make", TRUE, ids=lambda make: make.__name__)
def test_a_true_certificate_is_confirmed(make, tmp_path):
    case = make()
    found = case.check(tmp_path)
    listed = [cell for entry in case.removed for cell in entry["cells"]]
    others = [index for entry in case.unread + case.constants for index in entry["index"]]
    assert found.claims == len(listed) + len(others)
    assert found.pieces >= 2
    assert found.worst_error < 2e-3
