from __future__ import annotations

import numpy as np
import pytest

TEXT = """g (float[N,2,4,4] x) => (float[N,2,4,4] y) {
    h = Conv(x, w)
    s = Shape(h)
    READER
    m = Mul(h, f)
    y = Conv(m, v)}"""


def weights(*dead: int) -> dict[str, np.ndarray]:
    w = np.ones((4, 2, 1, 1), np.float32)
    w[list(dead)] = 0
    return {"w": w, "v": np.ones((2, 4, 1, 1), np.float32)}


OTHERS = {
    "one pixel axis": ("i = Gather(s, k)", 2),
    "from the end": ("i = Gather(s, k)", -1),
    "a window": ("i = Slice(s, k, four)", 2),
    "a backward window": ("i = Slice(s, k, one, zero, back)", 3),
}
CHANNELS = {
    "the channels": ("i = Gather(s, k)", 1),
    "from the end": ("i = Gather(s, k)", -3),
    "a window": ("i = Slice(s, k, four)", 1),
    "all of them": ("i0 = Identity(s)\ni = Gather(i0, k)", 3),
}


def run(cut, reader: str, number: int):
    shape = np.array([number]) if "Slice" in reader else np.array(number)
    more = {"four": np.array([4]), "one": np.array([1]), "zero": np.array([0])}
    more = {n: a for n, a in {**more, "back": np.array([-1])}.items() if n in reader}
    text = TEXT.replace(
        "READER", f"{reader}\np = ReduceSum <keepdims = 0> (i)\nf = Cast <to = 1> (p)"
    )
    return cut(text, k=shape, **more, **weights(1))


@pytest.mark.parametrize("name", OTHERS)
def test_sizes_that_nobody_asks_for_may_change(cut, name):
    assert run(cut, *OTHERS[name]).gone["w"] == {0: [1]}


@pytest.mark.parametrize("name", CHANNELS)
def test_sizes_that_somebody_asks_for_stay(cut, name):
    assert run(cut, *CHANNELS[name]).gone == {}


@pytest.mark.parametrize(("bounds", "gone"), [("start = 2", True), ("end = 1", True),
                                              ("start = 1, end = 2", False),
                                              ("start = -3", False), ("start = -2", True)])  # fmt: skip
def test_a_part_of_the_shape_asks_for_that_part(cut, bounds, gone):
    text = TEXT.replace("Shape(h)", f"Shape <{bounds}> (h)")
    text = text.replace("READER", "p = ReduceSum <keepdims = 0> (s)\nf = Cast <to = 1> (p)")
    done = cut(text, **weights(1))
    assert done.gone.get("w", {0: []}) == {0: [1] if gone else []}


def test_a_shape_that_leaves_the_graph_asks_for_all(cut):
    text = TEXT.replace("READER\n", "").replace("m = Mul(h, f)\n", "").replace("(m, v", "(h, v")
    text = text.replace("y) {", "y, int64[4] s) {")
    assert cut(text, **weights(1)).gone == {}


def test_a_shape_that_nobody_reads_asks_for_nothing(cut):
    text = TEXT.replace("READER\n", "").replace("m = Mul(h, f)\n", "").replace("(m, v", "(h, v")
    assert cut(text, **weights(1)).gone["w"] == {0: [1]}


def test_what_is_asked_for_its_shape_alone_need_not_be_computed(cut):
    """Nothing reads channel 2, but the size of its pixels does."""
    arrays = weights()
    arrays["v"][:, 2] = 0
    text = TEXT.replace("READER", "i = Gather(s, k)\nf = Cast <to = 1> (i)")
    done = cut(text, k=np.array(3), **arrays)
    assert done.gone["w"] == {0: [2]}
