from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,A,B] y) {
    h = Conv(x, w, b)
    t = ConvTranspose (h, u, c)
    y = Conv(t, v)}"""


def ramp(*shape: int, dead: tuple[int, ...] = (), axis: int = 0) -> np.ndarray:
    array = (np.arange(np.prod(shape)) % 3 + 1).reshape(shape).astype(np.float32)
    np.moveaxis(array, axis, 0)[list(dead)] = 0
    return array


def weights(**other: np.ndarray) -> dict[str, np.ndarray]:
    """Four channels go in, five come out."""
    plain = {"w": ramp(4, 2, 1, 1), "b": np.zeros(4, np.float32), "u": ramp(4, 5, 3, 3)}
    return {**plain, "c": ramp(5), "v": ramp(2, 5, 1, 1), **other}


SHAPES = [
    "",
    "<pads = [1,1,1,1]>",
    "<strides = [2,2], output_padding = [1,1]>",
    "<strides = [2,2], pads = [1,0,0,1], dilations = [2,1]>",
]


@pytest.mark.parametrize("attributes", SHAPES)
def test_inputs_and_outputs_go(cut, attributes):
    text = TEXT.replace("ConvTranspose ", f"ConvTranspose {attributes} ")
    done = cut(
        text, **weights(w=ramp(4, 2, 1, 1, dead=(1,)), v=ramp(2, 5, 1, 1, dead=(0, 3), axis=1))
    )
    assert done.gone["u"] == {0: [1], 1: [0, 3]} and done.gone["c"] == {0: [0, 3]}


@pytest.mark.parametrize("attributes", [*SHAPES, '<auto_pad = "SAME_UPPER", strides = [2,2]>'])
def test_constants_overlap_so_they_are_merged_and_not_folded(cut, attributes):
    text = TEXT.replace("ConvTranspose ", f"ConvTranspose {attributes} ")
    b = np.array([0, 2, 8, 0], np.float32)
    done = cut(text, ort="auto" in attributes, **weights(w=ramp(4, 2, 1, 1, dead=(1, 2)), b=b))
    assert done.gone["w"] == {0: [1]} and done.gone["u"] == {0: [1]}
    assert done.array("c").tolist() == [1, 2, 3, 1, 2]


def test_an_output_without_weights_is_its_bias(cut):
    done = cut(TEXT, **weights(u=ramp(4, 5, 3, 3, dead=(1,), axis=1)))
    assert done.gone["u"] == {1: [1]} and done.gone["v"] == {1: [1]}


def test_an_output_of_constants_alone_is_no_constant(cut):
    """Only the constant input has weights for it, and kernels overlap."""
    u = ramp(4, 5, 3, 3)
    u[[0, 2, 3], 1] = 0
    b = np.array([0, 2, 0, 0], np.float32)
    done = cut(TEXT, **weights(w=ramp(4, 2, 1, 1, dead=(1,)), b=b, u=u))
    assert done.gone == {}


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_any_rank_is_cut(cut, shape):
    size, one, three = ",".join(map(str, shape)), [1] * len(shape), [3] * len(shape)
    text = TEXT.replace("4,4]", f"{size}]").replace("A,B]", ",".join("ABC"[: len(shape)]) + "]")
    done = cut(text, ort=True, w=ramp(4, 2, *one, dead=(2,)), b=np.zeros(4, np.float32),
               u=ramp(4, 5, *three), c=ramp(5), v=ramp(2, 5, *one))  # fmt: skip
    assert done.gone["u"] == {0: [2]}


def test_a_computed_bias_is_left_alone(cut):
    text = TEXT.replace("float[N,2,4,4] x", "float[N,2,4,4] x, float[5] d").replace("u, c", "u, d")
    arrays = weights(w=ramp(4, 2, 1, 1, dead=(1,)), v=ramp(2, 5, 1, 1, dead=(0,), axis=1))
    del arrays["c"]
    done = cut(text, **arrays)
    assert done.gone["u"] == {0: [1]}


def test_a_quantized_bias_is_cut_with_the_outputs(cut):
    text = TEXT.replace("t = ConvT", "d = DequantizeLinear(q, s)\nt = ConvT").replace(
        "u, c", "u, d"
    )
    arrays = weights(w=ramp(4, 2, 1, 1, dead=(1,)), v=ramp(2, 5, 1, 1, dead=(0,), axis=1))
    del arrays["c"]
    done = cut(text, q=np.arange(5, dtype=np.int32), s=np.float32(0.5), **arrays)
    assert done.gone["u"] == {0: [1], 1: [0]} and done.gone["q"] == {0: [0]}


def test_groups_pin(cut):
    text = TEXT.replace("ConvTranspose ", "ConvTranspose <group = 2> ")
    arrays = weights(w=ramp(4, 2, 1, 1, dead=(1, 3)), u=ramp(4, 2, 3, 3), c=ramp(4))
    assert cut(text, ort=True, **{**arrays, "v": ramp(2, 4, 1, 1)}).gone == {}


def test_weights_that_are_computed_pin(cut):
    text = TEXT.replace("float[N,2,4,4] x", "float[N,2,4,4] x, float[4,5,3,3] u")
    arrays = weights(w=ramp(4, 2, 1, 1, dead=(1, 3)))
    del arrays["u"]
    assert cut(text, **arrays).gone == {}
