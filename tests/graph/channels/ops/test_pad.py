from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from deploypipe.graph.channels.removal import plan_removal
from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

SHORTCUT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    a = Conv(x, wa)
    b = Conv(x, wb)
    p = Pad(a, pads)
    s = Add(p, b)
    y = Conv(s, v)}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = np.ones((channels, 2, 1, 1), np.float32)
    weights[list(dead)] = 0
    return weights


def pads(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array([[low for low, _ in pairs], [high for _, high in pairs]]).reshape(-1)


CHANNELS = pads((0, 0), (1, 2), (0, 0), (0, 0))


def test_padded_channels_of_a_shortcut_go_with_the_dead_branch(cut):
    """Channel 0 and 4 are padding, 2 is dead on both sides, 3 only in the shortcut."""
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(SHORTCUT, wa=filters(3, 1, 2), wb=filters(6, 0, 2, 4), v=v, pads=CHANNELS)
    assert done.gone["wb"] == {0: [0, 2, 4]}
    assert done.gone["p"] == {1: [0, 2, 4]} and done.gone["wa"] == {0: [1]}
    new = done.node("Pad").inputs[1]
    assert new.const_value.numpy().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_the_pads_can_be_rewritten_again_and_again(parse):
    """A second round of the passes pads less than the first did."""
    v = np.ones((2, 6, 1, 1), np.float32)
    model = parse(SHORTCUT, wa=filters(3), wb=filters(6, 0), v=v, pads=CHANNELS)
    assert DropDeadChannels()(model).modified
    wb = model.graph.initializers["wb"]
    array = wb.const_value.numpy().copy()
    array[-1] = 0
    wb.const_value = ir.tensor(array, name="wb")
    assert DropDeadChannels()(model).modified
    pad = next(node for node in model.graph if node.op_type == "Pad")
    assert pad.inputs[1].const_value.numpy().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_pads_with_axes_are_read(cut):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad(a, pads, , axes)")
    arrays = {"pads": np.array([1, 2]), "axes": np.array([-3])}
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(text, wa=filters(3), wb=filters(6, 5), v=v, **arrays)
    assert done.gone["wb"] == {0: [5]}
    assert done.node("Pad").inputs[1].const_value.numpy().tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


def test_channels_padded_with_a_number_go_into_the_next_bias(cut):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad(a, pads, fill)")
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(text, wa=filters(3), wb=filters(6, 0), v=v, pads=CHANNELS, fill=np.float32(2))
    assert done.gone["wb"] == {0: [0]} and done.gone["p"] == {1: [0]}
    assert done.constant("Pad", 1) == [0, 0, 0, 0, 0, 2, 0, 0]
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [2, 2]


def test_an_old_pad_keeps_its_sizes_in_an_attribute(cut):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad <pads = [0,1,0,0,0,2,0,0]> (a)")
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(text, opset=10, wa=filters(3), wb=filters(6, 0, 5), v=v)
    assert done.gone["p"] == {1: [0, 5]}
    assert list(done.node("Pad").attributes["pads"].as_ints()) == [0, 0, 0, 0, 0, 1, 0, 0]


def test_pads_that_are_computed_pin(parse, flow):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad(a, q)")
    text = text.replace("float[N,2,4,4] x", "float[N,2,4,4] x, int64[8] q")
    v = np.ones((2, 6, 1, 1), np.float32)
    model = parse(text, wa=filters(3, 1), wb=filters(6, 2), v=v)
    assert plan_removal(flow(model)).indices == {}


def test_a_fill_value_that_is_computed_pins(cut):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad(a, pads, f)")
    text = text.replace("float[N,2,4,4] x", "float[N,2,4,4] x, float f")
    v = np.ones((2, 6, 1, 1), np.float32)
    assert cut(text, wa=filters(3, 1), wb=filters(6, 2), v=v, pads=CHANNELS).gone == {}


SPATIAL = """g (float[N,2,4,4] x) => (float[N,2,6,6] y) {
    a = Conv(x, wa, b)
    p = Pad(a, pads, fill)
    r = Relu(p)
    y = Conv(r, v)}"""


@pytest.mark.parametrize(("fill", "gone"), [(0, [0]), (-1, [1]), (2, [])])
def test_spatial_padding_keeps_a_constant_only_if_it_pads_with_it(cut, fill, gone):
    """Channel 0 is 0, channel 1 is -1, channel 2 is live."""
    arrays = {"b": np.array([0, -1, 5], np.float32), "v": np.ones((2, 3, 1, 1), np.float32)}
    around = pads((0, 0), (0, 0), (1, 1), (1, 1))
    done = cut(SPATIAL, wa=filters(3, 0, 1), pads=around, fill=np.float32(fill), **arrays)
    assert done.gone.get("wa", {0: []}) == {0: gone}


MODES = ["reflect", "edge", "wrap"]


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_repeat_what_is_there_so_constants_pass(cut, mode):
    text = SPATIAL.replace("Pad(", f'Pad <mode = "{mode}"> (')
    arrays = {"b": np.array([0, 5, 1], np.float32), "v": np.ones((2, 3, 1, 1), np.float32)}
    around = pads((0, 0), (0, 0), (1, 1), (1, 1))
    done = cut(text, wa=filters(3, 0, 1), pads=around, fill=np.float32(9), ort=True, **arrays)
    assert done.gone["wa"] == {0: [0, 1]}
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [5, 5]


@pytest.mark.parametrize("mode", MODES)
def test_channels_that_are_repeated_stay(cut, mode):
    text = SHORTCUT.replace("Pad(", f'Pad <mode = "{mode}"> (')
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(text, wa=filters(4, 1), wb=filters(6, 2), v=v, ort=True,
               pads=pads((0, 0), (1, 1), (0, 0), (0, 0)))  # fmt: skip
    assert done.gone == {}


def test_pads_that_crop_pin(parse, flow):
    v = np.ones((2, 2, 1, 1), np.float32)
    crop = pads((0, 0), (-1, 0), (0, 0), (0, 0))
    model = parse(SHORTCUT, wa=filters(3, 1), wb=filters(2, 0), v=v, pads=crop)
    assert plan_removal(flow(model)).indices == {}
