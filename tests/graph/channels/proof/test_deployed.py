"""A removal as it runs, at the size that was asked for and at another."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from deploypipe.core.errors import UserError
from deploypipe.graph.channels.proof.deployed import deployed
from deploypipe.graph.channels.proof.finding import told
from deploypipe.graph.channels.proof.sizes import odd_feeds, open_feeds, resized
from deploypipe.graph.files import to_bytes

BODY = "c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) y = Conv <pads = [1,1,1,1]> (r, v)"
KEEP = [0, 2, 3, 5]


@pytest.fixture
def explained(run):
    """ONNX Runtime, whose errors are the user's."""

    def execute(model, feeds):
        try:
            session = onnxruntime.InferenceSession(to_bytes(model))
            names = [out.name for out in session.get_outputs()]
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            raise UserError(str(error)) from error

    return execute


def arrays(wrong: bool = False, cut: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((6, 3, 3, 3)), rng.standard_normal((2, 6, 3, 3))
    w[[1, 4]] = 0
    if cut:
        w, v = w[KEEP], v[:, [0, 1, 3, 5] if wrong else KEEP]
    return {"w": w.astype(np.float32), "v": v.astype(np.float32)}


def both(parse, size: str, wrong: bool = False, body: str = BODY, **more: np.ndarray):
    text = f"g (float[N,3,{size}] x) => (float[N,2,{size}] y) {{ {body} }}"
    return parse(text, **arrays(), **more), parse(text, **arrays(wrong, cut=True), **more)


def feeds_of(*shape: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def test_where_sizes_are_open_the_second_is_odd(parse, explained):
    first, second = deployed(*both(parse, "H,W"), explained, feeds_of(2, 3, 8, 8))
    assert first.ok
    assert second.ok
    assert told(first)["inputs"] == {"x": [2, 3, 8, 8]}
    assert told(second)["inputs"] == {"x": [1, 3, 33, 47]}


def test_fixed_inputs_are_declared_anew_for_an_odd_size(parse, explained):
    first, second = deployed(*both(parse, "16,24"), explained, feeds_of(2, 3, 16, 24))
    assert first.ok
    assert second.ok
    assert told(second)["inputs"] == {"x": [2, 3, 15, 19]}


@pytest.mark.parametrize("size", ["H,W", "16,24"])
def test_a_wrong_cut_is_refuted_at_the_size_that_is_asked_for(parse, explained, size):
    first, second = deployed(*both(parse, size, wrong=True), explained, feeds_of(1, 3, 16, 24))
    assert first.ok is False
    assert second.ok is (False if size == "H,W" else None)


def test_a_model_that_runs_at_no_other_size_says_why(parse, explained):
    body = BODY.replace("y = Conv <pads = [1,1,1,1]> (r, v)", "") + (
        " k = Conv <pads = [1,1,1,1]> (r, v) f = Reshape(k, flat) y = Reshape(f, image)"
    )
    shapes = {"flat": np.array([0, 2 * 16 * 24]), "image": np.array([0, 2, 16, 24])}
    models = both(parse, "16,24", body=body, **shapes)
    first, second = deployed(*models, explained, feeds_of(1, 3, 16, 24))
    assert first.ok
    assert second.ok is None
    assert "no second size: the model fixes its inputs, and at x [1, " in second.why


def test_small_inputs_have_no_second_size(parse, explained):
    _, second = deployed(*both(parse, "5,5"), explained, feeds_of(1, 3, 5, 5))
    assert second.ok is None
    assert "none of them is large" in second.why


def test_what_does_not_run_after_the_cut_is_refuted(parse, explained):
    before, after = both(parse, "16,24")
    after.graph.initializers["v"].const_value = before.graph.initializers["v"].const_value
    first, _ = deployed(before, after, explained, feeds_of(1, 3, 16, 24))
    assert first.ok is False
    assert first.why.startswith("it does not run")


def test_other_sizes_are_odd_and_channels_stay():
    image, tokens = np.zeros((2, 3, 224, 224), np.float32), np.ones((1, 24), np.int64)
    assert next(one["image"].shape for one in odd_feeds({"image": image})) == (2, 3, 197, 195)
    texts = list(odd_feeds({"ids": tokens, "mask": tokens}))
    assert [one["ids"].shape for one in texts] == [one["mask"].shape for one in texts] == [(1, 21)]
    assert texts[0]["ids"].dtype == np.int64
    assert texts[0]["ids"].min() == 1


def test_open_sizes_are_drawn_by_their_symbols(parse):
    model, _ = both(parse, "H,W")
    shapes = [feeds["x"].shape for feeds in open_feeds(model)]
    assert shapes[0][2:] == (33, 47)
    assert len(shapes) == 4


def test_a_resized_copy_leaves_the_model_as_it_was(parse):
    model, _ = both(parse, "16,24")
    content = to_bytes(model)
    copy = resized(model, feeds_of(1, 3, 15, 19))
    assert list(copy.graph.inputs[0].shape) == [1, 3, 15, 19]
    assert to_bytes(model) == content
