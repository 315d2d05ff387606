"""Large models with data outside stay in their files."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploypipe.graph.files import load, save
from deploypipe.graph.mapped import MappedTensor
from deploypipe.graph.parts import parts_of
from deploypipe.runtime.targets.cpu import Cpu

WEIGHT = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
TEXT = "g (float[N,64] x) => (float[N,64] y) { a = MatMul(x, w)\ny = MatMul(a, v) }"


@pytest.fixture
def large(parse, tmp_path, monkeypatch):
    """A file with data below its folder, which counts as large."""
    file = tmp_path / "in" / "model.onnx"
    (file.parent / "data").mkdir(parents=True)
    small = tmp_path / "small.onnx"
    save(parse(TEXT, w=WEIGHT, v=WEIGHT.T.copy()), small)
    where = {"location": "data/weights.bin", "size_threshold": 0}
    onnx.save(onnx.load(small), file, save_as_external_data=True, **where)
    monkeypatch.setattr("deploypipe.graph.files.HELD_ONCE", 100)
    return file


def test_what_is_large_stays_in_its_file(large, same):
    model = load(large)
    tensors = [value.const_value for value in model.graph.initializers.values()]
    assert all(isinstance(tensor, MappedTensor) for tensor in tensors)
    assert np.array_equal(tensors[0].numpy(), WEIGHT)
    parts = parts_of(model)
    assert not parts.weights and parts.folder == large.parent.resolve()


def test_a_session_reads_the_file_itself(large):
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    with Cpu(threads=1).open(parts_of(load(large))) as session:
        answer = session({"x": x})["y"]
    np.testing.assert_allclose(answer, x @ WEIGHT @ WEIGHT.T, rtol=1e-3, atol=1e-3)


def test_weights_of_the_file_and_others_run_together(large, tmp_path):
    model = load(large)
    changed = model.graph.initializers["v"]
    changed.const_value = type(changed.const_value).__mro__[1](-WEIGHT, name="v")
    parts = parts_of(model)
    assert list(parts.weights) == ["v"]
    x = np.ones((1, 64), np.float32)
    with Cpu(threads=1).open(parts, optimized=tmp_path / "optimized.onnx") as session:
        answer = session({"x": x})["y"]
    np.testing.assert_allclose(answer, x @ WEIGHT @ -WEIGHT, rtol=1e-3, atol=1e-3)


def test_it_is_saved_over_its_own_file(large):
    before = load(large)
    save(before, large, largest_file=100)
    again = load(large)
    assert np.array_equal(again.graph.initializers["w"].const_value.numpy(), WEIGHT)
    assert np.array_equal(before.graph.initializers["v"].const_value.numpy(), WEIGHT.T)
