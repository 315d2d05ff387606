from __future__ import annotations

import numpy as np
import pytest

from deploypipe.graph.files import to_bytes
from deploypipe.quantize.nbits import packed


def test_a_transformer_takes_a_quarter_of_the_bytes_and_answers_alike(by, transformer, noise):
    done = by("weight_only", transformer)
    assert len(to_bytes(done.model)) < 0.32 * len(to_bytes(transformer))
    assert noise(transformer, done.model) < 0.02
    assert done.changes == [
        "2 Gemm and MatMul with int8 weights, a scale every 64",
        "1 embedding table in int8 with a scale a row: 0.1 MB less",
    ]
    ops = [node.op_type for node in done.model.graph]
    assert ops.count("MatMulNBits") == 2
    assert "MatMul" not in ops
    assert "Add" not in ops  # it is the kernel's bias


def test_the_weights_of_convolutions_are_float_again_once_the_model_is_loaded(
    by, images, noise, kernels
):
    done = by("weight_only", images)
    assert len(to_bytes(done.model)) < 0.36 * len(to_bytes(images))
    assert noise(images, done.model) < 0.02
    assert [op for op in kernels(done.model) if op in ("Cast", "Mul", "DequantizeLinear")] == []


@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("zero_points", [False, True])
def test_every_block_size_answers_alike(by, transformer, noise, block, zero_points):
    done = by("weight_only", transformer, block=block, zero_points=zero_points)
    assert noise(transformer, done.model) < 0.02


def test_small_blocks_and_zero_points_are_nearer_to_the_weights():
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(100, 6)) + 0.5).astype(np.float32)

    def error(block: int, zero_points: bool) -> float:
        integers, scales, zeros = packed(weight, block, zero_points)
        middle = 128.0 if zeros is None else zeros[..., None]
        back = (integers.astype(np.float32) - middle) * scales[..., None]
        return float(np.abs(back.reshape(6, -1)[:, :100].T - weight).mean())

    assert error(16, False) < error(128, False) < 0.02
    assert error(32, True) < error(32, False)


def test_weights_that_are_all_zero_stay_zero():
    integers, scales, _ = packed(np.zeros((20, 3), np.float32), 16, False)
    assert (integers == 128).all()
    assert np.isfinite(scales).all()


def test_a_block_that_the_kernel_does_not_know_is_refused():
    from deploypipe.quantize.methods.weight_only import WeightOnly

    with pytest.raises(ValueError, match="block must be 16, 32, 64, 128 or 256, got 48"):
        WeightOnly(block=48)


def test_a_tied_table_and_a_weight_inside_a_subgraph_stay_as_they_are(by, parse, constants):
    text = """agraph (int64[N] ids, bool c) => (float[N,600] y) {
      [look] e = Gather(table, ids) [turn] k = Transpose<perm=[1,0]>(table)
      [mix] m = MatMul(e, w)
      [head] y = If (c) <then_branch = a () => (float[N,600] p) { [inner] p = MatMul(m, k) },
                         else_branch = b () => (float[N,600] q) { [other] q = MatMul(e, k) }> }"""
    rng = np.random.default_rng(0)
    model = parse(text)
    model = constants(model, table=rng.normal(size=(600, 64)), w=rng.normal(size=(64, 64)))
    done = by("weight_only", model)
    assert done.changes == ["1 Gemm and MatMul with int8 weights, a scale every 64"]
    assert any("'inner' stays float: it is inside a subgraph" in line for line in done.refusals)
