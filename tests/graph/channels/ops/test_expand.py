from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[2,2,1,1] x) => (float[2,2,A,B] y) {{
    h = Conv(x, w)
    e = {op}
    y = Conv(e, v)}}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


V = (np.arange(8) % 4 + 1).reshape(2, 4, 1, 1).astype(np.float32)


@pytest.mark.parametrize("shape", [[2, 4, 3, 5], [1, 1, 3, 5], [4, 3, 5], [3, 5], [1]])
def test_channels_pass_where_pixels_are_stretched(cut, shape):
    done = cut(TEXT.format(op="Expand(h, to)"), w=filters(4, 1), v=V, to=np.array(shape))
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1]}
    assert done.constant("Expand", 1) == [1 if size == 4 else size for size in shape]


@pytest.mark.parametrize("repeats", [[1, 1, 3, 5], [2, 1, 1, 1]])
def test_channels_pass_where_pixels_or_samples_are_repeated(cut, repeats):
    text = TEXT.format(op="Tile(h, to)").replace("(float[2,2,A", "(float[M,2,A")
    done = cut(text, w=filters(4, 1), v=V, to=np.array(repeats))
    assert done.gone["w"] == {0: [1]} and done.constant("Tile", 1) == repeats


def test_constants_pass(cut):
    text = TEXT.format(op="Expand(h, to)").replace("Conv(x, w)", "Conv(x, w, b)")
    b = np.array([0, 5, 0, 0], np.float32)
    done = cut(text, w=filters(4, 1), b=b, v=V, to=np.array([1, 1, 3, 5]))
    assert done.after.graph[-1].inputs[2].const_value.numpy().tolist() == [10, 10]


def test_repeated_channels_stay(cut):
    text = TEXT.format(op="Tile(h, to)")
    assert cut(text, w=filters(2, 1), v=V, to=np.array([1, 2, 1, 1])).gone == {}


def test_one_channel_stretched_over_many_stays(cut):
    text = TEXT.format(op="Expand(h, to)")
    assert cut(text, w=filters(1), v=V, to=np.array([1, 4, 1, 1])).gone == {}


@pytest.mark.parametrize("op", ["Expand", "Tile"])
def test_a_shape_that_is_computed_pins(parse, flow, op):
    text = TEXT.format(op=f"{op}(h, q)").replace("1,1] x", "1,1] x, int64[4] q")
    found = flow(parse(text.replace("[2,2,A,B]", "[A,B,C,D]"), w=filters(4, 1), v=V))
    assert any("shape that is computed" in why for why in found.cells.pins.values())
