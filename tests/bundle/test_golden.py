"""How near golden answers must be: floats by their range, whole numbers one by one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from deploypipe.bundle.golden import relative_difference
from deploypipe.bundle.pack import Content, pack
from deploypipe.bundle.verify import verify
from deploypipe.core.errors import IntegrityError
from deploypipe.graph.files import save

FEEDS = {"x": np.array([[0, 3, 1], [5, 0, 0], [0, 0, 2]], np.float32)}
IDS = np.array([[10_000], [0], [20_000]])


@pytest.fixture
def bundle_of(tmp_path):
    """A model of ids up to 20 000, packed with these golden answers."""
    text = """<ir_version: 10, opset_import: ["" : 20]> m (float[N, 3] x) => (int64[N, 1] ids)
    <int64 k = {10000}> { best = ArgMax<axis = 1>(x) ids = Mul(best, k) }"""
    save(ir.serde.deserialize_model(onnx.parser.parse_model(text)), tmp_path / "m.onnx")

    def make(name, answers):
        content = Content(name="ids", golden_inputs=FEEDS, golden_outputs={"ids": answers})
        return pack(tmp_path / "m.onnx", tmp_path / name, content)

    return make


def run(bundle):
    words = [sys.executable, "-I", str(bundle / "run.py")]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


def test_equal_ids_are_golden(bundle_of, open_session):
    bundle = bundle_of("b", IDS)
    assert "differs by 0 of its values" in verify(bundle, open_session)[-1]
    assert run(bundle).returncode == 0


def test_an_id_that_is_off_by_one_is_another_id(bundle_of, open_session):
    moved = IDS.copy()
    moved[2] += 1  # 0.005 % of the range, and a third of the answers
    bundle = bundle_of("b", moved)
    with pytest.raises(IntegrityError, match=r"'ids' .* differs by 0\.33 of its values"):
        verify(bundle, open_session)
    assert "output 'ids' differs" in run(bundle).stderr


def test_floats_are_measured_by_their_range():
    assert relative_difference(np.array([0.0, 4.0]), np.array([0.0, 4.1])) == pytest.approx(0.025)


def test_a_few_pixels_of_a_mask_are_a_small_share():
    mask = np.zeros((1, 100, 100), np.uint8)
    other = mask.copy()
    other[0, 0, :3] = 1
    assert relative_difference(mask, other) == pytest.approx(3e-4)
    assert relative_difference(mask > 0, other > 0) == pytest.approx(3e-4)
