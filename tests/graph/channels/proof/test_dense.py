"""Matrix products, the weights widened in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.channels.proof import dense


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("transposed_a", [0, 1])
@pytest.mark.parametrize("transposed_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (1,), (3,), (5, 1), (5, 3)])
def test_gemm_is_what_onnxruntime_gives(transposed_a, transposed_b, bias, same_as_onnxruntime):
    arrays = {
        "a": floats(4, 5) if transposed_a else floats(5, 4),
        "b": floats(3, 4) if transposed_b else floats(4, 3),
        "c": None if bias is None else floats(*bias),
    }
    same_as_onnxruntime(
        "Gemm", arrays, transA=transposed_a, transB=transposed_b, alpha=0.5, beta=2.0
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 4), (4, 3)),
        ((2, 5, 4), (4, 3)),
        ((2, 1, 5, 4), (3, 4, 3)),
        ((4,), (4, 3)),
        ((5, 4), (4,)),
        ((4,), (4,)),
    ],
)
def test_matmul_broadcasts_as_onnxruntime_does(a, b, same_as_onnxruntime):
    same_as_onnxruntime("MatMul", {"a": floats(*a), "b": floats(*b)})


@pytest.mark.parametrize("transposed", [0, 1])
def test_blocks_of_a_few_weights_give_the_same_product(transposed, alone, monkeypatch):
    arrays = {"a": floats(5, 14), "b": floats(9, 14) if transposed else floats(14, 9)}
    whole = alone("Gemm", arrays, transB=transposed)
    for block in (1, 30, 100):
        monkeypatch.setattr(dense, "BLOCK", block)
        given = alone("Gemm", arrays, transB=transposed)
        np.testing.assert_allclose(given, whole, rtol=1e-13, atol=1e-14)


def test_whole_numbers_are_multiplied_as_such(alone):
    a = np.array([[2**60 + 1, 1]], np.int64)
    assert alone("MatMul", {"a": a, "b": np.array([[1], [1]], np.int64)}).tolist() == [[2**60 + 2]]
