from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,A,B] y) {
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear <axis = 0> (w, sw, zw)
    bd = DequantizeLinear <axis = 0> (b, sb)
    h = Conv(xd, wd, bd)
    r = Relu(h)
    rq = QuantizeLinear(r, sr, zr)
    rd = DequantizeLinear(rq, sr, zr)
    vd = DequantizeLinear <axis = 0> (v, sv, zv)
    cd = DequantizeLinear <axis = 0> (c, sc)
    y = Conv (rd, vd, cd)}"""


def model(
    per_channel: bool = True,
    zero: int = 0,
    kernel: int = 1,
    dtype: type = np.int8,
    bias: tuple[int, ...] = (0, -40, 96, 10),
) -> dict[str, np.ndarray]:
    """Filters 1 and 2 are zero; with their biases they are 0 and 96 steps behind the Relu."""
    rng = np.random.default_rng(0)
    w = rng.integers(-5, 6, (4, 2, 1, 1)).astype(np.int8)
    w[1:3] = 0
    v = rng.integers(-5, 6, (2, 4, kernel, kernel)).astype(np.int8)
    sx, sr = np.float32(0.5), np.float32(0.25)
    sw = np.array([0.5, 0.25, 0.125, 1], np.float32) if per_channel else np.float32(0.5)
    sv = np.array([0.5, 0.25], np.float32) if per_channel else np.float32(0.5)
    zw, zv = np.zeros_like(sw, np.int8), np.zeros_like(sv, np.int8)
    return {
        "w": w, "sw": sw, "zw": zw, "b": np.array(bias, np.int32), "sb": sw * sx,
        "v": v, "sv": sv, "zv": zv, "c": np.array([3, -4], np.int32), "sc": sv * sr,
        "sx": sx, "zx": dtype(zero), "sr": sr, "zr": dtype(zero),
    }  # fmt: skip


PADDED = TEXT.replace("y = Conv (", "y = Conv <pads = [1,1,1,1]> (")


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    ("zero", "dtype"), [(0, np.int8), (-128, np.int8), (5, np.int8), (128, np.uint8)]
)
def test_a_constant_goes_into_the_int32_bias_to_the_last_bit(cut, per_channel, zero, dtype):
    arrays = model(per_channel, zero, dtype=dtype)
    done = cut(TEXT, ort=True, **arrays)
    assert done.gone["w"] == {0: [1, 2]} and done.gone["v"] == {1: [1, 2]}
    assert done.gone.get("sw", {0: [1, 2]}) == {0: [1, 2]}
    step = 0.125 if per_channel else 0.25  # times 96: the constant, 12 or 24
    code = int(np.round(96 * np.broadcast_to(arrays["sb"], 4)[2] / 0.25))
    code = min(code, np.iinfo(dtype).max - zero)
    assert step > 0
    wanted = np.array([3, -4]) + code * arrays["v"][:, 2, 0, 0].astype(np.int64)
    assert done.array("c").tolist() == wanted.tolist()


def test_the_cut_model_is_bit_identical_in_the_integer_kernels_too(cut):
    """With its rewriting on, ONNX Runtime computes QDQ convolutions in int8."""
    import onnxruntime

    from deploypipe.graph.files import to_bytes

    text = TEXT.replace(
        "y = Conv (rd, vd, cd)",
        """t = Conv (rd, vd, cd)
        tq = QuantizeLinear(t, sr, zr)
        y = DequantizeLinear(tq, sr, zr)""",
    )
    done = cut(text, ort=True, **model(zero=-3))
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 2, 4, 4)).astype(np.float32) * 4}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    a, b = (
        onnxruntime.InferenceSession(to_bytes(m), options, ["CPUExecutionProvider"]).run(
            None, feeds
        )
        for m in (done.before, done.after)
    )
    np.testing.assert_array_equal(a[0], b[0])


def test_a_padded_constant_cannot_be_made_good_for_in_codes(cut):
    done = cut(PADDED, ort=True, **model(kernel=3))
    assert done.gone["w"] == {0: [1]}


def test_a_filter_of_zero_points_is_zero(cut):
    arrays = model(per_channel=False)
    arrays["w"] = (arrays["w"] + 7).astype(np.int8)
    arrays["zw"] = np.int8(7)
    assert cut(PADDED, ort=True, **{**arrays, "v": model(kernel=3)["v"]}).gone["w"] == {0: [1]}


def test_codes_of_zero_are_no_zero_where_the_zero_point_is_another(cut):
    arrays = model(per_channel=False, bias=(0, 0, 0, 0))
    arrays["zw"] = np.int8(7)
    assert cut(TEXT, ort=True, **arrays).gone == {}


def test_a_channel_that_no_code_reads_goes(cut):
    arrays = model(kernel=3)
    arrays["v"][:, 3] = 0
    done = cut(PADDED, ort=True, **arrays)
    assert done.gone["w"] == {0: [1, 3]} and done.gone["sw"] == done.gone["sb"] == {0: [1, 3]}


@pytest.mark.parametrize("what", ["scale", "readers", "none"])
def test_a_bias_that_cannot_take_it_to_the_bit_keeps_the_constant(cut, what):
    arrays, text = model(), TEXT
    if what == "scale":
        arrays["sc"] = arrays["sc"] * np.float32(1.5)
    elif what == "readers":
        text = text.replace("y) {", "y, float[N,2,A,B] z) {") + "\n"
        text = text.replace("y = Conv (", "z = Conv (rd, vd, cd)\ny = Conv (")
    else:
        text = text.replace("rd, vd, cd", "rd, vd")
    assert cut(text, ort=True, **arrays).gone["w"] == {0: [1]}


LINEAR = """g (float[N,4] x) => (float[N,2] y) {
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear (w, sw)
    bd = DequantizeLinear (b, sb)
    h = Gemm(xd, wd, bd)
    hq = QuantizeLinear(h, sx, zx)
    hd = DequantizeLinear(hq, sx, zx)
    vd = DequantizeLinear <axis = AXIS> (v, sv)
    cd = DequantizeLinear <axis = 0> (c, sc)
    y = Gemm ATTRIBUTES (hd, vd, cd)}"""


def linear(axis: int) -> dict[str, np.ndarray]:
    w = np.ones((4, 3), np.int8)
    w[:, 1] = 0
    sv = np.array([0.5, 0.25] if axis else [0.5, 0.25, 0.5], np.float32)
    return {
        "w": w, "sw": np.float32(0.5), "b": np.array([0, 24, 1], np.int32), "sb": np.float32(0.25),
        "v": np.array([[1, 2], [3, 4], [5, 6]], np.int8), "sv": sv,
        "c": np.array([1, 2], np.int32), "sc": np.array([0.25, 0.125], np.float32),
        "sx": np.float32(0.5), "zx": np.int8(0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("axis", "attributes", "gone"),
    [(1, "", True), (0, "", False), (1, "<alpha = 0.5>", False), (1, "<beta = 2.0>", False)],
)
def test_a_linear_layer_takes_it_only_in_plain_steps_of_its_outputs(cut, axis, attributes, gone):
    text = LINEAR.replace("AXIS", str(axis)).replace("ATTRIBUTES", attributes)
    done = cut(text, **linear(axis))
    assert done.gone.get("w", {1: []}) == {1: [1] if gone else []}
    assert done.array("c").tolist() == ([1 + 12 * 3, 2 + 12 * 4] if gone else [1, 2])


def test_a_weight_only_model_is_cut_with_its_scales(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        wd = DequantizeLinear <axis = 0> (w, s, z)
        h = Conv(x, wd)
        y = Conv <pads = [1,1,1,1]> (h, v)}"""
    w = np.ones((3, 2, 1, 1), np.uint8) * 9
    w[1] = 4
    more = {"s": np.array([1, 2, 3], np.float32), "z": np.array([5, 4, 3], np.uint8)}
    done = cut(text, w=w, v=np.ones((2, 3, 3, 3), np.float32), **more)
    assert done.gone["w"] == done.gone["s"] == done.gone["z"] == {0: [1]}


def test_an_activation_with_scales_of_its_channels_is_never_wrong(cut):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        q = QuantizeLinear <axis = 1> (h, s, z)
        d = DequantizeLinear <axis = 1> (q, s, z)
        y = Conv(d, v)}"""
    w, v = np.ones((3, 2, 1, 1), np.float32), np.ones((2, 3, 1, 1), np.float32)
    w[1], v[:, 2] = 0, 0
    more = {"s": np.array([0.5, 0.25, 0.5], np.float32), "z": np.array([0, 3, 5], np.int8)}
    done = cut(text, w=w, b=np.array([0, 2, 0], np.float32), v=v, **more)
    assert done.gone["s"] == {0: [2]}


@pytest.mark.parametrize("kind", ["int4", "blocks", "computed"])
def test_other_scales_and_codes_pin(cut, kind):
    text = """g (float[N,2,4,4] x, float s1) => (float[N,2,4,4] y) {
        wd = DequantizeLinear ATTRIBUTES (w, SCALE)
        h = Conv(x, wd)
        y = Conv(h, v)}"""
    w, v = np.ones((3, 2, 1, 1), np.int8), np.ones((2, 3, 1, 1), np.float32)
    w[1] = 0
    if kind == "int4":
        w = w.astype(ml_dtypes.int4)
    text = text.replace("ATTRIBUTES", "<axis = 1, block_size = 1>" if kind == "blocks" else "")
    text = text.replace("SCALE", "s1" if kind == "computed" else "s")
    scale = np.full((3, 2, 1, 1), 0.5) if kind == "blocks" else np.array(0.5)
    more = {} if kind == "computed" else {"s": scale.astype(np.float32)}
    assert cut(text, opset=21, w=w, v=v, **more).gone == {}


def test_a_constant_on_the_edge_between_two_codes_stays(cut):
    """0.25 is half a step: another order of sums may round it to the other code."""
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w, b)
        q = QuantizeLinear (h, s, z)
        d = DequantizeLinear (q, s, z)
        y = Conv(d, v)}"""
    w, v = np.ones((3, 2, 1, 1), np.float32), np.ones((2, 3, 1, 1), np.float32)
    w[1] = 0
    more = {"v": v, "s": np.float32(0.5), "z": np.int8(3)}
    assert cut(text, w=w, b=np.array([0, 0.75, 0], np.float32), **more).gone == {}
    done = cut(text, w=w, b=np.array([0, 0.8, 0], np.float32), **more)
    assert done.gone["w"] == {0: [1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [1, 1]


@pytest.mark.parametrize("group", [4, 2])
def test_quantized_depthwise_weights_are_cut_and_those_of_other_groups_pin(cut, group):
    text = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
        h = Conv(x, w)
        d = DequantizeLinear <axis = 0> (q, s)
        k = Conv <group = GROUP, pads = [1,1,1,1]> (h, d)
        y = Conv(k, v)}"""
    w, v = np.ones((4, 2, 1, 1), np.float32), np.ones((2, 4, 1, 1), np.float32)
    w[[1, 3]] = 0
    q = (np.arange(4 * 9 * 4 // group) % 5 - 2).reshape(4, -1, 3, 3).astype(np.int8)
    s = np.array([0.5, 1, 2, 4], np.float32)
    done = cut(text.replace("GROUP", str(group)), w=w, q=q, s=s, v=v)
    assert done.gone.get("q", {0: []}) == {0: [1, 3] if group == 4 else []}
    assert done.gone.get("s", {0: []}) == {0: [1, 3] if group == 4 else []}


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_older_opsets_are_known_as_well(cut, opset):
    """onnx's reference begins with the DequantizeLinear of opset 19."""
    arrays = model(per_channel=False)
    text = TEXT.replace(" <axis = 0>", "") if opset < 13 else TEXT
    done = cut(text, opset=opset, ort=True, **arrays)
    assert done.gone["w"] == {0: [1, 2]}
    assert done.gone["v"] == {1: [1, 2]}
