from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,3,4] x) => (float[N,3,2] y) {
    h = MatMul(x, w)
    n = RMSNormalization <epsilon = 0.5> (h, scale)
    y = MatMul(n, v)}"""


def weights(*dead: int, **other: np.ndarray) -> dict[str, np.ndarray]:
    w, v = (np.arange(24) % 5 - 1.5).reshape(4, 6), (np.arange(12) % 7 - 2.5).reshape(6, 2)
    w[:, list(dead)] = 0
    arrays = {"w": w, "scale": np.arange(1, 7), "v": v, **other}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize("dead", [(0,), (1, 4), (0, 1, 2, 3, 4)])
def test_zero_channels_go_with_a_new_scale_and_epsilon(cut, dead):
    """K of N channels: epsilon * N / K under the root, scale * sqrt(N / K) before it."""
    done = cut(TEXT, opset=23, exact=False, **weights(*dead))
    assert done.gone["w"] == {1: list(dead)} and done.gone["scale"] == {0: list(dead)}
    left = 6 - len(dead)
    epsilon = done.node("RMSNormalization").attributes["epsilon"].as_float()
    assert epsilon == pytest.approx(0.5 * 6 / left)
    stay = np.delete(np.arange(1, 7), dead)
    np.testing.assert_allclose(done.array("scale"), stay * np.sqrt(6 / left), rtol=1e-6)


def test_the_narrow_norm_is_the_wide_one_in_double_precision(parse, evaluate, cut):
    text = TEXT.replace("float[", "double[")
    arrays = {name: array.astype(np.float64) for name, array in weights(1, 4).items()}
    done = cut(text, opset=23, exact=False, **arrays)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 4))}
    a, b = (evaluate(model, feeds)["y"] for model in (done.before, done.after))
    np.testing.assert_allclose(b, a, rtol=1e-6)  # epsilon is a float32


def test_the_runtimes_own_op_is_cut_too(cut):
    text = TEXT.replace("RMSNormalization", "SimplifiedLayerNormalization")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx.checker.check_model", lambda *_, **__: None)
        text = text.replace("y) {", "y) <float[N,3,6] n> {")
        done = cut(text, opset=17, exact=False, ort=True, **weights(1, 4))
    assert done.gone["w"] == {1: [1, 4]}


def test_a_second_cut_goes_on_from_the_first(cut, parse):
    from deploypipe.graph.passes.drop_dead_channels import DropDeadChannels

    done = cut(TEXT, opset=23, exact=False, **weights(1))
    assert not DropDeadChannels()(done.after).modified


def test_a_channel_with_a_scale_of_zero_stays_in_the_sum(cut):
    """Its output is zero and its weights go nowhere, but its square is under the root."""
    assert cut(TEXT, opset=23, exact=False, **weights(scale=[1, 0, 1, 1, 1, 1])).gone == {}


def test_a_channel_that_nobody_reads_stays_in_the_sum(cut):
    v = weights()["v"]
    v[2] = 0
    assert cut(TEXT, opset=23, exact=False, **weights(v=v)).gone == {}


def test_constants_stay(cut):
    text = TEXT.replace("n = R", "k = Add(h, b)\nn = R").replace("(h, scale", "(k, scale")
    b = np.array([0, 3, 0, 0, 0, 0])
    assert cut(text, opset=23, exact=False, **weights(1, b=b)).gone == {}


@pytest.mark.parametrize("shape", [(1,), (1, 6), (3, 6)])
def test_scales_of_other_shapes_are_never_wrong(cut, shape):
    scale = np.arange(1, np.prod(shape) + 1).reshape(shape)
    axis = "axis = -2, " if shape == (3, 6) else ""
    text = TEXT.replace("<epsilon", f"<{axis}epsilon")
    cut(text, opset=23, exact=False, **weights(1, scale=scale))


def test_an_unknown_number_of_channels_pins(cut):
    text = """g (float[N,3,H] x) => (float[N,3,2] y) {
        n = RMSNormalization(x, scale)
        y = MatMul(n, v)}"""
    scale, v = np.array([1, 0, 1, 1, 1]), np.ones((5, 2))
    arrays = {"scale": scale.astype(np.float32), "v": v.astype(np.float32)}
    assert cut(text, opset=23, exact=False, **arrays).gone == {}


def test_a_norm_over_several_axes_pins(cut):
    text = TEXT.replace("<epsilon", "<axis = 1, epsilon")
    assert cut(text, opset=23, exact=False, **weights(1, scale=np.ones((3, 6)))).gone == {}


def test_a_scale_that_two_norms_share_is_parted(cut):
    text = TEXT.replace(
        "y = MatMul(n, v)",
        """k = MatMul(x, w2)
        m = RMSNormalization(k, scale)
        s = Add(n, m)
        y = MatMul(s, v)""",
    )
    done = cut(text, opset=23, exact=False, **weights(1, 4, w2=weights(1)["w"]))
    assert done.gone["w"] == done.gone["w2"] == {1: [1]}


def test_a_computed_scale_pins(cut):
    text = TEXT.replace("float[N,3,4] x", "float[N,3,4] x, float[6] s").replace(
        "(h, scale", "(h, s"
    )
    arrays = weights(1)
    del arrays["scale"]
    assert cut(text, opset=23, exact=False, **arrays).gone == {}
