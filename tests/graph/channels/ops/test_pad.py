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


def test_channels_padded_with_a_number_are_constants_that_stay(cut):
    text = SHORTCUT.replace("Pad(a, pads)", "Pad(a, pads, fill)")
    v = np.ones((2, 6, 1, 1), np.float32)
    done = cut(text, wa=filters(3), wb=filters(6, 0), v=v, pads=CHANNELS, fill=np.float32(2))
    assert done.gone == {}


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


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_other_modes_pin(cut, mode):
    text = SPATIAL.replace("Pad(", f'Pad <mode = "{mode}"> (')
    arrays = {"b": np.zeros(3, np.float32), "v": np.ones((2, 3, 1, 1), np.float32)}
    around = pads((0, 0), (0, 0), (1, 1), (1, 1))
    done = cut(text, wa=filters(3, 0), pads=around, fill=np.float32(0), **arrays)
    assert done.gone == {}


def test_pads_that_crop_pin(parse, flow):
    v = np.ones((2, 2, 1, 1), np.float32)
    crop = pads((0, 0), (-1, 0), (0, 0), (0, 0))
    model = parse(SHORTCUT, wa=filters(3, 1), wb=filters(2, 0), v=v, pads=crop)
    assert plan_removal(flow(model)).indices == {}
