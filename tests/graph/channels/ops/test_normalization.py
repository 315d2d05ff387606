from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {{
    h = Conv(x, w, b)
    n = {op}
    y = Conv(n, v)}}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


def weights(channels: int, *dead: int, b: dict[int, float] | None = None, **other: np.ndarray):
    """Live filters, scales of 1, 2, 3 ... and no shift, but for what is given."""
    bias = np.zeros(channels, np.float32)
    for place, number in (b or {}).items():
        bias[place] = number
    plain = {"scale": np.arange(1, channels + 1), "shift": np.zeros(channels)}
    plain |= {"v": np.ones((2, channels, 1, 1))} | other
    arrays = {name: np.asarray(array, np.float32) for name, array in plain.items()}
    return {"w": filters(channels, *dead), "b": bias, **arrays}


INSTANCE = TEXT.format(op="InstanceNormalization(h, scale, shift)")


def test_a_zero_channel_is_its_shift_behind_an_instance_norm(cut):
    done = cut(INSTANCE, exact=False, **weights(4, 1, 2, shift=[0, 5, 0, 0]))
    assert done.gone["w"] == done.gone["scale"] == done.gone["shift"] == {0: [1, 2]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [5, 5]


def test_another_constant_is_its_shift_only_up_to_the_rounding_of_its_mean(cut):
    assert cut(INSTANCE, exact=False, **weights(4, 1, b={1: 0.1})).gone == {}


def test_a_channel_with_a_scale_of_zero_needs_nothing(cut):
    text = INSTANCE.replace("h = Conv(x, w, b)", "a = Conv(x, u)\nh = Conv(a, w, b)")
    arrays = weights(3, scale=[1, 0, 1], shift=[0, 5, 0])
    arrays["w"], u = np.ones((3, 4, 1, 1), np.float32), np.ones((4, 2, 1, 1), np.float32)
    arrays["w"][[0, 2], 3] = 0
    done = cut(text, exact=False, u=u, **arrays)
    assert done.gone["w"] == {0: [1], 1: [3]} and done.gone["u"] == {0: [3]}


def test_channels_that_nobody_reads_leave_an_instance_norm(cut):
    v = np.ones((2, 3, 1, 1))
    v[:, 0] = 0
    assert cut(INSTANCE, exact=False, **weights(3, v=v)).gone["scale"] == {0: [0]}


@pytest.mark.parametrize("op", ["InstanceNormalization", "GroupNormalization <num_groups = 2>"])
def test_a_computed_scale_pins(cut, op):
    text = TEXT.format(op=f"{op} (h, s, shift)").replace("4,4] x", "4,4] x, float[4] s", 1)
    arrays = weights(4, 1)
    del arrays["scale"]
    assert cut(text, opset=21, exact=False, **arrays).gone == {}


@pytest.mark.parametrize("op", ["InstanceNormalization", "GroupNormalization <num_groups = 5>"])
def test_an_unknown_number_of_channels_pins(cut, op):
    text = f"""g (float[N,H,4,4] x) => (float[N,2,4,4] y) {{
        n = {op} (x, scale, shift)
        y = Conv(n, v)}}"""
    arrays = {k: v for k, v in weights(5).items() if k not in ("w", "b")}
    assert cut(text, opset=21, exact=False, **arrays).gone == {}


BARE = TEXT.format(op="GroupNormalization <num_groups = 3> (h, scale, shift)")
GROUPED = BARE.replace("y) {", "y) <float[N,6,4,4] n> {")
"""The checker wants it told, for onnx's own shape inference does not know this op."""


def test_a_group_norm_passes_its_shape_on(cut):
    assert cut(BARE, opset=21, exact=False, **weights(6, 2, 3)).gone["w"] == {0: [2, 3]}


def test_a_group_goes_whole_or_not_at_all(cut):
    """Group 1 is all zero; of group 0 one channel is, of group 2 one is not read."""
    v = np.ones((2, 6, 1, 1))
    v[:, 5] = 0
    done = cut(GROUPED, opset=21, exact=False, **weights(6, 0, 2, 3, v=v))
    assert done.gone["w"] == done.gone["scale"] == {0: [2, 3]}
    assert done.node("GroupNormalization").attributes["num_groups"].as_int() == 2


def test_a_group_of_zeros_is_its_shift(cut):
    arrays = weights(6, 2, 3, shift=[0, 0, 4, 5, 0, 0])
    done = cut(GROUPED, opset=21, exact=False, **arrays)
    assert done.gone["w"] == {0: [2, 3]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [9, 9]


def test_a_group_of_constants_is_live(cut):
    assert cut(GROUPED, opset=21, exact=False, **weights(6, 2, 3, b={2: 1, 3: 2})).gone == {}


def test_a_group_that_nobody_reads_goes(cut):
    v = np.ones((2, 6, 1, 1))
    v[:, 4:] = 0
    assert cut(GROUPED, opset=21, exact=False, **weights(6, v=v)).gone["w"] == {0: [4, 5]}


def test_a_channel_with_a_scale_of_zero_is_still_part_of_its_groups_mean(cut):
    assert cut(GROUPED, opset=21, exact=False, **weights(6, scale=[1, 0, 1, 1, 1, 1])).gone == {}


def test_a_group_with_scales_of_zero_needs_nothing(cut):
    done = cut(GROUPED, opset=21, exact=False, **weights(6, scale=[0, 0, 1, 1, 1, 1]))
    assert done.gone["w"] == {0: [0, 1]}


def test_scales_of_groups_go_with_their_group(cut):
    """As before opset 21: one scale and one shift a group."""
    arrays = weights(6, 2, 3, scale=[1, 2, 3], shift=[0, 5, 0])
    with pytest.MonkeyPatch.context() as patch:  # the checker calls the old op deprecated
        patch.setattr("onnx.checker.check_model", lambda *_, **__: None)
        done = cut(GROUPED, opset=18, exact=False, ort=True, **arrays)
    assert done.gone["w"] == {0: [2, 3]} and done.gone["scale"] == done.gone["shift"] == {0: [1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [10, 10]


@pytest.mark.parametrize("groups", [1, 6])
def test_one_group_or_one_channel_a_group(cut, groups):
    text = GROUPED.replace("num_groups = 3", f"num_groups = {groups}")
    done = cut(text, opset=21, exact=False, **weights(6, 2))
    assert done.gone.get("w", {0: []}) == {0: [2] if groups == 6 else []}


LAYER = """g (float[N,3,4] x) => (float[N,3,2] y) {
    h = MatMul(x, w)
    n = LayerNormalization(h, scale, shift)
    y = MatMul(n, v)}"""


def test_a_zero_channel_counts_in_the_mean_of_a_layer_norm(cut):
    w, v = np.ones((4, 5), np.float32), np.ones((5, 2), np.float32)
    w[:, 1] = 0
    v[3] = 0
    more = {"scale": np.arange(5, dtype=np.float32), "shift": np.zeros(5, np.float32)}
    assert cut(LAYER, exact=False, w=w, v=v, **more).gone == {}
