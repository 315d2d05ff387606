from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,H,W] y) {{
    h = Conv(x, w, b)
    d = {op}
    y = Conv(d, v)}}"""


def filters(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(channels * 2) % 3 + 1).reshape(channels, 2, 1, 1).astype(np.float32)
    weights[list(dead)] = 0
    return weights


def readers(channels: int, *dead: int) -> np.ndarray:
    weights = (np.arange(2 * channels) % 4 + 1).reshape(2, channels, 1, 1).astype(np.float32)
    weights[:, list(dead)] = 0
    return weights


# Of 12 channels with blocks of 2 x 2, output 1 is made of these.
SOURCES = {"DCR": [1, 4, 7, 10], "CRD": [4, 5, 6, 7]}


@pytest.mark.parametrize("mode", SOURCES)
def test_the_channels_of_all_pixels_go_together(cut, mode):
    text = TEXT.format(op=f'DepthToSpace <blocksize = 2, mode = "{mode}"> (h)')
    dead = SOURCES[mode]
    done = cut(text, w=filters(12, 0, *dead), b=np.zeros(12, np.float32), v=readers(3))
    assert done.gone["w"] == {0: dead} and done.gone["v"] == {1: [1]}


@pytest.mark.parametrize("mode", SOURCES)
def test_a_channel_that_nobody_reads_takes_all_its_pixels_along(cut, mode):
    text = TEXT.format(op=f'DepthToSpace <blocksize = 2, mode = "{mode}"> (h)')
    done = cut(text, w=filters(12), b=np.ones(12, np.float32), v=readers(3, 1))
    assert done.gone["w"] == {0: SOURCES[mode]}


@pytest.mark.parametrize("mode", SOURCES)
def test_pixels_with_different_constants_are_no_constant(cut, mode):
    text = TEXT.format(op=f'DepthToSpace <blocksize = 2, mode = "{mode}"> (h)')
    dead, b = SOURCES[mode], np.zeros(12, np.float32)
    b[dead] = [3, 3, 3, 4]
    assert cut(text, w=filters(12, *dead), b=b, v=readers(3)).gone == {}
    b[dead] = 3
    done = cut(text, w=filters(12, *dead), b=b, v=readers(3))
    assert done.gone["w"] == {0: dead} and len(done.after.graph[-1].inputs) == 3


def test_the_mode_is_dcr_where_none_is_given(cut):
    text = TEXT.format(op="DepthToSpace <blocksize = 2> (h)")
    done = cut(text, w=filters(12, *SOURCES["DCR"]), b=np.zeros(12, np.float32), v=readers(3))
    assert done.gone["v"] == {1: [1]}


def test_space_goes_to_depth_with_all_its_pixels(cut):
    """Channel 1 of 3 becomes channels 1, 4, 7, 10 of 12."""
    text = TEXT.format(op="SpaceToDepth <blocksize = 2> (h)")
    done = cut(text, ort=True, w=filters(3, 1), b=np.zeros(3, np.float32), v=readers(12))
    assert done.gone["w"] == {0: [1]} and done.gone["v"] == {1: [1, 4, 7, 10]}
    done = cut(text, ort=True, w=filters(3), b=np.ones(3, np.float32), v=readers(12, 1, 4, 7, 10))
    assert done.gone["w"] == {0: [1]}
    done = cut(text, ort=True, w=filters(3), b=np.ones(3, np.float32), v=readers(12, 1, 4, 7))
    assert done.gone == {}
