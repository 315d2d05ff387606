from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.check import compare, random_feeds
from deploypipe.graph.files import to_bytes
from deploypipe.graph.passes.fuse_batchnorm import FuseBatchnorm


def norm(channels: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    names = ("scale", "shift", "mean", "var")
    arrays = {name: rng.integers(1, 5, channels).astype(np.float32) for name in names}
    arrays["scale"][0] = -3
    return arrays


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 7 - 3).reshape(shape).astype(np.float32)


BN = "y = BatchNormalization(h, scale, shift, mean, var)"
CASES = {
    "conv": ("float[N,2,4,4]", "float[N,3,2,2]", "Conv(x, w)", ramp(3, 2, 3, 3), None, 3),
    "conv with bias": ("float[N,2,4,4]", "float[N,3,2,2]", "Conv(x, w, b)", ramp(3, 2, 3, 3), ramp(3), 3),
    "grouped conv": ("float[N,4,4]", "float[N,6,4]", "Conv <group=2> (x, w, b)", ramp(6, 2, 1), ramp(6), 6),
    "transposed conv": (
        "float[N,2,3,3]", "float[N,3,5,5]", "ConvTranspose(x, w, b)", ramp(2, 3, 3, 3), ramp(3), 3,
    ),
    "gemm": ("float[N,2]", "float[N,3]", "Gemm(x, w, b)", ramp(2, 3), ramp(3), 3),
    "transposed gemm with factors": (
        "float[N,2]", "float[N,3]", "Gemm <transB=1, alpha=2.0, beta=3.0> (x, w, b)",
        ramp(3, 2), ramp(1, 3), 3,
    ),
    "gemm with a scalar bias": ("float[N,2]", "float[N,3]", "Gemm(x, w, b)", ramp(2, 3), ramp(1), 3),
    "gemm without bias": ("float[N,2]", "float[N,3]", "Gemm <beta=0.0> (x, w)", ramp(2, 3), None, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_norm_folds_into(case, parse, ops, same):
    given, made, linear, weight, bias, channels = CASES[case]
    text = f"g ({given} x) => ({made} y) {{h = {linear}\n{BN}}}"
    weights = {"w": weight, **norm(channels), **({} if bias is None else {"b": bias})}
    before, after = parse(text, **weights), parse(text, **weights)
    outcome = FuseBatchnorm()(after)
    assert len(ops(after)) == 1 and len(outcome.changes) == 1 and not outcome.refusals
    same(before, after)


def test_a_norm_folds_into_a_grouped_transposed_convolution(parse):
    # onnx's reference implementation cannot run one, so the runtime does.
    onnxruntime = pytest.importorskip("onnxruntime")
    text = f"""g (float[N,4,3,3] x) => (float[N,6,4,4] y) {{
        h = ConvTranspose <group = 2> (x, w, b)\n{BN}}}"""
    weights = {"w": ramp(4, 3, 2, 2), "b": ramp(6), **norm(6)}
    before, after = parse(text, **weights), parse(text, **weights)
    assert FuseBatchnorm()(after).modified and len(after.graph) == 1

    def run(model, feeds):
        session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
        return {"y": session.run(None, feeds)[0]}

    assert compare(before, after, random_feeds(before), run) < 1e-5


def test_the_bias_is_called_as_torch_would_call_it(parse):
    text = f"g (float[N,2] x) => (float[N,3] y) {{h = Gemm(x, w)\n{BN}}}"
    model = parse(text, w=ramp(2, 3), **norm(3))
    model.graph.initializers["w"].name = "fc.weight"
    FuseBatchnorm()(model)
    assert [model.graph[0].inputs[i].name for i in (1, 2)] == ["fc.weight", "fc.bias"]


def test_a_bias_that_others_use_too_is_left_to_them(parse, same):
    text = f"""g (float[N,2,1,1] x) => (float[N,3,1,1] y, float[N,3,1,1] z) {{
        h = Conv(x, w, b)\n{BN}\nz = Conv(x, v, b)}}"""
    weights = {"w": ramp(3, 2, 1, 1), "v": ramp(3, 2, 1, 1), "b": ramp(3), **norm(3)}
    before, after = parse(text, **weights), parse(text, **weights)
    assert FuseBatchnorm()(after).modified
    same(before, after)


def test_half_precision_stays_half_precision(parse):
    text = f"g (float16[N,2,1,1] x) => (float16[N,3,1,1] y) {{h = Conv(x, w)\n{BN}}}"
    weights = {name: a.astype(np.float16) for name, a in {"w": ramp(3, 2, 1, 1), **norm(3)}.items()}
    model = parse(text, **weights)
    assert FuseBatchnorm()(model).modified
    assert {v.dtype for v in model.graph[0].inputs[1:]} == {ir.DataType.FLOAT16}


def _refused(parse, text: str, why: str, **weights: np.ndarray) -> None:
    model = parse(text, **weights)
    before = [node.op_type for node in model.graph]
    outcome = FuseBatchnorm()(model)
    assert [node.op_type for node in model.graph] == before and not outcome.modified
    assert why in outcome.refusals[0]


CONV = f"g (float[N,2,1,1] x) => (float[N,3,1,1] y) {{h = Conv(x, w)\n{BN}}}"


def test_a_convolution_with_another_reader_is_left_alone(parse):
    text = f"""g (float[N,2,1,1] x) => (float[N,3,1,1] y, float[N,3,1,1] z) {{
        h = Conv(x, w)\n{BN}\nz = Relu(h)}}"""
    _refused(parse, text, "other consumers", w=ramp(3, 2, 1, 1), **norm(3))


def test_a_convolution_that_is_an_output_is_left_alone(parse):
    text = f"g (float[N,2,1,1] x) => (float[N,3,1,1] y, float[N,3,1,1] h) {{h = Conv(x, w)\n{BN}}}"
    _refused(parse, text, "other consumers", w=ramp(3, 2, 1, 1), **norm(3))


def test_shared_weights_are_left_alone(parse):
    text = f"""g (float[N,2,1,1] x) => (float[N,3,1,1] y, float[N,3,1,1] z) {{
        h = Conv(x, w)\n{BN}\nz = Conv(x, w)}}"""
    _refused(parse, text, "shared by 2 nodes", w=ramp(3, 2, 1, 1), **norm(3))


def test_weights_that_are_computed_are_left_alone(parse):
    text = f"""g (float[N,2,1,1] x, float[3,2,1,1] w) => (float[N,3,1,1] y) {{
        h = Conv(x, w)\n{BN}}}"""
    _refused(parse, text, "not constant", **norm(3))


def test_a_norm_after_something_else_is_left_alone(parse):
    text = f"g (float[N,3] x) => (float[N,3] y) {{h = Relu(x)\n{BN}}}"
    _refused(parse, text, "comes from Relu", **norm(3))


def test_a_norm_in_training_mode_is_left_alone(parse):
    text = """g (float[N,2,1,1] x) => (float[N,3,1,1] y) {
        h = Conv(x, w)
        y, m, v = BatchNormalization <training_mode = 1> (h, scale, shift, mean, var)}"""
    _refused(parse, text, "training mode", w=ramp(3, 2, 1, 1), **norm(3))


def test_a_norm_whose_statistics_are_outputs_is_left_alone(parse):
    text = """g (float[N,2,1,1] x) => (float[N,3,1,1] y, float[3] m, float[3] v) {
        h = Conv(x, w)
        y, m, v = BatchNormalization <training_mode = 0> (h, scale, shift, mean, var)}"""
    _refused(parse, text, "training mode", w=ramp(3, 2, 1, 1), **norm(3))


def test_a_norm_without_a_finite_result_is_left_alone(parse):
    weights = norm(3)
    weights["var"] = np.array([1, -2, 1], np.float32)
    _refused(parse, CONV, "not be finite", w=ramp(3, 2, 1, 1), **weights)


def test_a_bias_per_row_is_left_alone(parse):
    text = f"g (float[4,2] x) => (float[4,3] y) {{h = Gemm(x, w, b)\n{BN}}}"
    _refused(parse, text, "differs between rows", w=ramp(2, 3), b=ramp(4, 1), **norm(3))
